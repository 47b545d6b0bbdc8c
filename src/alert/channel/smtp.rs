//! A conversation with a mail server (RFC 5321, 3207, 4954), with lettre's commands and answers.
//!
//! lettre's own conversation (0.11.23) keeps what it read ahead across STARTTLS: answers that somebody on the way
//! wrote in clear before the handshake count as the server's after it, and a mail that nobody got is delivered.
//! Here nothing is read ahead: what comes too early meets the handshake, and ends it.

use lettre::Message;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::commands::{Auth, Data, Ehlo, Mail, Quit, Rcpt, Starttls};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter, ServerInfo};
use lettre::transport::smtp::response::{Response, Severity};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::fmt::Display;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most that one answer may have, and one line of it.
const MOST: usize = 100_000;
const LINE: usize = 1000;

/// How a connection is encrypted.
pub(super) enum Encryption {
    /// Not at all.
    None,
    /// After STARTTLS, which must be offered.
    Starttls(Arc<ClientConfig>),
    /// From the first byte.
    Wrapped(Arc<ClientConfig>),
}

/// Whom to talk to, as whom.
pub(super) struct Server<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) encryption: Encryption,
    pub(super) login: Option<Credentials>,
    /// The most that one answer may take.
    pub(super) patience: Duration,
    /// When all must be done.
    pub(super) deadline: Instant,
}

/// Why a mail was not taken.
#[derive(Debug)]
pub(super) struct Failure {
    /// The server will not take it later either.
    pub(super) permanent: bool,
    pub(super) why: String,
}

impl Failure {
    fn passing(why: impl Into<String>) -> Failure {
        Failure { permanent: false, why: why.into() }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::passing(match error.kind() {
            // The system calls a wait that was too long "temporarily unavailable".
            ErrorKind::WouldBlock | ErrorKind::TimedOut => "the server did not answer in time".to_owned(),
            ErrorKind::UnexpectedEof => "the server hung up".to_owned(),
            _ => error.to_string(),
        })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::passing(error.to_string())
    }
}

/// The connection, as it is by now.
enum Stream {
    Clear(TcpStream),
    Encrypted(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn connect(host: &str, port: u16, patience: Duration) -> io::Result<TcpStream> {
        let mut last = io::Error::new(ErrorKind::NotFound, format!("{host} has no address"));
        for address in (host, port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, patience) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(patience))?;
                    stream.set_write_timeout(Some(patience))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Encrypts it from here on: the handshake is the next that is read.
    fn encrypt(stream: TcpStream, host: &str, config: &Arc<ClientConfig>) -> io::Result<Stream> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        stream.conn.complete_io(&mut stream.sock)?;
        Ok(Stream::Encrypted(Box::new(stream)))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Clear(stream) => stream.write_all(bytes),
            Stream::Encrypted(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        match self {
            Stream::Clear(stream) => stream.read_exact(bytes),
            Stream::Encrypted(stream) => stream.read_exact(bytes),
        }
    }
}

impl Server<'_> {
    /// Has the server take a mail for all its recipients.
    pub(super) fn send(self, mail: &Message) -> Result<(), Failure> {
        let stream = Stream::connect(self.host, self.port, self.patience)?;
        let stream = match &self.encryption {
            Encryption::Wrapped(config) => Stream::encrypt(stream, self.host, config)?,
            Encryption::None | Encryption::Starttls(_) => Stream::Clear(stream),
        };
        let me = ClientId::default();
        let mut talk = Talk { stream, deadline: self.deadline };
        talk.answer(&[220])?;
        let mut server = talk.hello(&me)?;
        if let Encryption::Starttls(config) = &self.encryption {
            if !server.supports_feature(Extension::StartTls) {
                return Err(Failure::passing("STARTTLS is not supported on this server"));
            }
            talk.say(Starttls, &[220])?;
            talk.stream = match talk.stream {
                Stream::Clear(stream) => Stream::encrypt(stream, self.host, config)?,
                encrypted @ Stream::Encrypted(_) => encrypted,
            };
            // What it said in clear is forgotten.
            server = talk.hello(&me)?;
        }
        if let Some(credentials) = &self.login {
            talk.log_in(&server, credentials)?;
        }
        talk.deliver(&server, mail)?;
        // It is taken, whatever comes now.
        let _ = talk.say(Quit, &[221]);
        Ok(())
    }
}

