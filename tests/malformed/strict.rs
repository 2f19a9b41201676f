//! A strict reader of HTTP/1.1 requests, written from the RFCs and without a look at the sidecar's own. It reads whole streams: it
//! says what a client has sent, and what an upstream has received.

/// A request that is complete and well-formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub target: Vec<u8>,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    /// What is odd about it and still unambiguous.
    pub odd: Vec<&'static str>,
}

/// What a stream begins with.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// A request, and how many bytes it has.
    Whole(Request, usize),
    /// The beginning of one; with its head, if that is there.
    Begun(Option<Request>),
    /// Nothing that is one.
    Wrong(&'static str),
}

use Read::{Begun, Whole, Wrong};

impl Request {
    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        let named = self.headers.iter().filter(|(other, _)| other == name);
        named.map(|(_, value)| value.as_slice()).collect()
    }

    fn closes(&self) -> bool {
        let options = self.all("connection").join(&b',').to_ascii_lowercase();
        let mut options = options.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        options.any(|option| option == b"close")
    }
}

/// The requests that a client has sent, and what came after the last good one.
pub fn requests(mut stream: &[u8]) -> (Vec<Request>, Read) {
    let mut requests = Vec::new();
    loop {
        match read(stream) {
            Whole(request, length) => {
                let last = request.closes();
                requests.push(request);
                if last {
                    return (requests, Begun(None));
                }
                stream = &stream[length..];
            }
            end => return (requests, end),
        }
    }
}

pub fn read(stream: &[u8]) -> Read {
    let Some(end) = find(stream, b"\r\n\r\n") else {
        // A line that is wrong already is not mended by what follows.
        let complete = stream
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        return match lines(&stream[..complete]) {
            Err(why) => Wrong(why),
            Ok(lines) => match head(&lines, false) {
                Err(why) => Wrong(why),
                Ok(_) => Begun(None),
            },
        };
    };
    let head = lines(&stream[..end + 2]).and_then(|lines| head(&lines, true));
    let mut request = match head {
        Ok(request) => request,
        Err(why) => return Wrong(why),
    };
    let rest = &stream[end + 4..];
    let body = match (
        request.all("content-length").as_slice(),
        request.all("transfer-encoding").as_slice(),
    ) {
        ([], []) => Ok(Some((Vec::new(), 0))),
        ([length], []) => match std::str::from_utf8(length)
            .ok()
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        {
            Some(text) => match text.parse::<usize>() {
                Ok(length) if rest.len() >= length => Ok(Some((rest[..length].to_vec(), length))),
                Ok(_) => Ok(None),
                Err(_) => Err("content-length"),
            },
            None => Err("content-length"),
        },
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => {
            chunked(rest, &mut request.odd)
        }
        _ => Err("framing"),
    };
    match body {
        Ok(Some((body, length))) => {
            request.body = body;
            Whole(request, end + 4 + length)
        }
        Ok(None) => Begun(Some(request)),
        Err(why) => Wrong(why),
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// Lines that all end in CRLF, and have neither CR nor LF nor another control byte inside.
fn lines(mut bytes: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    let mut lines = Vec::new();
    while !bytes.is_empty() {
        let end = find(bytes, b"\r\n").ok_or("line end")?;
        let line = &bytes[..end];
        if line
            .iter()
            .any(|byte| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f)
        {
            return Err("control byte");
        }
        lines.push(line);
        bytes = &bytes[end + 2..];
    }
    Ok(lines)
}

fn is_token(bytes: &[u8]) -> bool {
    let is_char = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_char)
}

fn head(lines: &[&[u8]], complete: bool) -> Result<Request, &'static str> {
    let nothing = Request {
        method: String::new(),
        target: Vec::new(),
        headers: Vec::new(),
        body: Vec::new(),
        odd: Vec::new(),
    };
    let Some((first, rest)) = lines.split_first() else {
        return if complete {
            Err("request line")
        } else {
            Ok(nothing)
        };
    };
    let words: Vec<_> = first.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words.as_slice() else {
        return Err("request line");
    };
    if !is_token(method) || !matches!(*version, b"HTTP/1.1" | b"HTTP/1.0") {
        return Err("method or version");
    }
    let origin_form = target.starts_with(b"/") || (*target == b"*" && *method == b"OPTIONS");
    if !origin_form || target.contains(&b'#') {
        return Err("target");
    }
    let mut odd = Vec::new();
    if target
        .iter()
        .any(|byte| !byte.is_ascii_graphic() || b"\"<>\\^`{|}".contains(byte))
    {
        odd.push("a target with bytes that RFC 3986 would have encoded");
    }
    let mut headers = Vec::new();
    for line in rest {
        let colon = line
            .iter()
            .position(|byte| *byte == b':')
            .ok_or("no colon")?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if !is_token(name) {
            return Err("name");
        }
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        if !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        {
            odd.push("a name with other characters than letters, digits and hyphens");
        }
        if !value.is_ascii() {
            odd.push("a value with bytes beyond ASCII");
        }
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let start = value
            .iter()
            .position(|byte| !is_blank(byte))
            .unwrap_or(value.len());
        let end = value
            .iter()
            .rposition(|byte| !is_blank(byte))
            .map_or(start, |at| at + 1);
        headers.push((name, value[start..end].to_vec()));
    }
    let request = Request {
        method: String::from_utf8_lossy(method).into_owned(),
        target: target.to_vec(),
        headers,
        odd,
        ..nothing
    };
    let hosts = request.all("host");
    if hosts.len() > 1 || (complete && hosts.len() != 1) {
        return Err("host");
    }
    Ok(request)
}

