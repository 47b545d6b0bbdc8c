//! S3-compatible storage on this machine, that can be told to fail: 5xx, silence, cut
//! connections, lost answers, lies. It knows one bucket, `b`, and one access key.

use crate::hostile::Dice;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest, Md5};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// The id of the key that is let in.
pub const KEY: &str = "AKIATESTKEYID";

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug)]
pub enum Fail {
    /// Answered with this status; nothing is done.
    Status(u16),
    /// The connection ends without an answer; nothing is done.
    Cut,
    /// All is done, and then the connection ends without an answer.
    Lost,
    /// Answered as if it were done; nothing is done.
    Lie,
    /// What is stored is not what came.
    Corrupt,
    /// Half of the answer comes, then the connection ends.
    Half,
    /// Half of the answer comes, as if it were all of it.
    Truncated,
    /// It takes so long, then all is well.
    Slow(Duration),
    /// Answered with 200, and an error in the document.
    ErrorInside,
    /// Done, and answered with something else each time, from this seed.
    Odd(u64),
}

const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

#[derive(Clone, Debug)]
pub struct Object {
    pub content: Vec<u8>,
    pub headers: BTreeMap<String, String>,
    /// As it is sent.
    pub etag: String,
}

#[derive(Clone, Debug, Default)]
pub struct Upload {
    pub key: String,
    pub begun: String,
    pub headers: BTreeMap<String, String>,
    pub parts: BTreeMap<u16, (Vec<u8>, String)>,
}

/// How a list has no end.
#[derive(Clone, Copy, Debug)]
pub enum Endless {
    /// The same page again and again.
    Same,
    /// Another page each time, of other people's keys.
    Other,
    /// Another page each time, of archives.
    Archives,
}

#[derive(Default)]
pub struct Store {
    pub objects: BTreeMap<String, Object>,
    pub uploads: BTreeMap<String, Upload>,
    /// What was asked, in order: `put`, `part`, `head` …
    pub asked: Vec<&'static str>,
    /// The operation, what goes wrong with it, and how often still.
    pub faults: Vec<(&'static str, Fail, usize)>,
    /// Makes an ETag of its number, with its quotes if it has any, where it is not the MD5.
    pub etag: Option<fn(u64) -> String>,
    /// For how long requests were signed, at most.
    pub longest: u64,
    /// Lists have no end: with one token for ever, or with another each time.
    pub endless: Option<Endless>,
    /// It takes no notice of what is to be copied.
    pub no_copy: bool,
    /// At most so many in one page of a list; 0: all.
    pub page: usize,
    /// The namespace of documents, where it is not that of Amazon. Empty: they have none.
    pub namespace: Option<&'static str>,
    count: u64,
}

/// A storage; it ends with the test.
pub struct Storage {
    store: Arc<Mutex<Store>>,
    pub endpoint: String,
}

struct Request {
    method: String,
    key: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

#[derive(Default)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Storage {
    pub fn start() -> Storage {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let store = Arc::new(Mutex::new(Store::default()));
        let shared = store.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, store) = (stream.unwrap(), shared.clone());
                std::thread::spawn(move || while serve(&stream, &store).is_some() {});
            }
        });
        Storage { store, endpoint }
    }

    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }

    /// From now on `operation` goes wrong so many times.
    pub fn fail(&self, operation: &'static str, fail: Fail, times: usize) {
        self.store().faults.push((operation, fail, times));
    }

    /// All is well again; gives what was asked since the last time.
    pub fn mend(&self) -> Vec<&'static str> {
        let mut store = self.store();
        store.faults.clear();
        std::mem::take(&mut store.asked)
    }
}

fn decode(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, more @ ..] = rest {
        match (first, more) {
            (b'%', [a, b, tail @ ..]) => {
                let hex = [*a, *b];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|&read| read > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let query = query.map(|(name, value)| (decode(name), decode(value))).collect();
    let key = decode(path.strip_prefix("/b/").unwrap_or("?no such bucket"));
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, key, query, headers, body })
}

fn operation(request: &Request) -> &'static str {
    let has = |name: &str| request.query.contains_key(name);
    match request.method.as_str() {
        "PUT" if has("partNumber") => "part",
        "PUT" => "put",
        "POST" if has("uploads") => "begin",
        "POST" => "complete",
        "HEAD" => "head",
        "DELETE" if has("uploadId") => "abort",
        "DELETE" => "delete",
        _ if has("uploads") => "uploads",
        _ if has("uploadId") => "parts",
        _ if has("list-type") => "list",
        _ => "get",
    }
}