struct Talk {
    stream: Stream,
    deadline: Instant,
}

impl Talk {
    fn hello(&mut self, me: &ClientId) -> Result<ServerInfo, Failure> {
        let answer = self.say(Ehlo::new(me.clone()), &[250])?;
        Ok(ServerInfo::from_response(&answer)?)
    }

    fn log_in(&mut self, server: &ServerInfo, credentials: &Credentials) -> Result<(), Failure> {
        let mechanism = server
            .get_auth_mechanism(&[Mechanism::Plain, Mechanism::Login])
            .ok_or_else(|| Failure::passing("No compatible authentication mechanism was found"))?;
        let mut answer = self.say(Auth::new(mechanism, credentials.clone(), None)?, &[235, 334])?;
        for _ in 0..10 {
            if answer.has_code(235) {
                return Ok(());
            }
            answer =
                self.say(Auth::new_from_response(mechanism, credentials.clone(), &answer)?, &[235, 334])?;
        }
        Err(Failure::passing("the server does not stop asking who we are"))
    }

    fn deliver(&mut self, server: &ServerInfo, mail: &Message) -> Result<(), Failure> {
        let envelope = mail.envelope();
        let content = mail.formatted();
        let mut addresses = envelope.from().into_iter().chain(envelope.to()).map(AsRef::<str>::as_ref);
        let mut options = Vec::new();
        let wanted = [
            (!addresses.all(str::is_ascii), Extension::SmtpUtfEight, MailParameter::SmtpUtfEight),
            (
                !content.is_ascii(),
                Extension::EightBitMime,
                MailParameter::Body(MailBodyParameter::EightBitMime),
            ),
        ];
        for (needed, extension, parameter) in wanted {
            if needed && !server.supports_feature(extension) {
                return Err(Failure::passing(format!("the server does not know {extension}")));
            }
            options.extend(needed.then_some(parameter));
        }
        self.say(Mail::new(envelope.from().cloned(), options), &[250])?;
        for to in envelope.to() {
            self.say(Rcpt::new(to.clone(), Vec::new()), &[250, 251, 252])?;
        }
        self.say(Data, &[354])?;
        self.write(&stuffed(&content))?;
        self.answer(&[250]).map(drop)
    }

    fn say(&mut self, command: impl Display, expected: &[u16]) -> Result<Response, Failure> {
        self.write(command.to_string().as_bytes())?;
        self.answer(expected)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.stream.write(bytes)?)
    }

    /// The next answer, read to its last line and no further. One with a code that does not belong to the command
    /// counts as none.
    fn answer(&mut self, expected: &[u16]) -> Result<Response, Failure> {
        let mut text = Vec::new();
        let mut begin = 0;
        loop {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            text.push(byte[0]);
            if text.len() > MOST || text.len() - begin > LINE || Instant::now() > self.deadline {
                return Err(Failure::passing("the server's answer does not end"));
            }
            if byte != *b"\n" {
                continue;
            }
            // `250-` goes on, `250 ` is the last.
            if text.get(begin + 3) != Some(&b'-') {
                break;
            }
            begin = text.len();
        }
        let text = String::from_utf8_lossy(&text);
        let answer: Response =
            text.parse().map_err(|_| Failure::passing(format!("the server answers '{}'", text.trim())))?;
        if expected.iter().any(|code| answer.has_code(*code)) {
            return Ok(answer);
        }
        let permanent = answer.code().severity == Severity::PermanentNegativeCompletion;
        let words: Vec<&str> = answer.message().collect();
        let kind = if permanent { "permanent error" } else { "transient error" };
        Err(Failure { permanent, why: format!("{kind} ({}): {}", answer.code(), words.join(" ")) })
    }
}

/// The lines of a mail as they are sent: a dot that begins one is doubled, a dot alone ends them.
fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 16);
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    if !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::stuffed;

    #[test]
    fn a_dot_alone_ends_a_mail_only_at_its_end() {
        assert_eq!(stuffed(b"a\r\n.b\r\n.\r\nc"), b"a\r\n..b\r\n..\r\nc\r\n.\r\n");
        assert_eq!(stuffed(b"a\r\n"), b"a\r\n.\r\n");
    }
}
