//! The program `age`: found, run as a filter, and the form of what it writes.
//!
//! The program and not the crate, by measurement (benches/README.md). The secret key is the path of a
//! file that `age` reads itself; here it is read only to strike it out of a complaint.

use crate::base::Fault;
use crate::base::secret::redact;
use crate::base::text::one_line;
use crate::config::Backup;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
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
pub fn is_encrypted(path: &Path) -> bool {
    let mut start = [0; MAGIC.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == *MAGIC
}

/// The length that a file of `age` has whose content is so long, by its header. None: it has no
/// such header.
pub(super) fn expected_length(file: &File, content: u64) -> io::Result<Option<u64>> {
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
pub(super) type Filtered = Result<std::result::Result<(), String>>;

/// The program.
pub(super) struct Age<'a> {
    program: PathBuf,
    pub(super) backup: &'a Backup,
}

impl Age<'_> {
    /// Finds it.
    ///
    /// # Errors
    /// A [`Fault`] of state Unknown where there is none.
    pub(super) fn find(backup: &Backup) -> Result<Age<'_>> {
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

    /// Encrypts to the configured recipients.
    pub(super) fn encrypt(&self, input: &mut (impl Read + Send), output: &mut dyn Write) -> Filtered {
        let recipients = self.backup.encrypt_to.iter().flat_map(|to| match to.strip_prefix("file:") {
            Some(path) => ["-R", path],
            None => ["-r", to],
        });
        let words = ["-e"].into_iter().chain(recipients).map(OsString::from);
        self.filter(words.collect(), input, output)
    }

    /// Decrypts with the configured identity.
    pub(super) fn decrypt(&self, input: &mut (impl Read + Send), output: &mut dyn Write) -> Filtered {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Seek;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.rewind().unwrap();
        file
    }

    #[test]
    fn the_length_follows_from_the_header_and_the_content() {
        let header = b"age-encryption.org/v1\n-> X25519 abc\ndef\n--- mac\n";
        let length = |content| expected_length(&file(header), content).unwrap().unwrap();
        let bare = header.len() as u64 + 16;
        assert_eq!(length(0), bare + 16);
        assert_eq!(length(1), bare + 1 + 16);
        assert_eq!(length(65536), bare + 65536 + 16);
        assert_eq!(length(65537), bare + 65537 + 32);
        for other in [&b""[..], b"age-encryption.org/v1\n", b"-----BEGIN AGE", b"x\n--- mac\n"] {
            assert_eq!(expected_length(&file(other), 1).unwrap(), None);
        }
    }

    #[test]
    fn what_a_program_says_is_shown_without_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let identity = dir.path().join("key");
        std::fs::write(&identity, "# made today\nAGE-SECRET-KEY-1QQQQQQQQ\n").unwrap();
        let backup = Backup { identity: Some(identity), ..Backup::default() };
        let age = Age { program: PathBuf::new(), backup: &backup };
        assert_eq!(age.without_keys("bad line: AGE-SECRET-KEY-1QQQQQQQQ"), "bad line: [redacted]");
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_length_or_none(bytes in any::<Vec<u8>>()) {
            expected_length(&file(&bytes), 9).unwrap();
        }
    }
}
