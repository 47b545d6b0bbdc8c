//! The peers: found or named as missing, started, and ended by pid.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// Where a peer is. One that is missing fails the test: nothing here is ever skipped.
#[track_caller]
pub fn peer(name: &str, package: &str) -> PathBuf {
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/lib/nagios/plugins"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("there is no {name}: install the package {package} (tests/real/packages)"))
}

/// Mounts and cron want root; CI has it.
#[track_caller]
pub fn as_root() {
    assert!(rustix::process::geteuid().is_root(), "this test makes mounts of its own: run it as root");
}

/// A process that ends with its test.
pub struct Running(pub Child);

impl Running {
    pub fn start(command: &mut Command) -> Running {
        Running(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Not waited for before, so the pid is still its own.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A webhook that takes what it is sent.
pub struct Sink {
    pub url: String,
    bodies: Receiver<serde_json::Value>,
}

impl Sink {
    pub fn start() -> Sink {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (send, bodies) = mpsc::channel();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let Some(body) = request(&mut stream) else { continue };
                let _ = send.send(serde_json::from_slice(&body).unwrap());
                let _ =
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
        });
        Sink { url, bodies }
    }

    /// What came since it was last asked. A sender has its answer only after its message is here.
    pub fn taken(&self) -> Vec<serde_json::Value> {
        self.bodies.try_iter().collect()
    }
}

/// The body of one request.
fn request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

/// Waits until something holds, at most so many seconds.
#[track_caller]
pub fn wait_long(seconds: u64, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !holds() {
        assert!(Instant::now() < deadline, "waited {seconds} s in vain until {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Runs a peer to its end, expects success, and gives what it printed.
#[track_caller]
pub fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}\n{error}", output.status);
    text
}

/// Asks the SQLite shell, which opens the database read-only.
#[track_caller]
pub fn sqlite(database: &Path, sql: &str) -> String {
    let mut command = Command::new(peer("sqlite3", "sqlite3"));
    output(command.arg("-readonly").args(["-cmd", ".timeout 10000"]).arg(database).arg(sql)).trim().to_owned()
}

/// An authority, and a certificate for `localhost` that it signed.
pub struct Authority {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

pub fn authority(folder: &Path) -> Authority {
    let path = |name: &str| folder.join(name).display().to_string();
    let openssl = |args: &[&str]| {
        output(Command::new(peer("openssl", "openssl")).args(args).current_dir(folder));
    };
    fs::write(folder.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
        .unwrap();
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=An authority",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
    ]);
    openssl(&[
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=localhost",
        "-keyout",
        "server.key",
        "-out",
        "server.csr",
    ]);
    openssl(&[
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        "names",
        "-out",
        "server.pem",
    ]);
    Authority {
        authority: path("ca.pem").into(),
        certificate: path("server.pem").into(),
        key: path("server.key").into(),
    }
}
