//! Parts of archives that no honest program makes, and how much memory reading them takes.
//! Chosen by a seed, they make archives and answers of a storage.

use crate::sandbox::{Said, said};
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};
use sha2::{Digest, Sha256};
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Numbers from a seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % most
    }

    pub fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// The header of one member of a tar, with whatever it claims.
pub fn header(name: &[u8], kind: u8, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    let length = name.len().min(100);
    header.as_old_mut().name[..length].copy_from_slice(&name[..length]);
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    header
}

/// A header, then its content, padded.
pub fn member(name: &[u8], kind: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = header(name, kind, content.len() as u64).as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// A file of a name of any length.
pub fn long_name(name: &[u8]) -> Vec<u8> {
    [member(b"././@LongLink", b'L', name), member(name, b'0', b"")].concat()
}

/// A sparse file that claims to be this long, of which nothing is there.
pub fn sparse(name: &[u8], length: u64) -> Vec<u8> {
    let mut header = header(name, b'S', 0);
    if let Some(gnu) = header.as_gnu_mut() {
        gnu.set_real_size(length);
        // A map of one piece of no length at its end.
        let numeric = |field: &mut [u8], number: u64| {
            field.fill(0);
            field[0] = 0x80;
            let at = field.len() - 8;
            field[at..].copy_from_slice(&number.to_be_bytes());
        };
        numeric(&mut gnu.sparse[0].offset, length);
        numeric(&mut gnu.sparse[0].numbytes, 0);
    }
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// A PAX header for the member after it.
pub fn pax(key: &str, value: &str) -> Vec<u8> {
    let record = |length: usize| format!("{length} {key}={value}\n");
    let mut length = key.len() + value.len() + 3;
    while record(length).len() != length {
        length = record(length).len();
    }
    member(b"pax", b'x', record(length).as_bytes())
}

/// The end of a tar.
pub const END: [u8; 1024] = [0; 1024];

/// One gzip member.
pub fn gzip(content: &[u8]) -> Vec<u8> {
    gzip_of(&mut &content[..])
}

/// One gzip member of content that need not fit into memory.
pub fn gzip_of(content: &mut dyn Read) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    io::copy(content, &mut gzip).unwrap();
    gzip.finish().unwrap()
}

/// A block as this program makes them: a gzip member that names its lengths.
pub fn block(content: &[u8], index: bool) -> Vec<u8> {
    let mut packed = DeflateEncoder::new(Vec::new(), Compression::best());
    packed.write_all(content).unwrap();
    let packed = packed.finish().unwrap();
    let size = (content.len() as u32).to_le_bytes();
    let length = (10 + 2 + 45 + packed.len() + 8) as u32;
    let mut crc = flate2::Crc::new();
    crc.update(content);
    [
        &[0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 3, 45, 0, b'A', b'O', 41, 0][..],
        &length.to_le_bytes(),
        &size,
        &[u8::from(index)],
        &Sha256::digest(content),
        &packed,
        &crc.sum().to_le_bytes(),
        &size,
    ]
    .concat()
}

/// An archive in the form of this program: files in blocks, then an index of `manifest` and
/// `checksums`, however long.
pub fn archive(files: &[u8], manifest: &[u8], checksums: &[u8]) -> Vec<u8> {
    let folder = "20261120_093001";
    let index = [
        member(format!("{folder}/manifest.json").as_bytes(), b'0', manifest),
        member(format!("{folder}/checksums.sha256").as_bytes(), b'0', checksums),
        END.to_vec(),
    ]
    .concat();
    let blocks = files.chunks(1 << 20).map(|part| block(part, false));
    blocks.chain(index.chunks(1 << 20).map(|part| block(part, true))).flatten().collect()
}

/// A manifest of these lists, spelled as JSON.
pub fn manifest(files: &str, problems: &str) -> Vec<u8> {
    format!(
        r#"{{"schema":1,"folder":"20261120_093001","agent":"quiet","host":"h","run":"r",
        "time":"2026-11-20T09:30:01Z","sequence":1,"version":"0.1.0","files":[{files}],
        "databases":[],"damaged":[],"vanished":[],"problems":[{problems}]}}"#
    )
    .into_bytes()
}

/// Runs a program and gives the most memory that it had, in MiB; 0 where the system does not tell.
pub fn peak(command: &mut Command) -> (Said, u64) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (status, exe) = (format!("/proc/{}/status", child.id()), format!("/proc/{}/exe", child.id()));
    let own = std::env::current_exe().unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        // Before it is another program, its memory is ours.
        if std::fs::read_link(&exe).is_ok_and(|exe| exe != own) {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
            peak = peak.max(kib.unwrap_or(0));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    (said(child.wait_with_output().unwrap()), peak / 1024)
}