fn serve(stream: &TcpStream, store: &Mutex<Store>) -> Option<()> {
    let mut request = read(stream)?;
    let operation = operation(&request);
    let fail = {
        let mut store = store.lock().unwrap();
        store.asked.push(operation);
        store.faults.iter_mut().find(|(of, _, times)| *of == operation && *times > 0).map(|fault| {
            fault.2 -= 1;
            fault.1
        })
    };
    let mut reply = Reply { status: 200, ..Reply::default() };
    match fail {
        Some(Fail::Status(status)) => reply = error(status, "InternalError"),
        Some(Fail::Cut) => return None,
        Some(Fail::Lie) => reply.headers.push(("ETag".to_owned(), "\"lie\"".to_owned())),
        Some(Fail::ErrorInside) => reply = Reply { status: 200, ..error(500, "InternalError") },
        Some(Fail::Truncated) => {
            reply = answer(&request, operation, &mut store.lock().unwrap());
            reply.body.truncate(reply.body.len() / 2);
        }
        Some(Fail::Slow(time)) => {
            std::thread::sleep(time);
            reply = answer(&request, operation, &mut store.lock().unwrap());
        }
        Some(Fail::Corrupt) => {
            // Also what the client says of it, so that it is let in.
            request.body[7] ^= 1;
            request.headers.remove("content-md5");
            reply = answer(&request, operation, &mut store.lock().unwrap());
        }
        Some(Fail::Odd(seed)) => {
            let mut store = store.lock().unwrap();
            store.count += 1;
            let mut dice = Dice::new(seed.wrapping_add(store.count));
            reply = answer(&request, operation, &mut store);
            drop(store);
            distort(&mut reply, &mut dice);
        }
        Some(Fail::Lost | Fail::Half) | None => {
            reply = answer(&request, operation, &mut store.lock().unwrap());
        }
    }
    if matches!(fail, Some(Fail::Lost)) {
        return None;
    }
    if let Some(other) = store.lock().unwrap().namespace {
        let attribute =
            |space: &str| if space.is_empty() { String::new() } else { format!(" xmlns=\"{space}\"") };
        if let Ok(text) = std::str::from_utf8(&reply.body) {
            reply.body = text.replacen(&attribute(NAMESPACE), &attribute(other), 1).into_bytes();
        }
    }
    let mut head = format!("HTTP/1.1 {} Whatever\r\n", reply.status);
    if request.method != "HEAD" && !reply.headers.iter().any(|(name, _)| name == "Content-Length") {
        let _ = write!(head, "Content-Length: {}\r\n", reply.body.len());
    }
    for (name, value) in &reply.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head.push_str("\r\n");
    let (mut stream, mut all) = (stream, head.into_bytes());
    match fail {
        Some(Fail::Half) => all.extend_from_slice(&reply.body[..reply.body.len() / 2]),
        _ if request.method == "HEAD" => {}
        _ => all.extend_from_slice(&reply.body),
    }
    // At once: of two pieces the second would wait until the first is acknowledged.
    stream.write_all(&all).ok().filter(|()| !matches!(fail, Some(Fail::Half)))
}

/// Makes an answer one that no storage gives, or leaves it as it is.
fn distort(reply: &mut Reply, dice: &mut Dice) {
    for _ in 0..dice.below(3) {
        let length = reply.body.len();
        match dice.below(11) {
            0 => reply.status = dice.one(&[200, 204, 206, 301, 400, 403, 404, 416, 500, 999]),
            1 => reply.body.truncate(dice.below(length + 1)),
            2 if length > 0 => reply.body[dice.below(length)] = dice.one(b"<>&\0\"\xff9a"),
            3 => reply.body = (0..dice.below(4_000)).map(|_| dice.below(256) as u8).collect(),
            4 => reply.body = reply.body.repeat(if length < 1 << 20 { dice.below(20) } else { 1 }),
            // Longer than anything that is asked for.
            5 => reply.body.resize(24 << 20, b' '),
            6 => reply.body = b"<a>".repeat(100_000),
            7 => reply
                .headers
                .push(("Content-Length".to_owned(), dice.one(&["0", "7", "999999999999", "-1"]).to_owned())),
            8 => {
                reply.headers.push(("ETag".to_owned(), dice.one(&["", "\"", "W/\"\"", "\u{e9}"]).to_owned()))
            }
            9 => {
                let name =
                    dice.one(&["bytes", "sha256", "time", "sequence", "note", "signature", "agent", "etag"]);
                let value =
                    dice.one(&["", "x", "18446744073709551615", "-1", "2026-99-99", ":", "e30=", "00:00"]);
                reply.headers.retain(|(known, _)| !known.ends_with(name));
                reply.headers.push((format!("x-amz-meta-{name}"), value.to_owned()));
            }
            _ => reply.headers.extend((0..300).map(|n| (format!("X-{n}"), "y".repeat(500)))),
        }
    }
}

