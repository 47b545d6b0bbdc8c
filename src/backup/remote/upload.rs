//! Brings one archive to the storage and makes sure that it is there.
//!
//! A small one goes in one request, a larger one in parts; an upload that was cut short goes on
//! where it stopped. Only what the storage itself then says counts: an answer may be lost, and
//! an answer may be wrong.

use super::client::Client;
use super::fingerprint::{Fingerprint, PART};
use super::label::Label;
use super::lists::{Part, Upload};
use super::signing::{Keys, Origin};
use super::store::{Head, proves};
use crate::backup::Archive;
use crate::backup::sidecar::Sidecar;
use crate::base::beneath::open_named;
use crate::base::progress::Progress;
use crate::base::step::step;
use crate::base::text::hex;
use anyhow::{Context, Result};
use md5::Md5;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

/// What the storage's word on an archive is worth.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    /// Size and label are right, and its own checksum is.
    Sure,
    /// Size and label are right; its ETag is none that could be compared.
    Likely,
    /// Something is wrong.
    No(&'static str),
}

fn judge(head: &Head, label: &Label) -> Word {
    match &head.label {
        None => Word::No("it does not have our label"),
        Some(theirs) if theirs.sha256 != label.sha256 => Word::No("it has another checksum"),
        _ if head.bytes != label.bytes => Word::No("it has another size"),
        _ if proves(&head.etag, &label.etag) => Word::Sure,
        _ => Word::Likely,
    }
}

/// What was done so that an archive is there.
pub(super) struct Brought {
    pub(super) label: Label,
    /// The bytes that had to be sent.
    pub(super) sent: u64,
    /// Whether it was there, and only its signature was missing.
    pub(super) signed: bool,
}

/// Gives a copy there this label, with its signature. False: the storage does not do that.
pub(super) fn sign_there(client: &Client, keys: &Keys, name: &str, label: &Label) -> Result<bool> {
    let done = client.relabel(name, label);
    let head = client.head(name)?;
    let right =
        |head: Head| is_signed(keys, name, &head) && matches!(judge(&head, label), Word::Sure | Word::Likely);
    Ok(done.is_ok() && head.is_some_and(right))
}

fn is_signed(keys: &Keys, name: &str, head: &Head) -> bool {
    head.label.as_ref().is_some_and(|label| keys.origin(name, label) == Origin::Signed)
}

/// Makes sure that an archive is there. `open` are the uploads that are known to be unfinished.
///
/// # Errors
/// When it is not there in the end, as far as can be told.
pub(super) fn bring(
    client: &Client,
    archive: &Archive,
    agent: &str,
    keys: &Keys,
    open: &[Upload],
    progress: &Progress,
) -> Result<Brought> {
    let name = archive.name.as_str();
    let reading = || format!("cannot read {}", archive.path.display());
    let file = open_named(&archive.path).with_context(reading)?;
    let fingerprint = Fingerprint::of(&file).with_context(reading)?;
    let note = archive.encrypted.then(|| Sidecar::read(&archive.path)).transpose()?;
    let mut label = Label {
        agent: agent.to_owned(),
        sequence: archive.sequence,
        time: archive.time,
        bytes: fingerprint.bytes,
        sha256: fingerprint.sha256.clone(),
        etag: fingerprint.etag(),
        note_text: note.as_ref().map(Label::note_text).transpose()?,
        note,
        signature: None,
    };
    label.signature = keys.sign(name, &label);
    if let Some(note) = &label.note
        && note.sha256 != label.sha256
    {
        anyhow::bail!("it is damaged here: its hash is not the one it was made with");
    }
    if let Some(head) = client.head(name)? {
        if matches!(judge(&head, &label), Word::Sure | Word::Likely) {
            if is_signed(keys, name, &head) {
                return Ok(Brought { label, sent: 0, signed: false });
            }
            // Of an earlier version, or planted: what is here proves it. Where that cannot be done, it is
            // sent again.
            if sign_there(client, keys, name, &label)? {
                return Ok(Brought { label, sent: 0, signed: true });
            }
        }
        let ours = head.label.is_some_and(|theirs| theirs.agent == label.agent);
        anyhow::ensure!(ours, "something else has that name there, and is not replaced");
    }
    let sent = if fingerprint.is_single() {
        let mut content = Vec::new();
        (&file).take(PART).read_to_end(&mut content).with_context(reading)?;
        let md5 = fingerprint.md5s.first().copied().unwrap_or_else(|| Md5::digest([]).into());
        let put = client.put(name, &label, &content, &md5).map(|()| fingerprint.bytes);
        progress.add(fingerprint.bytes);
        put
    } else {
        in_parts(client, name, &file, &fingerprint, &label, open, progress)
    };
    step("sent")?;
    // The answer may have been lost although all is done, so only this decides.
    let word = match client.head(name)? {
        Some(head) => judge(&head, &label),
        None => Word::No("it is not there"),
    };
    match (word, sent) {
        (Word::Sure, sent) => Ok(Brought { label, sent: sent.unwrap_or(fingerprint.bytes), signed: false }),
        (Word::Likely, sent) => {
            read_back(client, name, &label)?;
            Ok(Brought { label, sent: sent.unwrap_or(fingerprint.bytes), signed: false })
        }
        (Word::No(_), Err(error)) => Err(error),
        (Word::No(why), Ok(_)) => anyhow::bail!("the storage took it, and then {why}"),
    }
}

