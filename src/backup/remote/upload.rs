//! Brings one archive to the storage and makes sure that it is there.
//!
//! A small one goes in one request, a larger one in parts; an upload that was cut short goes on
//! where it stopped. Only what the storage itself then says counts: an answer may be lost, and
//! an answer may be wrong.

use super::client::Client;
use super::label::Label;
use super::store::{Head, Part, Upload, proves};
use crate::backup::Archive;
use crate::backup::sidecar::Sidecar;
use crate::base::progress::Progress;
use crate::base::step::step;
use crate::base::text::hex;
use anyhow::{Context, Result};
use md5::Md5;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// Bytes of a part, and the most that goes in one request.
pub(super) const PART: u64 = 8 << 20;
/// More parts than this no storage takes.
const MOST_PARTS: u64 = 10_000;

/// What a file is, so that it can be known again at the other side.
struct Fingerprint {
    bytes: u64,
    /// Bytes of each part but the last.
    part: u64,
    sha256: String,
    /// The MD5 of each part. (Not for trust: the storage checks by it what arrived.)
    md5s: Vec<[u8; 16]>,
}

impl Fingerprint {
    fn of(file: &File) -> io::Result<Fingerprint> {
        let bytes = file.metadata()?.len();
        let part = part_size(bytes);
        let mut sha256 = Sha256::new();
        let mut md5s = Vec::new();
        let mut buffer = vec![0; 256 << 10];
        let mut at = 0;
        while at < bytes {
            let end = (at + part).min(bytes);
            let mut md5 = Md5::new();
            while at < end {
                let most = buffer.len().min((end - at) as usize);
                file.read_exact_at(&mut buffer[..most], at)?;
                sha256.update(&buffer[..most]);
                md5.update(&buffer[..most]);
                at += most as u64;
            }
            md5s.push(md5.finalize().into());
        }
        Ok(Fingerprint { bytes, part, sha256: hex(&sha256.finalize()), md5s })
    }

    /// Whether it goes in one request.
    fn is_single(&self) -> bool {
        self.md5s.len() <= 1
    }

    /// The ETag of such an object, by the custom that nearly every storage keeps to.
    fn etag(&self) -> String {
        match self.md5s.as_slice() {
            [] => hex(&Md5::digest([])),
            [one] => hex(one),
            many => format!("{}-{}", hex(&Md5::digest(many.concat())), many.len()),
        }
    }

    fn part_bytes(&self, index: usize) -> u64 {
        self.part.min(self.bytes - index as u64 * self.part)
    }
}

/// 8 MiB, or more where there would be too many parts.
fn part_size(bytes: u64) -> u64 {
    bytes.div_ceil(MOST_PARTS).next_multiple_of(1 << 20).max(PART)
}

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

/// Makes sure that an archive is there. `open` are the uploads that are known to be unfinished.
/// Gives its label, and how many bytes had to be sent.
///
/// # Errors
/// When it is not there in the end, as far as can be told.
pub(super) fn bring(
    client: &Client,
    archive: &Archive,
    agent: &str,
    open: &[Upload],
    progress: &Progress,
) -> Result<(Label, u64)> {
    let name = archive.name.as_str();
    let reading = || format!("cannot read {}", archive.path.display());
    let file = File::open(&archive.path).with_context(reading)?;
    let fingerprint = Fingerprint::of(&file).with_context(reading)?;
    let label = Label {
        agent: agent.to_owned(),
        sequence: archive.sequence,
        time: archive.time,
        bytes: fingerprint.bytes,
        sha256: fingerprint.sha256.clone(),
        etag: fingerprint.etag(),
        note: archive.encrypted.then(|| Sidecar::read(&archive.path)).transpose()?,
    };
    if let Some(note) = &label.note
        && note.sha256 != label.sha256
    {
        anyhow::bail!("it is damaged here: its hash is not the one it was made with");
    }
    if let Some(head) = client.head(name)? {
        if matches!(judge(&head, &label), Word::Sure | Word::Likely) {
            return Ok((label, 0));
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
        (Word::Sure, sent) => Ok((label, sent.unwrap_or(fingerprint.bytes))),
        (Word::Likely, sent) => {
            read_back(client, name, &label)?;
            Ok((label, sent.unwrap_or(fingerprint.bytes)))
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
    use std::io::Write;

    fn label() -> Label {
        Label {
            agent: "a".to_owned(),
            sequence: 1,
            time: chrono::DateTime::UNIX_EPOCH,
            bytes: 3,
            sha256: "aa".to_owned(),
            etag: "bb".to_owned(),
            note: None,
        }
    }

    #[test]
    fn parts_cover_a_file_exactly_and_are_never_too_many() {
        assert_eq!((part_size(0), part_size(PART), part_size(80 << 30)), (PART, PART, 9 << 20));
        for bytes in [1u64 << 40, (5 << 40) - 1] {
            assert!(bytes.div_ceil(part_size(bytes)) <= MOST_PARTS, "{bytes}");
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; PART as usize + 5]).unwrap();
        let two = Fingerprint::of(&file).unwrap();
        assert_eq!((two.md5s.len(), two.part_bytes(0), two.part_bytes(1)), (2, PART, 5));
        assert!(!two.is_single() && two.etag().ends_with("-2"));
    }

    #[test]
    fn a_small_file_has_the_etag_that_everybody_gives_it() {
        let mut file = tempfile::tempfile().unwrap();
        assert_eq!(Fingerprint::of(&file).unwrap().etag(), "d41d8cd98f00b204e9800998ecf8427e");
        file.write_all(b"abc").unwrap();
        let one = Fingerprint::of(&file).unwrap();
        assert!(one.is_single());
        assert_eq!(one.etag(), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(one.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
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
