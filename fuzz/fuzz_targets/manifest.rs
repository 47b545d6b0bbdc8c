//! Any bytes as the manifest in an archive whose outer form is right.
//!
//! `cargo +nightly fuzz run manifest -- -rss_limit_mb=1024 -max_len=65536`

#![no_main]

use agent_ops::backup::manifest::{Manifest, read_checksums};
use agent_ops::backup::{Contents, peek, verify};
use flate2::{Compression, Crc, write::DeflateEncoder};
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;
use std::path::Component;

#[path = "folder.rs"]
mod folder;

fuzz_target!(|bytes: &[u8]| {
    let _ = read_checksums(bytes);
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) {
        let _ = (manifest.count(), manifest.bytes(), manifest.members().count());
        // What was read is written as it can be read again.
        let json = |manifest: &Manifest| {
            let mut text = Vec::new();
            manifest.write_json(&mut text).unwrap();
            text
        };
        let text = json(&manifest);
        assert_eq!(json(&serde_json::from_slice(&text).unwrap()), text);
    }
    let dir = folder::folder("manifest");
    let archive = dir.join("20260101_000000.tar.gz");
    let mut header = tar::Header::new_gnu();
    header.set_path("bot/manifest.json").unwrap();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    header.set_cksum();
    let mut index = header.as_bytes().to_vec();
    index.extend_from_slice(bytes);
    index.resize(index.len().next_multiple_of(512) + 1024, 0);
    fs::write(&archive, block(&index)).unwrap();
    let _ = peek(&archive);
    if let Ok(Some(contents)) = Contents::peek(&archive) {
        for entry in &contents.entries {
            assert!(entry.path.components().all(|part| matches!(part, Component::Normal(_) | Component::RootDir)));
        }
    }
    let _ = verify(&archive, &dir);
});

/// A block of the index as the program makes it.
fn block(content: &[u8]) -> Vec<u8> {
    let mut packed = DeflateEncoder::new(Vec::new(), Compression::none());
    packed.write_all(content).unwrap();
    let packed = packed.finish().unwrap();
    let size = (content.len() as u32).to_le_bytes();
    let length = (10 + 2 + 45 + packed.len() + 8) as u32;
    let mut crc = Crc::new();
    crc.update(content);
    [
        &[0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 3, 45, 0, b'A', b'O', 41, 0][..],
        &length.to_le_bytes(),
        &size,
        &[1],
        &Sha256::digest(content),
        &packed,
        &crc.sum().to_le_bytes(),
        &size,
    ]
    .concat()
}
