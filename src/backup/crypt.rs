//! Encryption by the `age` program, as a filter: what is encrypted here, plain `age -d` opens.
//!
//! The program and not the crate, by measurement (benches/README.md): the crate brings a hundred
//! crates and half a megabyte for the same throughput. Keys never pass through this process: the
//! public ones are arguments, the secret one is the path of a file that `age` reads itself.

use super::reader::refuse;
use super::sidecar::Sidecar;
use crate::base::Fault;
use crate::base::progress::Progress;
use crate::base::secret::redact;
use crate::base::step::step;
use crate::base::text::{count, hex, one_line};
use crate::config::Backup;
use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What every file of `age` begins with.
const MAGIC: &[u8] = b"age-encryption.org/v1\n";
/// `age` encrypts pieces of so many bytes, each with [`TAG`] bytes more, after a nonce.
const PIECE: u64 = 64 << 10;
const TAG: u64 = 16;
const NONCE: u64 = 16;
/// A header is far shorter.
const MOST_HEADER: u64 = 1 << 20;
/// Where else programs are than on the PATH of cron.
const PLACES: [&str; 3] = ["/usr/local/bin", "/opt/homebrew/bin", "/opt/local/bin"];

/// Whether a file is encrypted. One that cannot be read is not, as far as can be told.
pub(super) fn is_encrypted(path: &Path) -> bool {
    let mut start = [0; MAGIC.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == *MAGIC
}

/// What came of encrypting a file.
#[derive(Clone, Debug)]
pub(super) struct Encrypted {
    /// The length of the encrypted file.
    pub(super) bytes: u64,
    /// Its SHA-256.
    pub(super) sha256: String,
}

/// The program, ready to encrypt to somebody.
pub(super) struct Recipients<'a> {
    age: Age<'a>,
    /// Whether the identity here opens what is encrypted: then every archive is opened again.
    pub(super) opens: bool,
    /// What is wrong with the identity.
    pub(super) problem: Option<String>,
}

impl Recipients<'_> {
    /// Gets ready, and tries with a word, so that an archive is not begun in vain. None: archives
    /// are not encrypted.
    ///
    /// # Errors
    /// A [`Fault`] of state Unknown when there is no program, or it does not take the recipients.
    pub(super) fn ready(backup: &Backup) -> Result<Option<Recipients<'_>>> {
        if backup.encrypt_to.is_empty() {
            return Ok(None);
        }
        let age = Age::find(backup)?;
        let mut word = Vec::new();
        if let Err(why) = age.encrypt(&mut "a word".as_bytes(), &mut word)? {
            return Err(Fault::unknown(format!("nothing can be encrypted to encrypt_to in [backup]: {why}"))
                .hint("no backup was begun; encrypt_to takes what `age-keygen -y KEYFILE` prints, age1…")
                .into());
        }
        let problem = match &backup.identity {
            None => None,
            Some(identity) => match age.decrypt(&mut word.as_slice(), &mut io::sink()) {
                Ok(Ok(())) => None,
                Ok(Err(why)) => Some(format!(
                    "the identity {} does not open what encrypt_to encrypts, so archives are not opened again: {why}",
                    identity.display()
                )),
                Err(error) => Some(format!("archives are not opened again: {error:#}")),
            },
        };
        let opens = backup.identity.is_some() && problem.is_none();
        Ok(Some(Recipients { age, opens, problem }))
    }

    /// How many keys open it, for people.
    pub(super) fn shown(&self) -> String {
        count(self.age.backup.encrypt_to.len(), "recipient")
    }

    /// Encrypts a file to a new one, synced, and reads that back: opened and compared where the
    /// identity is here, else by its hash, its form and its length.
    ///
    /// # Errors
    /// When it cannot be written, or is not what it must be.
    pub(super) fn encrypt(&self, plain: &Path, to: &Path, shown: bool) -> Result<Encrypted> {
        let reading = || format!("cannot read {}", plain.display());
        let writing = || format!("cannot write {}", to.display());
        let file = File::open(plain).with_context(reading)?;
        let length = file.metadata().with_context(reading)?.len();
        let progress = Progress::new("encrypting", length, shown);
        let mut input = Hashed::new(file, Some(&progress));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
        let mut output = Hashed::new(file.with_context(writing)?, None);
        step("encrypt")?;
        if let Err(why) = self.age.encrypt(&mut input, &mut output).with_context(writing)? {
            return Err(Fault::critical(format!("the archive cannot be encrypted: {why}"))
                .hint("older archives are untouched and nothing was pruned")
                .into());
        }
        output.inner.sync_all().with_context(writing)?;
        step("encrypted")?;
        let (bytes, sha256, plain) = (output.bytes, output.finish(), input.finish());
        let wrong = |why: &str| {
            anyhow::Error::from(Fault::critical(format!("the encrypted archive is not whole: {why}")))
        };
        let file = File::open(to).with_context(writing)?;
        let expected = expected_length(&file, length).with_context(writing)?;
        let expected = expected.ok_or_else(|| wrong("it has not the form of age"))?;
        if expected != bytes {
            return Err(wrong("its length is not that of its content"));
        }
        let file = File::open(to).with_context(writing)?;
        let (mut input, mut opened) = (Hashed::new(file, None), Hashed::new(io::sink(), None));
        if !self.opens {
            io::copy(&mut input, &mut io::sink()).with_context(writing)?;
        } else if let Err(why) = self.age.decrypt(&mut input, &mut opened)? {
            return Err(wrong(&why));
        } else if opened.finish() != plain {
            return Err(wrong("what comes out is not what went in"));
        }
        if input.finish() != sha256 {
            return Err(wrong("its hash is another when it is read back"));
        }
        step("reopened")?;
        Ok(Encrypted { bytes, sha256 })
    }
}

