//! What is written beside a copy, so that any host with the config knows it again.

use super::client::Answer;
use crate::backup::sidecar::Sidecar;
use crate::base::units;
use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Utc};

/// What we write beside an archive there, and find again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Label {
    /// The agent whose it is.
    pub(super) agent: String,
    /// Its place in the order of making.
    pub(super) sequence: u64,
    /// When it was made.
    pub(super) time: DateTime<Utc>,
    /// Its length in bytes.
    pub(super) bytes: u64,
    /// The SHA-256 of the file, hexadecimal.
    pub(super) sha256: String,
    /// The ETag that an honest storage gives it, without quotes.
    pub(super) etag: String,
    /// The note of an encrypted archive. It goes with it as one, and is deleted with it.
    pub(super) note: Option<Sidecar>,
    /// That note as it is sent.
    pub(super) note_text: Option<String>,
    /// What proves all of this, but for the ETag.
    pub(super) signature: Option<String>,
}

impl Label {
    /// As headers of an upload.
    pub(super) fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            ("x-amz-meta-agent", self.agent.clone()),
            ("x-amz-meta-bytes", self.bytes.to_string()),
            ("x-amz-meta-etag", self.etag.clone()),
            ("x-amz-meta-sequence", self.sequence.to_string()),
            ("x-amz-meta-sha256", self.sha256.clone()),
            ("x-amz-meta-time", units::rfc3339(self.time)),
        ];
        headers.extend(self.note_text.clone().map(|note| ("x-amz-meta-note", note)));
        headers.extend(self.signature.clone().map(|signature| ("x-amz-meta-signature", signature)));
        headers
    }

    /// A note as it is sent.
    pub(super) fn note_text(note: &Sidecar) -> Result<String> {
        Ok(BASE64.encode(note.text()?))
    }

    /// From an answer. None: it is not of this program.
    pub(super) fn read(answer: &Answer) -> Option<Label> {
        let meta = |name: &str| answer.header(&format!("x-amz-meta-{name}"));
        let note_text = meta("note").map(str::to_owned);
        let note = note_text.as_ref().and_then(|note| BASE64.decode(note).ok());
        Some(Label {
            note: note.and_then(|note| Sidecar::parse(&note).ok()),
            agent: meta("agent")?.to_owned(),
            bytes: meta("bytes")?.parse().ok()?,
            etag: meta("etag")?.to_owned(),
            sequence: meta("sequence")?.parse().ok()?,
            sha256: meta("sha256")?.to_owned(),
            time: DateTime::parse_from_rfc3339(meta("time")?).ok()?.with_timezone(&Utc),
            signature: meta("signature").map(str::to_owned),
            note_text,
        })
    }
}
