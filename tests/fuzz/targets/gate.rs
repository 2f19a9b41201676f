//! The request gate, and httparse as the second reader: pingora reads with it.

use dressipi_sidecar::fuzzing::judge_connection;
use dressipi_sidecar::gate::Refusal;
use httparse::Status;

use super::{Target, number};

pub const TARGET: Target = Target {
    name: "gate",
    words: &[
        "\r\n",
        "\r\n\r\n",
        "\n",
        "\r",
        " ",
        "\t",
        ":",
        ",",
        ";",
        "\0",
        "0\r\n\r\n",
        "5\r\nhello\r\n",
        " HTTP/1.1\r\n",
        " HTTP/1.0\r\n",
        "Host: shop.example\r\n",
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "transfer_encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Connection: close\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\n",
        "Expect: 100-continue\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "chunked",
        "identity",
        "OPTIONS *",
        "CONNECT",
        "http://a/",
        "#",
        "%00",
    ],
    check,
};

/// Small and large, so that inputs come near both.
const LIMITS: [(usize, usize); 2] = [(160, 6), (16 * 1024, 100)];

fn check(input: &[u8]) {
    for (bytes, count) in LIMITS {
        let whole = judge_connection(input, &[], bytes, count);
        let spot = number(input) as usize % (input.len() + 1);
        let other = spot / 3;
        let each: Vec<usize> = (1..input.len().min(2048)).collect();
        for cuts in [&[spot][..], &[other, spot], &each] {
            let pieces = judge_connection(input, cuts, bytes, count);
            assert_eq!(whole.requests, pieces.requests, "heads of {bytes}");
            assert!(
                alike(whole.refusal, pieces.refusal),
                "the pieces decide, in heads of {bytes}: {whole:?}, {pieces:?}"
            );
        }
        for (head, request) in &whole.requests {
            read_again(&input[head.clone()], &input[head.end..request.end], count);
        }
    }
}

/// Of a head that is both too large and malformed, whichever is seen first is the reason; in everything else, pieces or not,
/// there is one reason.
fn alike(one: Option<Refusal>, other: Option<Refusal>) -> bool {
    let too_large = |refusal| matches!(refusal, Some(Refusal::HeaderBytes));
    one == other || (one.is_some() && other.is_some() && (too_large(one) || too_large(other)))
}

/// A request that is let through is the same one to another reader.
fn read_again(head: &[u8], body: &[u8], count: usize) {
    let mut fields = vec![httparse::EMPTY_HEADER; count];
    let mut request = httparse::Request::new(&mut fields);
    let read = request.parse(head);
    let line = head.split(|byte| *byte == b'\r').next().unwrap();
    let words: Vec<_> = line.split(|byte| *byte == b' ').collect();
    assert_eq!(words.len(), 3, "the request line");
    if std::str::from_utf8(words[1]).is_err() {
        // Left to the reader behind the gate, which refuses the whole request.
        return assert_eq!(read, Err(httparse::Error::Token));
    }
    assert_eq!(
        read,
        Ok(Status::Complete(head.len())),
        "the head ends elsewhere"
    );

    assert_eq!(request.method.map(str::as_bytes), Some(words[0]));
    assert_eq!(request.path.map(str::as_bytes), Some(words[1]));
    // The request line and the empty one.
    let lines = head.windows(2).filter(|pair| pair == b"\r\n").count();
    assert_eq!(request.headers.len(), lines - 2, "the count of headers");

    let all = |name: &str| -> Vec<&[u8]> {
        let fields = request.headers.iter();
        let named = fields.filter(|field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| field.value).collect()
    };
    let lengths = all("content-length");
    match all("transfer-encoding").as_slice() {
        [] => {
            let length = match lengths.as_slice() {
                [] => 0,
                [length] => std::str::from_utf8(length).unwrap().trim().parse().unwrap(),
                _ => panic!("several lengths"),
            };
            assert_eq!(body.len(), length, "the body's end");
        }
        [coding] => {
            assert!(coding.eq_ignore_ascii_case(b"chunked") && lengths.is_empty());
            assert_eq!(chunks(body), body.len(), "the last chunk's end");
        }
        _ => panic!("several codings"),
    }
}

/// Where the chunks in `body` end, with their trailers.
fn chunks(body: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let Ok(Status::Complete((line, size))) = httparse::parse_chunk_size(&body[at..]) else {
            panic!("no chunk at {at}");
        };
        at += line;
        if size == 0 {
            let mut trailers = [httparse::EMPTY_HEADER; 128];
            let Ok(Status::Complete((length, _))) =
                httparse::parse_headers(&body[at..], &mut trailers)
            else {
                panic!("no trailers at {at}");
            };
            return at + length;
        }
        at += size as usize + 2;
        assert_eq!(
            body.get(at - 2..at),
            Some(&b"\r\n"[..]),
            "the end of a chunk"
        );
    }
}
