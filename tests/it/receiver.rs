//! Who is told: a server that notes each request, a web hook, a mail server; and homes whose
//! alerts go there.

use crate::sandbox::{Said, Sandbox, said};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// One request, as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// With its query.
    pub path: String,
    /// By name in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

/// What is answered: a status line with headers, and a body; none: never.
type Answers = Box<dyn FnMut(&Request) -> Option<(String, String)> + Send>;

/// A server that notes each request.
pub struct Receiver {
    pub url: String,
    got: Arc<Mutex<Vec<Request>>>,
    answers: Arc<Mutex<Answers>>,
}

impl Receiver {
    pub fn new() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let got = Arc::new(Mutex::new(Vec::new()));
        let answers: Arc<Mutex<Answers>> =
            Arc::new(Mutex::new(Box::new(|_| Some(("200 OK".into(), String::new())))));
        let receiver = Receiver { url, got: got.clone(), answers: answers.clone() };
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read_request(&mut stream) else { continue };
                let answer = answers.lock().unwrap()(&request);
                got.lock().unwrap().push(request);
                match answer {
                    None => kept.push(stream),
                    Some((status, body)) => {
                        let length = body.len();
                        let answer = format!(
                            "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                        );
                        let _ = stream.write_all(answer.as_bytes());
                    }
                }
            }
        });
        receiver
    }

    pub fn answer(&self, answers: impl FnMut(&Request) -> Option<(String, String)> + Send + 'static) {
        *self.answers.lock().unwrap() = Box::new(answers);
    }

    /// What came since it was last asked.
    pub fn take(&self) -> Vec<Request> {
        std::mem::take(&mut *self.got.lock().unwrap())
    }

    pub fn is_empty(&self) -> bool {
        self.got.lock().unwrap().is_empty()
    }
}

/// None: the other side went away.
fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { path, headers, body })
}

/// A web hook that notes what it is sent.
pub struct Hook {
    pub url: String,
    pub receiver: Receiver,
}

/// A status that never comes.
pub const SILENCE: u16 = 0;

impl Hook {
    pub fn new() -> Hook {
        let receiver = Receiver::new();
        Hook { url: format!("{}/hook", receiver.url), receiver }
    }

    pub fn answer(&self, status: u16) {
        self.receiver.answer(move |_| (status != SILENCE).then(|| (format!("{status} X"), String::new())));
    }

    /// What came since it was last asked.
    pub fn take(&self) -> Vec<Value> {
        self.receiver.take().iter().map(Request::json).collect()
    }

    /// The kinds of what came, in order.
    pub fn kinds(&self) -> Vec<String> {
        self.take().iter().map(|message| message["kind"].as_str().unwrap().to_owned()).collect()
    }
}

/// No agent at all, but `checks` checks of the size of `data/*.log`, and where alerts go.
pub fn with_checks(checks: usize, alerts: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let checks: String = (0..checks)
        .map(|number| {
            format!(
                "[check.size{number}]\nkind = \"log_size\"\nwarn = \"1KB\"\ncrit = \"10KB\"\n\
                 alert_warning = \"disk_low\"\nalert_critical = \"disk_critical\"\n"
            )
        })
        .collect();
    sandbox.write(
        "ops.toml",
        format!(
            "[agent]\nname = \"mama\"\npreset = \"none\"\n[logs]\ninclude = [\"data/*.log\"]\n\
             {checks}[alerts.desktop]\nenabled = false\n{alerts}"
        ),
    );
    sandbox
}

pub fn webhook(hook: &Hook) -> String {
    format!("[alerts.webhook]\nurl = \"{}\"\n", hook.url)
}

pub fn warn(sandbox: &Sandbox) {
    sandbox.write("data/a.log", [b'x'; 2000]);
}

pub fn crit(sandbox: &Sandbox) {
    sandbox.write("data/a.log", [b'x'; 20_000]);
}

pub fn good(sandbox: &Sandbox) {
    sandbox.write("data/a.log", "");
}

/// A run of `alert` at a time of day, such as `12:05`, on one certain day; or at any other time.
#[track_caller]
pub fn at(code: i32, sandbox: &Sandbox, time: &str) -> Said {
    let now = if time.contains('T') { time.to_owned() } else { format!("2026-11-20T{time}:00Z") };
    let said = said(sandbox.program("alert").env("OPS_NOW", now).output().unwrap());
    assert_eq!(said.code, code, "at {time}\n{}\n{}", said.stdout, said.stderr);
    said
}

pub fn log_lines(sandbox: &Sandbox) -> Vec<String> {
    sandbox.read("logs/alerts.log").lines().map(str::to_owned).collect()
}

/// A mail server that takes one mail a connection, and answers RCPT as it is told.
pub fn mail_server(answer: &'static str) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mails = Arc::new(Mutex::new(Vec::new()));
    let kept = mails.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut say = |text: &str| stream.write_all(format!("{text}\r\n").as_bytes()).is_ok();
            say("220 mail.test");
            let mut mail: Option<String> = None;
            while let Some(Ok(line)) = lines.next() {
                match &mut mail {
                    Some(_) if line == "." => {
                        kept.lock().unwrap().extend(mail.take());
                        say("250 taken");
                    }
                    Some(mail) => {
                        mail.push_str(&line);
                        mail.push('\n');
                    }
                    None if line.starts_with("RCPT") => drop(say(answer)),
                    None if line == "DATA" => {
                        mail = Some(String::new());
                        say("354 go on");
                    }
                    None if line == "QUIT" => {
                        say("221 bye");
                        break;
                    }
                    None => drop(say("250 fine")),
                }
            }
        }
    });
    (port, mails)
}

pub fn email(port: u16) -> String {
    format!(
        "[alerts.email]\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\n\
         from = \"Mama <mama@example.org>\"\nto = [\"me@example.org\"]\n"
    )
}