/// Reads an archive back whose ETag proves nothing; one that is not right is removed again.
fn read_back(client: &Client, name: &str, label: &Label) -> Result<()> {
    let mut sha256 = Sha256::new();
    client.read(name, label.bytes, &mut |piece| {
        sha256.update(piece);
        Ok(())
    })?;
    if hex(&sha256.finalize()) != label.sha256 {
        client.delete(name)?;
        anyhow::bail!("what came back is not what was sent; it was removed there again");
    }
    Ok(())
}

/// Sends what the storage does not have yet, then has it put together. Gives the bytes sent.
fn in_parts(
    client: &Client,
    name: &str,
    file: &File,
    fingerprint: &Fingerprint,
    label: &Label,
    open: &[Upload],
    progress: &Progress,
) -> Result<u64> {
    let earlier = open.iter().filter(|upload| upload.name == name).max_by_key(|upload| upload.begun);
    let mut known = None;
    if let Some(upload) = earlier {
        known = client.parts(name, &upload.id)?.map(|parts| (upload.id.clone(), parts));
    }
    let (id, parts) = match known {
        Some(known) => known,
        None => (client.begin(name, label)?, Vec::new()),
    };
    step("begun upload")?;
    let mut sent = 0;
    let mut etags = Vec::new();
    let mut content = Vec::new();
    for (index, md5) in fingerprint.md5s.iter().enumerate() {
        let number = u16::try_from(index + 1).context("too many parts")?;
        let bytes = fingerprint.part_bytes(index);
        // Only a part that is proved to be the same is not sent again.
        let same = |bytes: u64| {
            let etag = hex(md5);
            move |part: &&Part| part.number == number && part.bytes == bytes && proves(&part.etag, &etag)
        };
        if let Some(part) = parts.iter().find(same(bytes)) {
            etags.push(part.etag.clone());
            progress.add(bytes);
            continue;
        }
        content.resize(bytes as usize, 0);
        file.read_exact_at(&mut content, index as u64 * fingerprint.part)
            .with_context(|| format!("cannot read {name}"))?;
        etags.push(client.put_part(name, &id, number, &content, md5)?);
        sent += bytes;
        progress.add(bytes);
        step("part")?;
    }
    client.complete(name, &id, &etags)?;
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label() -> Label {
        Label {
            agent: "a".to_owned(),
            sequence: 1,
            time: chrono::DateTime::UNIX_EPOCH,
            bytes: 3,
            sha256: "aa".to_owned(),
            etag: "bb".to_owned(),
            note: None,
            note_text: None,
            signature: None,
        }
    }

    #[test]
    fn only_an_agreeing_word_counts() {
        let head = |bytes, etag: &str, label| Head { bytes, etag: etag.to_owned(), label };
        assert_eq!(judge(&head(3, "bb", Some(label())), &label()), Word::Sure);
        assert_eq!(judge(&head(3, "kms", Some(label())), &label()), Word::Likely);
        assert!(matches!(judge(&head(2, "bb", Some(label())), &label()), Word::No(_)));
        assert!(matches!(judge(&head(3, "bb", None), &label()), Word::No(_)));
        let other = Label { sha256: "cc".to_owned(), ..label() };
        assert!(matches!(judge(&head(3, "bb", Some(other)), &label()), Word::No(_)));
    }
}
