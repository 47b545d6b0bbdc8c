//! Proof of where a copy comes from: an HMAC over what its label says, with a key that no bucket has.
//!
//! The key is made when it is first needed and lies in `.ops/signing.key`, which no archive contains.
//! A rebuilt host imports it. There may be several: the first signs, all are accepted.

use super::copies::lock;
use super::label::Label;
use crate::base::beneath::{Refused, read_limited};
use crate::base::text::hex;
use crate::base::{Fault, Home, Run, privilege, units};
use crate::config::Loaded;
use anyhow::{Context, Result};
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

/// Where the keys are, in the home.
const FILE: &str = ".ops/signing.key";
const NAME: &str = "signing.key";
/// What to do about one that others could have read or written.
const REMEDY: &str = "if nobody else had it: chown it to you and chmod 600; else move it away: a new one is made, \
                      and older copies then need `--trust`";
/// Some dozens of keys.
const MOST: u64 = 16 << 10;
/// What the line of a key begins with.
const TAG: &str = "agent-ops-signing-key-1:";
const BYTES: usize = 32;

/// Where a copy comes from, as far as its signature proves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Signed with a key of this host.
    Signed,
    /// Not signed: of an earlier version, or planted.
    Unsigned,
    /// Signed with a key that is not here.
    OtherKey,
    /// Its signature names a key of this host, which did not sign what the label says.
    Forged,
}

impl Origin {
    /// As people read it.
    pub fn describe(self) -> &'static str {
        match self {
            Origin::Signed => "signed",
            Origin::Unsigned => "unsigned",
            Origin::OtherKey => "other key",
            Origin::Forged => "forged",
        }
    }
}

/// The keys of a host.
#[derive(Clone)]
pub struct Keys(Vec<[u8; BYTES]>);

impl Keys {
    /// Those that are there.
    ///
    /// # Errors
    /// When the file cannot be read, or holds anything else.
    pub fn read(home: &Home) -> Result<Keys> {
        let read = || {
            let file = home.state()?.open_file(NAME)?;
            let meta = file.metadata()?;
            // Whoever has read it signs as we do; whoever wrote it has us believe their copies.
            if meta.mode() & 0o077 != 0 {
                return Err(Refused::Shared.into());
            }
            if meta.uid() != privilege::us() {
                return Err(Refused::Foreign(meta.uid()).into());
            }
            read_limited(&file, MOST)
        };
        match read() {
            Ok(text) => Keys::parse(&text).with_context(|| format!("{FILE} is damaged")),
            Err(error) if error.kind() == ErrorKind::NotFound && Refused::of(&error).is_none() => {
                Ok(Keys(Vec::new()))
            }
            Err(error) => match Refused::of(&error) {
                Some(Refused::Shared | Refused::Foreign(_)) => {
                    let file = home.path(FILE);
                    Err(Fault::unknown(format!("{} is not used: {error}, or read it", file.display()))
                        .hint(REMEDY)
                        .into())
                }
                _ => Err(error).with_context(|| format!("cannot read {FILE}")),
            },
        }
    }

    /// Those that are there, or a new one; and whether it is new.
    pub(super) fn ready(home: &Home) -> Result<(Keys, bool)> {
        let keys = Keys::read(home)?;
        if !keys.0.is_empty() {
            return Ok((keys, false));
        }
        let mut key = [0; BYTES];
        let random = rustls::crypto::ring::default_provider().secure_random;
        random.fill(&mut key).ok().context("the system gives no random bytes for a signing key")?;
        let keys = Keys(vec![key]);
        keys.write(home)?;
        Ok((keys, true))
    }

    /// Those that are there, or a new one, for an export.
    ///
    /// # Errors
    /// As [`Keys::read`], and when it cannot be written.
    pub fn made(loaded: &Loaded, run: &Run) -> Result<Keys> {
        let _lock = lock(loaded, run)?;
        Ok(Keys::ready(&loaded.home)?.0)
    }

    /// Reads the text of an export: lines of keys, and comments.
    ///
    /// # Errors
    /// When there is no key in it, or a line is something else. The error quotes nothing.
    pub fn parse(text: &[u8]) -> Result<Keys> {
        let wrong = || Fault::unknown("that is no file of signing keys, as `backup key export` writes it");
        let text = std::str::from_utf8(text).map_err(|_| wrong())?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys = lines.map(|line| line.strip_prefix(TAG).and_then(from_hex)).collect::<Option<Vec<_>>>();
        let keys = keys.filter(|keys| !keys.is_empty()).ok_or_else(wrong)?;
        Ok(Keys(keys))
    }

    /// The text of an export: secret.
    pub fn text(&self) -> String {
        let mut text = "# Signing keys of agent-ops, secret: the first signs, all are accepted.\n".to_owned();
        for key in &self.0 {
            text.push_str(&format!("{TAG}{}\n", hex(key)));
        }
        text
    }