/// Decrypts an archive to a new file. `note` is what is known of it.
///
/// # Errors
/// A [`Fault`]: of state Critical where the archive is not what its note says, else of state
/// Unknown (no identity, another one, no program). What was written until then is worth nothing.
pub(super) fn decrypt(backup: &Backup, archive: &Path, note: Option<&Sidecar>, to: &Path) -> Result<()> {
    need_identity(backup, archive)?;
    let age = Age::find(backup)?;
    let mut input =
        Hashed::new(File::open(archive).with_context(|| format!("cannot read {}", archive.display()))?, None);
    let writing = || format!("cannot write {}", to.display());
    let mut output =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).with_context(writing)?;
    let opened = age.decrypt(&mut input, &mut output).with_context(writing)?;
    // All of it, so that its hash tells damage from a key that does not fit.
    io::copy(&mut input, &mut io::sink()).with_context(|| format!("cannot read {}", archive.display()))?;
    compare(archive, note, input.bytes, &input.finish())?;
    if let Err(why) = opened {
        let identity = backup.identity.as_deref().unwrap_or(Path::new(""));
        return Err(Fault::unknown(format!(
            "{} cannot be opened with the identity {}: {why}",
            archive.display(),
            identity.display()
        ))
        .hint("nothing was changed; is it another key's archive? identity in [backup] names the file of the key")
        .into());
    }
    Ok(())
}

/// Refuses an encrypted archive where no identity is set or it cannot be read.
pub(super) fn need_identity(backup: &Backup, archive: &Path) -> Result<()> {
    let Some(identity) = &backup.identity else {
        return Err(Fault::unknown(format!("{} is encrypted, and no identity is set", archive.display()))
            .hint("nothing was changed; set identity in [backup] to the file of the key that opens it")
            .into());
    };
    File::open(identity).map(drop).map_err(|error| {
        Fault::unknown(format!("cannot read the identity {}: {error}", identity.display()))
            .hint("nothing was changed; identity in [backup] names the file of the key")
            .into()
    })
}

/// Reads an encrypted archive and compares it with its note: all that can be verified without the
/// key.
///
/// # Errors
/// A [`Fault`] when it is not what the note says.
pub(super) fn verify_closed(archive: &Path, note: &Sidecar) -> Result<()> {
    let reading = || format!("cannot read {}", archive.display());
    let mut file = Hashed::new(File::open(archive).with_context(reading)?, None);
    io::copy(&mut file, &mut io::sink()).with_context(reading)?;
    compare(archive, Some(note), file.bytes, &file.finish())
}

fn compare(archive: &Path, note: Option<&Sidecar>, bytes: u64, sha256: &str) -> Result<()> {
    match note {
        Some(note) if note.bytes != bytes => Err(refuse(
            archive,
            &format!("it is damaged: it has {bytes} bytes, and {} when it was made", note.bytes),
        )),
        Some(note) if note.sha256 != sha256 => {
            Err(refuse(archive, "it is damaged: its hash is not the one it was made with"))
        }
        _ => Ok(()),
    }
}

/// The length that a file of `age` has whose content is so long, by its header. None: it has no
/// such header.
fn expected_length(file: &File, content: u64) -> io::Result<Option<u64>> {
    let mut header = BufReader::new(file.take(MOST_HEADER));
    let (mut line, mut length) = (Vec::new(), 0);
    loop {
        line.clear();
        let read = header.read_until(b'\n', &mut line)? as u64;
        if read == 0 || (length == 0 && line != MAGIC) {
            return Ok(None);
        }
        length += read;
        if line.starts_with(b"--- ") {
            return Ok(Some(length + NONCE + content + content.div_ceil(PIECE).max(1) * TAG));
        }
    }
}

/// What came of sending something through the program: the inner error is what it complained of.
type Filtered = Result<std::result::Result<(), String>>;

/// The program.
struct Age<'a> {
    program: PathBuf,
    backup: &'a Backup,
}