type Body = Option<(Vec<u8>, usize)>;

fn chunked(stream: &[u8], odd: &mut Vec<&'static str>) -> Result<Body, &'static str> {
    let mut at = 0;
    let mut body = Vec::new();
    loop {
        let rest = &stream[at..];
        let Some(end) = find(rest, b"\r\n") else {
            let hexadecimal = rest
                .iter()
                .take_while(|byte| byte.is_ascii_hexdigit())
                .count();
            let fits = match rest.get(hexadecimal) {
                None | Some(b'\r') => hexadecimal > 0 || rest.is_empty(),
                Some(b';') => hexadecimal > 0 && !rest.contains(&b'\n'),
                _ => false,
            };
            return if fits { Ok(None) } else { Err("chunk") };
        };
        let line = lines(&rest[..end + 2])?[0];
        let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
        if size.len() < line.len() {
            odd.push("a chunk extension");
        }
        let size = std::str::from_utf8(size).map_err(|_| "chunk size")?;
        if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("chunk size");
        }
        let size = usize::from_str_radix(size, 16).map_err(|_| "chunk size")?;
        at += end + 2;
        if size == 0 {
            return trailers(stream, at, body);
        }
        let Some(next) = at.checked_add(size) else {
            return Err("chunk size");
        };
        match stream.get(at..next.saturating_add(2).min(stream.len())) {
            Some(data) if data.len() >= size => {
                let (data, after) = data.split_at(size);
                if !b"\r\n".starts_with(after) {
                    return Err("chunk end");
                }
                if after.len() < 2 {
                    return Ok(None);
                }
                body.extend_from_slice(data);
                at = next + 2;
            }
            _ => return Ok(None),
        }
    }
}

fn trailers(stream: &[u8], mut at: usize, body: Vec<u8>) -> Result<Body, &'static str> {
    loop {
        let Some(end) = find(&stream[at..], b"\r\n") else {
            return Ok(None);
        };
        let line = &stream[at..at + end];
        at += end + 2;
        if line.is_empty() {
            return Ok(Some((body, at)));
        }
        lines(&stream[at - end - 2..at])?;
        let colon = line
            .iter()
            .position(|byte| *byte == b':')
            .ok_or("trailer")?;
        if !is_token(&line[..colon]) {
            return Err("trailer");
        }
    }
}

#[test]
fn the_strict_reader_reads_strictly() {
    let stream = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nx: y\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let (found, end) = requests(stream);
    assert_eq!(end, Begun(None));
    assert_eq!(
        (
            found.len(),
            found[0].body.as_slice(),
            found[1].target.as_slice()
        ),
        (2, &b"abc"[..], &b"/"[..])
    );
    for wrong in [
        &b"GET / HTTP/1.1\nHost: a\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
    ] {
        assert!(matches!(read(wrong), Wrong(_)), "{}", String::from_utf8_lossy(wrong));
    }
    assert!(matches!(
        read(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx"),
        Begun(Some(_))
    ));
}
