//! The verbs of S3 that a copy needs, each one request (a list may take several).

use super::client::{Answer, Client, TALK};
use super::label::Label;
use crate::backup::names::{ENCRYPTED, time_of_name};
use crate::base::Fault;
use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Utc};
use instant_xml::FromXml;
use rusty_s3::S3Action;
use rusty_s3::actions::{CompleteMultipartUpload, CompleteMultipartUploadResponse};
use rusty_s3::actions::{CreateMultipartUpload, ListObjectsV2, ListParts};

/// The namespace of answers.
const NS: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// Bytes of one request.
const PIECE: u64 = 8 << 20;
/// The pages of a list that are read, each of a thousand names for nearly every storage.
const MOST_PAGES: u32 = 1000;
/// The archives of one list, which are asked for one by one.
const MOST_LISTED: usize = 100_000;

/// What the storage says of one object.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) bytes: u64,
    /// As the storage says it.
    pub(super) etag: String,
    /// None: it is not of this program.
    pub(super) label: Option<Label>,
}

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

fn content_type(name: &str) -> &'static str {
    if name.ends_with(ENCRYPTED) { "application/octet-stream" } else { "application/gzip" }
}

/// Whether an ETag proves this MD5. One that does not may be anything: it is kept as it is, for the
/// storage, and compared with nothing.
pub(super) fn proves(etag: &str, md5: &str) -> bool {
    let bare = etag.strip_prefix('"').and_then(|etag| etag.strip_suffix('"')).unwrap_or(etag);
    bare.eq_ignore_ascii_case(md5)
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

fn found(answer: Answer) -> Result<Answer> {
    if answer.is_missing() {
        return Err(Fault::critical("the storage has no such thing any more").into());
    }
    Ok(answer)
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
            let page = ListObjectsV2::parse_response(answer.text()?)
                .context("the storage answered with a list that cannot be read")?;
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

    /// What is known of one archive there. None: it is not there.
    pub(super) fn head(&self, name: &str) -> Result<Option<Head>> {
        let key = self.key(name);
        let answer = self.send(self.bucket.head_object(Some(&self.credentials), &key), &[], TALK)?;
        if answer.is_missing() {
            return Ok(None);
        }
        let bytes = answer.header("content-length").and_then(|text| text.parse().ok());
        Ok(Some(Head {
            bytes: bytes.context("the storage does not say how long an archive is")?,
            etag: answer.header("etag").unwrap_or_default().to_owned(),
            label: Label::read(&answer),
        }))
    }

    /// Stores a small archive in one request.
    pub(super) fn put(&self, name: &str, label: &Label, content: &[u8], md5: &[u8]) -> Result<()> {
        let key = self.key(name);
        let mut action = self.bucket.put_object(Some(&self.credentials), &key);
        action.headers_mut().insert("content-md5", BASE64.encode(md5));
        action.headers_mut().insert("content-type", content_type(name));
        for (header, value) in label.headers()? {
            action.headers_mut().insert(header, value);
        }
        found(self.send(action, content, TALK)?).map(drop)
    }

    /// Begins an upload in parts and gives its id.
    pub(super) fn begin(&self, name: &str, label: &Label) -> Result<String> {
        let key = self.key(name);
        let mut action = self.bucket.create_multipart_upload(Some(&self.credentials), &key);
        action.headers_mut().insert("content-type", content_type(name));
        for (header, value) in label.headers()? {
            action.headers_mut().insert(header, value);
        }
        let answer = found(self.send(action, &[], TALK)?)?;
        let begun = CreateMultipartUpload::parse_response(answer.text()?)
            .context("the storage began an upload and did not say which")?;
        Ok(begun.upload_id().to_owned())
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
            let Ok(page) = ListParts::parse_response(&text) else { return Ok(Some(Vec::new())) };
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

    /// Stores one part and gives its ETag.
    pub(super) fn put_part(
        &self,
        name: &str,
        id: &str,
        number: u16,
        content: &[u8],
        md5: &[u8],
    ) -> Result<String> {
        let key = self.key(name);
        let mut action = self.bucket.upload_part(Some(&self.credentials), &key, number, id);
        action.headers_mut().insert("content-md5", BASE64.encode(md5));
        let answer = found(self.send(action, content, TALK)?)?;
        let etag = answer.header("etag").context("the storage took a part and gave no ETag for it")?;
        Ok(etag.to_owned())
    }

    /// Puts the parts together.
    pub(super) fn complete(&self, name: &str, id: &str, etags: &[String]) -> Result<()> {
        let key = self.key(name);
        let etags = etags.iter().map(String::as_str);
        let action = CompleteMultipartUpload::new(&self.bucket, Some(&self.credentials), &key, id, etags);
        let body = action.clone().body();
        let answer = found(self.send(action, body.as_bytes(), TALK)?)?;
        // It may say 200 and then that it failed.
        CompleteMultipartUploadResponse::parse(answer.text()?.trim_start())
            .context("the storage did not put the parts together")?;
        Ok(())
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
            let Ok(page) = instant_xml::from_str::<Uploads>(answer.text()?) else { return Ok(None) };
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

    /// Gives up an upload; its parts are freed.
    pub(super) fn abort(&self, name: &str, id: &str) -> Result<()> {
        let key = self.key(name);
        let action = self.bucket.abort_multipart_upload(Some(&self.credentials), &key, id);
        self.send(action, &[], TALK).map(drop)
    }

    /// Reads all of an archive, piece by piece: one that fails is tried again by itself.
    pub(super) fn read(
        &self,
        name: &str,
        bytes: u64,
        take: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut at = 0;
        while at < bytes {
            let piece = self.range(name, at, PIECE.min(bytes - at))?;
            take(&piece)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// A range of an archive, exactly as long as asked for.
    fn range(&self, name: &str, from: u64, length: u64) -> Result<Vec<u8>> {
        let key = self.key(name);
        let mut action = self.bucket.get_object(Some(&self.credentials), &key);
        action.headers_mut().insert("range", format!("bytes={from}-{}", from + length - 1));
        let answer = found(self.send(action, &[], length + 1)?)?;
        if answer.body.len() as u64 != length {
            return Err(Fault::critical(format!(
                "the storage gave {} bytes of {name} where {length} were asked for",
                answer.body.len()
            ))
            .into());
        }
        Ok(answer.body)
    }

    /// Deletes an archive there.
    pub(super) fn delete(&self, name: &str) -> Result<()> {
        let key = self.key(name);
        self.send(self.bucket.delete_object(Some(&self.credentials), &key), &[], TALK).map(drop)
    }
}
