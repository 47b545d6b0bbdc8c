//! The lists that S3 gives, page by page, and bounded: a storage can go on for ever.

use super::client::{Client, TALK};
use super::document::{self, NS};
use super::store::found;
use crate::backup::names::time_of_name;
use crate::base::Fault;
use anyhow::Result;
use chrono::{DateTime, Utc};
use instant_xml::FromXml;
use rusty_s3::S3Action;
use rusty_s3::actions::{CompleteMultipartUploadResponse, CreateMultipartUpload};
use rusty_s3::actions::{ListObjectsV2, ListParts};

/// The pages of a list that are read, each of a thousand names for nearly every storage.
const MOST_PAGES: u32 = 1000;
/// The archives of one list, which are asked for one by one.
const MOST_LISTED: usize = 100_000;

/// An upload that was begun and neither finished nor given up.
#[derive(Clone, Debug)]
pub(super) struct Upload {
    /// The archive's file name.
    pub(super) name: String,
    pub(super) id: String,
    pub(super) begun: Option<DateTime<Utc>>,
}

/// A part that has arrived.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) number: u16,
    pub(super) bytes: u64,
    /// As the storage says it.
    pub(super) etag: String,
}

#[derive(FromXml)]
#[xml(rename = "ListMultipartUploadsResult", ns(NS))]
struct Uploads {
    uploads: Vec<Listed>,
    #[xml(rename = "IsTruncated")]
    more: Option<bool>,
    #[xml(rename = "NextKeyMarker")]
    next_key: Option<String>,
    #[xml(rename = "NextUploadIdMarker")]
    next_id: Option<String>,
}

#[derive(FromXml)]
#[xml(rename = "Upload", ns(NS))]
struct Listed {
    #[xml(rename = "Key")]
    key: String,
    #[xml(rename = "UploadId")]
    id: String,
    #[xml(rename = "Initiated")]
    begun: Option<String>,
}

/// What keeps a list from having no end.
struct Pages {
    left: u32,
    /// The token of the present page.
    token: Option<String>,
}

impl Pages {
    fn new() -> Pages {
        Pages { left: MOST_PAGES, token: None }
    }

    /// Goes on to the page of this token. False: there is none.
    fn next(&mut self, token: Option<String>) -> Result<bool> {
        let Some(token) = token else { return Ok(false) };
        self.left -= 1;
        if self.left == 0 || self.token.as_ref() == Some(&token) {
            return Err(endless());
        }
        self.token = Some(token);
        Ok(true)
    }
}

fn endless() -> anyhow::Error {
    Fault::critical("the list of the storage has no end")
        .hint("is the endpoint right? a bucket or prefix of its own keeps the list short")
        .into()
}

fn need_few(count: usize) -> Result<()> {
    if count <= MOST_LISTED { Ok(()) } else { Err(endless()) }
}

impl Client {
    /// The file names of the archives that are there.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        let mut pages = Pages::new();
        loop {
            let mut list = self.bucket.list_objects_v2(Some(&self.credentials));
            list.with_prefix(self.prefix.as_str());
            if let Some(token) = &pages.token {
                list.with_continuation_token(token.as_str());
            }
            let answer = found(self.send(list, &[], TALK)?)?;
            let page = document::read(answer.text()?, ListObjectsV2::parse_response).map_err(|why| {
                Fault::critical(format!("the storage answered with a list that cannot be read: {why:#}"))
                    .hint("try again later; is the endpoint in [backup.s3] that of the storage itself?")
            })?;
            names.extend(page.contents.iter().filter_map(|object| self.name(&object.key)));
            need_few(names.len())?;
            if !pages.next(page.next_continuation_token)? {
                return Ok(names);
            }
        }
    }

    /// The archive's name in a key, if it is one that we would make.
    fn name(&self, key: &str) -> Option<String> {
        let name = key.strip_prefix(self.prefix.as_str())?;
        time_of_name(name).map(|_| name.to_owned())
    }

    /// The parts of an upload that have arrived. None: there is no such upload any more.
    pub(super) fn parts(&self, name: &str, id: &str) -> Result<Option<Vec<Part>>> {
        let key = self.key(name);
        let mut parts = Vec::new();
        let mut after = None;
        loop {
            let mut list = self.bucket.list_parts(Some(&self.credentials), &key, id);
            if let Some(after) = after {
                list.set_part_number_marker(after);
            }
            let answer = self.send(list, &[], TALK)?;
            if answer.is_missing() {
                return Ok(None);
            }
            // Some servers give the document the other name. One that cannot be read at all costs
            // only that all parts are sent again.
            let text = answer.text()?.replace("ListPartsResponse", "ListPartsResult");
            let page = document::read(&text, ListParts::parse_response);
            let Ok(page) = page else { return Ok(Some(Vec::new())) };
            parts.extend(page.parts.into_iter().map(|part| Part {
                number: part.number,
                bytes: part.size,
                etag: part.etag,
            }));
            // A marker that does not move on would go round for ever.
            match page.next_part_number_marker {
                Some(next) if after.is_none_or(|after| next > after) => after = Some(next),
                _ => return Ok(Some(parts)),
            }
        }
    }

    /// Uploads of archives of ours that are not finished. None: this storage cannot tell.
    pub(super) fn uploads(&self) -> Result<Option<Vec<Upload>>> {
        let mut uploads = Vec::new();
        let mut after: Option<(String, String)> = None;
        let mut pages = Pages::new();
        loop {
            // The empty key is the bucket itself: the library has no such action of its own.
            let mut list = self.bucket.get_object(Some(&self.credentials), "");
            list.query_mut().insert("uploads", "");
            list.query_mut().insert("prefix", self.prefix.as_str());
            if let Some((key, id)) = after.take() {
                list.query_mut().insert("key-marker", key);
                list.query_mut().insert("upload-id-marker", id);
            }
            let Ok(answer) = self.send(list, &[], TALK).and_then(found) else { return Ok(None) };
            let page = document::read(answer.text()?, |text| instant_xml::from_str::<Uploads>(text));
            let Ok(page) = page else { return Ok(None) };
            let last = page.uploads.last().map(|upload| (upload.key.clone(), upload.id.clone()));
            uploads.extend(page.uploads.into_iter().filter_map(|upload| {
                let begun = upload.begun.and_then(|at| DateTime::parse_from_rfc3339(&at).ok());
                let begun = begun.map(|at| at.with_timezone(&Utc));
                Some(Upload { name: self.name(&upload.key)?, id: upload.id, begun })
            }));
            let next = page.next_key.zip(page.next_id);
            need_few(uploads.len())?;
            after = next.or(last).filter(|_| page.more == Some(true));
            if !pages.next(after.as_ref().map(|(key, id)| format!("{key}\n{id}")))? {
                return Ok(Some(uploads));
            }
        }
    }
}

/// Reads an answer of a storage as each of the lists: for the fuzz targets.
#[doc(hidden)]
pub fn parse_lists(text: &str) {
    let _ = document::read(text, ListObjectsV2::parse_response);
    let _ = document::read(text, ListParts::parse_response);
    let _ = document::read(text, |text| instant_xml::from_str::<Uploads>(text));
    let _ = document::read(text, CreateMultipartUpload::parse_response);
    let _ = document::read(text, CompleteMultipartUploadResponse::parse);
}