impl Age<'_> {
    fn find(backup: &Backup) -> Result<Age<'_>> {
        let name = &backup.age_program;
        let is_program =
            |path: &PathBuf| path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
        let found = if name.is_absolute() {
            Some(name.clone()).filter(is_program)
        } else {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let places: Vec<PathBuf> =
                std::env::split_paths(&path).chain(PLACES.map(PathBuf::from)).collect();
            places.into_iter().map(|place| place.join(name)).find(is_program)
        };
        match found {
            Some(program) => Ok(Age { program, backup }),
            None => Err(Fault::unknown(format!(
                "there is no program {}, which encrypts and decrypts archives",
                name.display()
            ))
            .hint(
                "nothing was changed; install it (`apt install age`, `brew install age`), or set age_program in \
                 [backup] to its path",
            )
            .into()),
        }
    }

    fn encrypt(&self, input: &mut (impl Read + Send), output: &mut dyn Write) -> Filtered {
        let recipients = self.backup.encrypt_to.iter().flat_map(|to| match to.strip_prefix("file:") {
            Some(path) => ["-R", path],
            None => ["-r", to],
        });
        let words = ["-e"].into_iter().chain(recipients).map(OsString::from);
        self.filter(words.collect(), input, output)
    }

    fn decrypt(&self, input: &mut (impl Read + Send), output: &mut dyn Write) -> Filtered {
        let identity = self.backup.identity.clone().unwrap_or_default();
        self.filter(vec!["-d".into(), "-i".into(), identity.into()], input, output)
    }

    /// Sends the input through the program. Where it complains, its output is worth nothing.
    fn filter(
        &self,
        words: Vec<OsString>,
        input: &mut (impl Read + Send),
        output: &mut dyn Write,
    ) -> Filtered {
        let name = || format!("cannot run {}", self.program.display());
        let mut command = Command::new(&self.program);
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Ended(command.spawn().with_context(name)?);
        let pipes = (child.0.stdin.take(), child.0.stdout.take(), child.0.stderr.take());
        let (Some(mut stdin), Some(mut stdout), Some(stderr)) = pipes else {
            anyhow::bail!("{} has no pipes", self.program.display());
        };
        let (taken, fed, said) = std::thread::scope(|scope| {
            let feeding = scope.spawn(move || match pump(input, &mut stdin) {
                // It has seen enough; how it ends says why.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                done => done,
            });
            let listening = scope.spawn(move || {
                let (mut said, mut stderr) = (Vec::new(), stderr);
                let _ = (&mut stderr).take(16 << 10).read_to_end(&mut said);
                let _ = io::copy(&mut stderr, &mut io::sink());
                said
            });
            let taken = pump(&mut stdout, output);
            // Where nobody takes what it says, it would wait for ever.
            drop(stdout);
            let died = |_| Err(io::Error::other("a thread died"));
            (taken, feeding.join().unwrap_or_else(died), listening.join().unwrap_or_default())
        });
        let status = child.0.wait().with_context(name)?;
        taken?;
        fed.context("cannot read what goes through age")?;
        if status.success() {
            return Ok(Ok(()));
        }
        let said = String::from_utf8_lossy(&said);
        // The last words are about where to report bugs.
        let said = said.lines().next().unwrap_or_default();
        Ok(Err(match one_line(&self.without_keys(said), 200) {
            said if said.is_empty() => format!("{} ended with {status}", self.program.display()),
            said => said,
        }))
    }

    /// A text without any line of the identity file, should a program quote one.
    fn without_keys(&self, text: &str) -> String {
        let Some(identity) = &self.backup.identity else { return text.to_owned() };
        let mut keys = Vec::new();
        if let Ok(file) = File::open(identity) {
            let _ = file.take(64 << 10).read_to_end(&mut keys);
        }
        let keys = String::from_utf8_lossy(&keys).into_owned();
        let keys = keys.lines().map(str::trim).filter(|line| line.len() > 8 && !line.starts_with('#'));
        keys.fold(text.to_owned(), |text, key| redact(&text, key))
    }
}

/// A program that does not outlive its caller.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // Nothing, if it was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Copies in large pieces.
fn pump(from: &mut (impl Read + ?Sized), to: &mut (impl Write + ?Sized)) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return to.flush(),
            Ok(read) => to.write_all(&buffer[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Hashes and counts what goes through.
struct Hashed<'a, T> {
    inner: T,
    hash: Sha256,
    bytes: u64,
    progress: Option<&'a Progress>,
}

impl<'a, T> Hashed<'a, T> {
    fn new(inner: T, progress: Option<&'a Progress>) -> Hashed<'a, T> {
        Hashed { inner, hash: Sha256::new(), bytes: 0, progress }
    }

    fn took(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        if let Some(progress) = self.progress {
            progress.add(bytes.len() as u64);
        }
    }

    fn finish(self) -> String {
        hex(&self.hash.finalize())
    }
}

impl<T: Read> Read for Hashed<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.took(&buffer[..read]);
        Ok(read)
    }
}

impl<T: Write> Write for Hashed<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.took(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
