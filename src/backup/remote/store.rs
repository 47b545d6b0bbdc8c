//! The verbs of S3 that a copy needs, each one request (a list may take several).

use super::client::{Answer, Client, TALK};
use super::document;
use super::label::Label;
use crate::backup::names::ENCRYPTED;
use crate::base::Fault;
use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rusty_s3::S3Action;
use rusty_s3::actions::CreateMultipartUpload;
use rusty_s3::actions::{CompleteMultipartUpload, CompleteMultipartUploadResponse};

/// Bytes of one request.
const PIECE: u64 = 8 << 20;
/// What the storage says of one object.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) bytes: u64,
    /// As the storage says it.
    pub(super) etag: String,
    /// None: it is not of this program.
    pub(super) label: Option<Label>,
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

pub(super) fn found(answer: Answer) -> Result<Answer> {
    if answer.is_missing() {
        return Err(Fault::critical("the storage has no such thing any more").into());
    }
    Ok(answer)
}

impl Client {
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
        for (header, value) in label.headers() {
            action.headers_mut().insert(header, value);
        }
        found(self.send(action, content, TALK)?).map(drop)
    }

    /// Gives an archive there another label; its content stays. Not every storage can, and what it
    /// answers proves nothing: [`Client::head`] tells.
    pub(super) fn relabel(&self, name: &str, label: &Label) -> Result<()> {
        self.copy_to(name, name, label)
    }

    /// Whether the storage copies an object when it is asked to: one that knows nothing of it would
    /// store an empty one instead.
    pub(super) fn copies_objects(&self, name: &str, label: &Label) -> Result<bool> {
        const PROBE: &str = "signing-probe";
        let done = self.copy_to(name, PROBE, label);
        let there = self.head(PROBE)?;
        if there.is_some() {
            self.delete(PROBE)?;
        }
        Ok(done.is_ok() && there.is_some_and(|head| head.bytes == label.bytes))
    }

    fn copy_to(&self, from: &str, name: &str, label: &Label) -> Result<()> {
        let key = self.key(name);
        let mut action = self.bucket.put_object(Some(&self.credentials), &key);
        action.headers_mut().insert("content-type", content_type(name));
        action.headers_mut().insert("x-amz-copy-source", self.source(&self.key(from)));
        action.headers_mut().insert("x-amz-metadata-directive", "REPLACE");
        for (header, value) in label.headers() {
            action.headers_mut().insert(header, value);
        }
        found(self.send(action, &[], TALK)?).map(drop)
    }

    /// A key with its bucket, as a header names it.
    fn source(&self, key: &str) -> String {
        let mut source = format!("/{}/", self.bucket.name());
        for &byte in key.as_bytes() {
            match byte {
                b'/' | b'-' | b'.' | b'_' | b'~' => source.push(byte.into()),
                byte if byte.is_ascii_alphanumeric() => source.push(byte.into()),
                byte => source.push_str(&format!("%{byte:02X}")),
            }
        }
        source
    }

    /// Begins an upload in parts and gives its id.
    pub(super) fn begin(&self, name: &str, label: &Label) -> Result<String> {
        let key = self.key(name);
        let mut action = self.bucket.create_multipart_upload(Some(&self.credentials), &key);
        action.headers_mut().insert("content-type", content_type(name));
        for (header, value) in label.headers() {
            action.headers_mut().insert(header, value);
        }
        let answer = found(self.send(action, &[], TALK)?)?;
        let begun = document::read(answer.text()?, CreateMultipartUpload::parse_response)
            .context("the storage began an upload and did not say which")?;
        Ok(begun.upload_id().to_owned())
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
        document::read(answer.text()?, CompleteMultipartUploadResponse::parse)
            .context("the storage did not put the parts together")?;
        Ok(())
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
