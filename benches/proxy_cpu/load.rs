//! The requests: the same bytes for every system, over connections that stay open.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::BODY;

/// A system that answers nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

fn request(cookie: Option<&str>) -> Vec<u8> {
    let cookie = cookie
        .map(|cookie| format!("cookie: locale=en; {cookie}; cart=7\r\n"))
        .unwrap_or_default();
    format!(
        "GET /women/dresses?page=2 HTTP/1.1\r\nhost: shop.example\r\n\
         user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
         accept: text/html,application/xhtml+xml\r\naccept-language: en-GB,en\r\naccept-encoding: gzip, br\r\n{cookie}\r\n"
    )
    .into_bytes()
}

/// The visitor cookie that a system sets, as `name=value`.
pub(super) fn visitor_cookie(address: SocketAddr) -> Option<String> {
    let mut stream = connect(address);
    stream.write_all(&request(None)).unwrap();
    let mut reader = BufReader::new(stream);
    let (head, _) = read_answer(&mut reader);
    let line = head.lines().find(|line| {
        line.to_ascii_lowercase()
            .starts_with("set-cookie: visitor=")
    })?;
    Some(
        line["set-cookie: ".len()..]
            .split(';')
            .next()
            .unwrap()
            .to_owned(),
    )
}

/// Sends `requests` over `connections` and waits for all answers.
pub(super) fn load(address: SocketAddr, cookie: Option<&str>, requests: usize, connections: usize) {
    let request = Arc::new(request(cookie));
    let workers = (0..connections).map(|_| {
        let request = request.clone();
        std::thread::spawn(move || {
            let mut stream = connect(address);
            let mut reader = BufReader::with_capacity(16 * 1024, stream.try_clone().unwrap());
            for _ in 0..requests / connections {
                stream.write_all(&request).unwrap();
                let (head, body) = read_answer(&mut reader);
                assert!(head.starts_with("HTTP/1.1 200") && body == BODY, "{head}");
            }
        })
    });
    workers
        .collect::<Vec<_>>()
        .into_iter()
        .for_each(|worker| worker.join().unwrap());
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn read_answer(reader: &mut BufReader<TcpStream>) -> (String, usize) {
    let mut head = String::new();
    let mut length = 0;
    loop {
        let begin = head.len();
        assert!(
            reader.read_line(&mut head).unwrap() > 0,
            "the connection was closed: {head}"
        );
        let line = head[begin..].to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (head, length)
}
