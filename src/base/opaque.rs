//! Databases that are encrypted as a whole, with their header: SQLCipher, SEE, wxSQLite3. Nobody can tell them
//! from other files but by what lies beside them, and by their names.

use super::beneath::Dir;
use super::database;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// How the names of databases end.
const NAMED: [&str; 5] = ["db", "db3", "sqlite", "sqlite3", "sqlitedb"];
/// The first bytes of a `-wal` (sqlite.org/fileformat2.html, 4.1). Encrypted ones have them too.
const WAL: [[u8; 4]; 2] = [[0x37, 0x7f, 0x06, 0x82], [0x37, 0x7f, 0x06, 0x83]];
/// The first bytes of a `-journal` (the same, 3).
const JOURNAL: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
/// The smallest page.
const PAGE: u64 = 512;
/// So much of a file is looked at.
const SAMPLE: usize = 4096;

/// Whether a file that SQLite does not know is an encrypted database: a log of SQLite's is beside it, or it is
/// named as one and looks random.
pub fn is_encrypted(folder: &Dir, name: &Path) -> io::Result<bool> {
    let file = folder.open_file(name)?;
    if file.metadata()?.len() < PAGE || database::is_sqlite_file(&file)? {
        return Ok(false);
    }
    let [wal, _, journal] = database::sidecars(name);
    let wal: Option<[u8; 4]> = head(folder, &wal)?;
    Ok(wal.is_some_and(|head| WAL.contains(&head))
        || head(folder, &journal)? == Some(JOURNAL)
        || (is_named(name.file_name().unwrap_or_default()) && is_random(&file)?))
}

/// Whether a file has the name of a database.
pub fn is_named(name: &OsStr) -> bool {
    let end = Path::new(name).extension().map(OsStr::to_ascii_lowercase);
    end.is_some_and(|end| NAMED.iter().any(|known| end == *known))
}

/// The first bytes of a file; none: there is no such file, or it is shorter.
fn head<const N: usize>(folder: &Dir, name: &Path) -> io::Result<Option<[u8; N]>> {
    // What is no regular file is no log.
    let Ok(file) = folder.open_file(name) else { return Ok(None) };
    let mut head = [0; N];
    match file.read_exact_at(&mut head, 0) {
        Ok(()) => Ok(Some(head)),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a file is made of pages, and its beginning has hardly any pattern: 4,096 random bytes have 7.95 bits
/// of entropy each, 1,024 have 7.8.
fn is_random(file: &File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    let mut sample = vec![0; SAMPLE.min(usize::try_from(length).unwrap_or(SAMPLE))];
    if length % PAGE != 0 || sample.len() < 1024 {
        return Ok(false);
    }
    file.read_exact_at(&mut sample, 0)?;
    let mut counts = [0u32; 256];
    for byte in &sample {
        counts[usize::from(*byte)] += 1;
    }
    let shares =
        counts.iter().filter(|count| **count > 0).map(|count| f64::from(*count) / sample.len() as f64);
    Ok(shares.map(|share| -share * share.log2()).sum::<f64>() > 7.6)
}