fn error(status: u16, code: &str) -> Reply {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>told so</Message></Error>");
    Reply { status, headers: Vec::new(), body: body.into_bytes() }
}

fn document(name: &str, inner: &str) -> Reply {
    let body = format!("<?xml version=\"1.0\"?><{name} xmlns=\"{NAMESPACE}\">{inner}</{name}>");
    Reply { status: 200, headers: Vec::new(), body: body.into_bytes() }
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&apos;")
}

fn md5(bytes: &[u8]) -> String {
    agent_ops::base::text::hex(&Md5::digest(bytes))
}

/// A page of a list that has no end.
fn endless_list(endless: Endless, prefix: &str, count: u64) -> Reply {
    let (name, token) = match endless {
        Endless::Same => ("20261101_030000.tar.gz".to_owned(), 1),
        Endless::Other => (format!("video-{count}.mp4"), count),
        Endless::Archives => ("20261101_030000.tar.gz".to_owned(), count),
    };
    let times = if matches!(endless, Endless::Archives) { 1000 } else { 1 };
    let contents = format!("<Contents><Key>{prefix}{name}</Key><Size>9</Size></Contents>").repeat(times);
    let inner = format!(
        "<IsTruncated>true</IsTruncated>{contents}<NextContinuationToken>{token}</NextContinuationToken>"
    );
    document("ListBucketResult", &inner)
}