    /// Takes these keys before those that are there. Gives how many were not there.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn import(self, loaded: &Loaded, run: &Run) -> Result<usize> {
        let _lock = lock(loaded, run)?;
        self.put_first(&loaded.home)
    }

    fn put_first(mut self, home: &Home) -> Result<usize> {
        let there = Keys::read(home)?;
        let new = self.0.iter().filter(|key| !there.0.contains(key)).count();
        for key in there.0 {
            if !self.0.contains(&key) {
                self.0.push(key);
            }
        }
        self.write(home)?;
        Ok(new)
    }

    fn write(&self, home: &Home) -> Result<()> {
        let write = || {
            let state = home.make_folder(&home.ops())?;
            anyhow::Ok(state.replace(NAME, self.text().as_bytes(), 0o600)?)
        };
        write().with_context(|| format!("cannot write {FILE}"))
    }

    /// The names of the keys, of which nothing follows about them. The first signs.
    pub fn ids(&self) -> Vec<String> {
        self.0.iter().map(id).collect()
    }

    /// The signature of a label under this name: the key's name and the HMAC. None: there is no key.
    pub(super) fn sign(&self, name: &str, label: &Label) -> Option<String> {
        let key = self.0.first()?;
        Some(format!("{}:{}", id(key), hex(&mac(key, name, label)?.finalize().into_bytes())))
    }

    /// What the signature of a label proves.
    pub(super) fn origin(&self, name: &str, label: &Label) -> Origin {
        let signature = label.signature.as_deref().and_then(|signature| signature.split_once(':'));
        let Some((by, signature)) = signature else { return Origin::Unsigned };
        let Some(key) = self.0.iter().find(|key| id(key) == by) else { return Origin::OtherKey };
        let right = mac(key, name, label).zip(from_hex::<BYTES>(signature));
        match right.is_some_and(|(mac, signature)| mac.verify_slice(&signature).is_ok()) {
            true => Origin::Signed,
            false => Origin::Forged,
        }
    }
}

fn id(key: &[u8; BYTES]) -> String {
    hex(&Sha256::new().chain_update(b"agent-ops signing key\n").chain_update(key).finalize()[..8])
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// All that a restore believes of a label: each part with its length, so that none runs into another.
fn mac(key: &[u8; BYTES], name: &str, label: &Label) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    let (bytes, sequence) = (label.bytes.to_string(), label.sequence.to_string());
    let time = units::rfc3339(label.time);
    let note = label.note_text.as_deref().unwrap_or_default();
    mac.update(b"agent-ops copy 1\n");
    for part in [name, &label.agent, &bytes, &sequence, &label.sha256, &time, note] {
        mac.update(format!("{}:", part.len()).as_bytes());
        mac.update(part.as_bytes());
    }
    Some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;

    fn label() -> Label {
        Label {
            agent: "bot".to_owned(),
            sequence: 7,
            time: "2026-11-20T09:30:01Z".parse().unwrap(),
            bytes: 300,
            sha256: "ab".repeat(32),
            etag: "x".to_owned(),
            note: None,
            note_text: None,
            signature: None,
        }
    }

    #[test]
    fn what_was_signed_is_known_and_nothing_else() {
        let (mine, other) = (Keys(vec![[1; BYTES], [2; BYTES]]), Keys(vec![[3; BYTES]]));
        let signed = Label { signature: mine.sign("a", &label()), ..label() };
        assert_eq!(mine.origin("a", &signed), Origin::Signed);
        assert_eq!(Keys(vec![[9; BYTES], [1; BYTES]]).origin("a", &signed), Origin::Signed);
        assert_eq!(mine.origin("a", &label()), Origin::Unsigned);
        assert_eq!(other.origin("a", &signed), Origin::OtherKey);
        assert_eq!(Keys(Vec::new()).origin("a", &signed), Origin::OtherKey);
        assert_eq!(mine.origin("b", &signed), Origin::Forged, "under another name");
        let changed: [fn(&mut Label); 7] = [
            |label| label.agent = "rob".to_owned(),
            |label| label.sequence = 8,
            |label| label.bytes = 301,
            |label| label.sha256 = "ac".repeat(32),
            |label| label.time += chrono::TimeDelta::seconds(1),
            |label| label.note_text = Some("x".to_owned()),
            |label| label.signature = label.signature.as_ref().map(|signature| signature.replace(':', ":0")),
        ];
        for change in changed {
            let mut label = signed.clone();
            change(&mut label);
            assert_eq!(mine.origin("a", &label), Origin::Forged, "{label:?}");
        }
        // The storage may say what it likes of its own business.
        assert_eq!(mine.origin("a", &Label { etag: "y".to_owned(), ..signed }), Origin::Signed);
    }

    #[test]
    fn a_key_is_made_once_and_goes_to_another_host() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (here, there) = (Home::new(first.path().to_owned()), Home::new(second.path().to_owned()));
        assert!(Keys::read(&here).unwrap().0.is_empty());
        let (keys, new) = Keys::ready(&here).unwrap();
        assert!(new && keys.0[0] != [0; BYTES]);
        let (again, new) = Keys::ready(&here).unwrap();
        assert!(!new && again.0 == keys.0);
        let mode = first.path().join(FILE).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (own, _) = Keys::ready(&there).unwrap();
        assert_eq!(Keys::parse(keys.text().as_bytes()).unwrap().put_first(&there).unwrap(), 1);
        assert_eq!(Keys::read(&there).unwrap().0, [keys.0[0], own.0[0]]);
        assert_eq!(Keys::parse(keys.text().as_bytes()).unwrap().put_first(&there).unwrap(), 0);
        let file = second.path().join(FILE);
        for mode in [0o640, 0o604, 0o620] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = Keys::ready(&there).map(drop).unwrap_err();
            assert_eq!(Fault::of(&error).0, crate::base::State::Unknown, "{error:#}");
        }
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(file, "something").unwrap();
        assert!(Keys::ready(&there).is_err(), "it is never replaced");
    }

    proptest! {
        #[test]
        fn any_bytes_are_keys_or_an_error(bytes in any::<Vec<u8>>()) {
            let _ = Keys::parse(&bytes);
        }
    }
}