fn answer(request: &Request, operation: &str, store: &mut Store) -> Reply {
    let credential = request.query.get("X-Amz-Credential").cloned().unwrap_or_default();
    let signed = request.query.get("X-Amz-Signature").is_some_and(|signature| signature.len() == 64);
    if credential.split('/').next() != Some(KEY) || !signed {
        return error(403, "InvalidAccessKeyId");
    }
    if request.key.starts_with('?') {
        return error(404, "NoSuchBucket");
    }
    if let Some(sum) = request.headers.get("content-md5")
        && *sum != BASE64.encode(Md5::digest(&request.body))
    {
        return error(400, "BadDigest");
    }
    store.count += 1;
    let count = store.count;
    let lasts = request.query.get("X-Amz-Expires").and_then(|lasts| lasts.parse().ok());
    store.longest = store.longest.max(lasts.unwrap_or(u64::MAX));
    let etag = store.etag;
    let etag = |md5: String| etag.map_or(format!("\"{md5}\""), |etag| etag(count));
    let key = request.key.clone();
    let id = request.query.get("uploadId").cloned().unwrap_or_default();
    let kept = |headers: &BTreeMap<String, String>| -> BTreeMap<String, String> {
        headers
            .iter()
            .filter(|(name, _)| name.starts_with("x-amz-meta-"))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    match operation {
        "put" if request.headers.contains_key("x-amz-copy-source") && !store.no_copy => {
            let source = decode(&request.headers["x-amz-copy-source"]);
            let Some(object) = store.objects.get(source.strip_prefix("/b/").unwrap()) else {
                return error(404, "NoSuchKey");
            };
            let object = Object { headers: kept(&request.headers), ..object.clone() };
            store.objects.insert(key, object);
            document("CopyObjectResult", "")
        }
        "put" => {
            let etag = etag(md5(&request.body));
            let object = Object { content: request.body.clone(), headers: kept(&request.headers), etag };
            store.objects.insert(key, object);
            Reply { status: 200, ..Reply::default() }
        }
        "head" | "get" => {
            let Some(object) = store.objects.get(&key) else { return error(404, "NoSuchKey") };
            let mut headers: Vec<(String, String)> = object.headers.clone().into_iter().collect();
            headers.push(("ETag".to_owned(), object.etag.clone()));
            if operation == "head" {
                headers.push(("Content-Length".to_owned(), object.content.len().to_string()));
                return Reply { status: 200, headers, body: Vec::new() };
            }
            let range = request.headers["range"].strip_prefix("bytes=").unwrap().split_once('-').unwrap();
            let (from, to): (usize, usize) = (range.0.parse().unwrap(), range.1.parse().unwrap());
            Reply { status: 206, headers, body: object.content[from..=to].to_vec() }
        }
        "delete" => {
            store.objects.remove(&key);
            Reply { status: 204, ..Reply::default() }
        }
        "list" => {
            let prefix = &request.query["prefix"];
            if let Some(endless) = store.endless {
                return endless_list(endless, prefix, count);
            }
            let after = request.query.get("continuation-token").cloned().unwrap_or_default();
            let all: Vec<_> =
                store.objects.iter().filter(|(key, _)| key.starts_with(prefix) && **key > after).collect();
            let page = if store.page == 0 { all.len() } else { store.page.min(all.len()) };
            let mut inner = format!("<IsTruncated>{}</IsTruncated>", page < all.len());
            for (key, object) in &all[..page] {
                let size = object.content.len();
                let _ = write!(inner, "<Contents><Key>{key}</Key><Size>{size}</Size></Contents>");
            }
            if page < all.len() {
                let _ = write!(inner, "<NextContinuationToken>{}</NextContinuationToken>", all[page - 1].0);
            }
            document("ListBucketResult", &inner)
        }
        "begin" => {
            let id = format!("upload-{count}");
            let upload = Upload {
                key,
                begun: "2026-11-20T00:00:00.000Z".to_owned(),
                headers: kept(&request.headers),
                parts: BTreeMap::new(),
            };
            store.uploads.insert(id.clone(), upload);
            document("InitiateMultipartUploadResult", &format!("<UploadId>{id}</UploadId>"))
        }
        "uploads" => {
            let prefix = &request.query["prefix"];
            let mut inner = "<IsTruncated>false</IsTruncated>".to_owned();
            for (id, upload) in store.uploads.iter().filter(|(_, upload)| upload.key.starts_with(prefix)) {
                let (key, begun) = (&upload.key, &upload.begun);
                let _ = write!(
                    inner,
                    "<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>{begun}</Initiated></Upload>"
                );
            }
            document("ListMultipartUploadsResult", &inner)
        }
        "part" => {
            let etag = etag(md5(&request.body));
            let Some(upload) = store.uploads.get_mut(&id) else { return error(404, "NoSuchUpload") };
            let number = request.query["partNumber"].parse().unwrap();
            upload.parts.insert(number, (request.body.clone(), etag.clone()));
            let headers = vec![("ETag".to_owned(), etag)];
            Reply { status: 200, headers, body: Vec::new() }
        }
        "parts" => {
            let Some(upload) = store.uploads.get(&id) else { return error(404, "NoSuchUpload") };
            let mut inner = "<MaxParts>1000</MaxParts><IsTruncated>false</IsTruncated>".to_owned();
            for (number, (content, etag)) in &upload.parts {
                let size = content.len();
                let _ = write!(
                    inner,
                    "<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag>\
                     <LastModified>2026-11-20T00:00:00.000Z</LastModified><Size>{size}</Size></Part>",
                    escaped(etag)
                );
            }
            document("ListPartsResult", &inner)
        }
        "complete" => {
            let Some(upload) = store.uploads.get(&id) else { return error(404, "NoSuchUpload") };
            let asked = String::from_utf8_lossy(&request.body).into_owned();
            assert_eq!(asked.matches("<PartNumber>").count(), upload.parts.len(), "every part is named");
            let named = |etag: &str| asked.contains(&format!("<ETag>{}</ETag>", escaped(etag)));
            if !upload.parts.values().all(|(_, etag)| named(etag)) {
                return error(400, "InvalidPart");
            }
            let Some(upload) = store.uploads.remove(&id) else { return error(404, "NoSuchUpload") };
            let content: Vec<u8> = upload.parts.values().flat_map(|(content, _)| content.clone()).collect();
            let md5s: Vec<u8> =
                upload.parts.values().flat_map(|(content, _)| Md5::digest(content).to_vec()).collect();
            let etag = etag(format!("{}-{}", md5(&md5s), upload.parts.len()));
            store.objects.insert(key, Object { content, headers: upload.headers, etag: etag.clone() });
            document("CompleteMultipartUploadResult", &format!("<ETag>{}</ETag>", escaped(&etag)))
        }
        "abort" => {
            store.uploads.remove(&id);
            Reply { status: 204, ..Reply::default() }
        }
        other => panic!("no operation {other}"),
    }
}
