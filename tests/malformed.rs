//! What is malformed or ambiguous is not forwarded, and nothing hides behind it (invariant 14).
//!
//! Streams of bytes are sent over connections of their own, each from an address of its own (127.0.0.0/8), by which a strict
//! upstream tells whose requests it receives. `cargo test malformed -- --nocapture` prints what was let pass and why.

mod cases;
mod recorder;
mod strict;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use self::cases::Random;
use self::recorder::Recorder;
use self::strict::{Read, Request};
use crate::support::{Dressipi, Sidecar, eventually};

const MUTATIONS: usize = 10_000;
const SEED: u64 = 2026;
const AT_ONCE: usize = 96;

/// What is odd and may pass, because it is framed unambiguously and everybody reads it alike. Reviewed; whatever else passes is
/// a failure.
const LET_PASS: [&str; 4] = [
    "a target with bytes that RFC 3986 would have encoded",
    "a name with other characters than letters, digits and hyphens",
    "a value with bytes beyond ASCII",
    "a chunk extension",
];

async fn start() -> (Sidecar, Recorder) {
    let dressipi = Dressipi::start().await;
    let (recorder, address) = Recorder::start().await;
    let sidecar = Sidecar::behind(&dressipi)
        .routes("[[routes]]\npath = \"/api/\"\nupstream = \"app\"\ncredentials = \"none\"\n[[routes]]\npath = \"/\"\nupstream = \"app\"\ncredentials = \"none\"")
        .app_at(address)
        .start()
        .await;
    (sidecar, recorder)
}

/// The address of case `number`.
fn address_of(number: usize) -> Ipv4Addr {
    let [.., a, b, c] = (number as u32 + 0x1_0000).to_be_bytes();
    Ipv4Addr::new(127, a, b, c)
}

async fn connect(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// Sends `bytes` and reads what comes, until the connection is closed; or until `answers` have come, and a moment more.
async fn exchange(number: usize, to: SocketAddr, bytes: &[u8], answers: Option<usize>) -> Vec<u8> {
    let mut stream = connect(address_of(number), to).await;
    let mut received = Vec::new();
    // The sidecar may have closed it before all was sent.
    let _ = stream.write_all(bytes).await;
    loop {
        let count = received
            .windows(9)
            .filter(|part| *part == b"HTTP/1.1 ")
            .count();
        let patience = match answers {
            Some(answers) if count >= answers => Duration::from_millis(5),
            _ => Duration::from_secs(20),
        };
        match timeout(patience, stream.read_buf(&mut received)).await {
            Ok(Ok(1..)) => {}
            Ok(_) => return received,
            Err(_) if answers.is_some_and(|answers| count >= answers) => return received,
            Err(_) => panic!(
                "neither answered nor closed: {}\nafter {}",
                bytes.escape_ascii(),
                received.escape_ascii()
            ),
        }
    }
}

async fn settle(sidecar: &Sidecar) {
    eventually("every exchange is over", async || {
        sidecar.metric("requests_in_flight", "").await == 0.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_14_what_is_wrong_by_grammar_is_answered_400_and_nothing_follows_it() {
    let (sidecar, recorder) = start().await;
    let cases = cases::wrong();
    assert!(cases.len() >= 400, "{}", cases.len());
    let address = sidecar.address();
    let send = |(number, case): (usize, &cases::Case)| {
        let bytes = case.bytes.clone();
        async move { (number, exchange(number, address, &bytes, None).await) }
    };
    let answers: Vec<_> = futures::stream::iter(cases.iter().enumerate().map(send))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    settle(&sidecar).await;
    let mut statuses: BTreeMap<String, usize> = BTreeMap::new();
    for (number, answer) in answers {
        let case = &cases[number].name;
        let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        let status = text.get(..12).unwrap_or("none").to_owned();
        assert!(
            matches!(&*status, "http/1.1 400" | "http/1.1 431"),
            "{case}\n{text}"
        );
        assert_eq!(text.matches("http/1.1 ").count(), 1, "{case}\n{text}");
        for line in [
            "\r\nconnection: close\r\n",
            "\r\ncontent-type: application/problem+json\r\n",
            "\r\nproxy-status: dressipi-sidecar; error=http_request_error\r\n",
            "\"reason\":\"",
        ] {
            assert!(text.contains(line), "{case}\n{text}");
        }
        *statuses.entry(status).or_default() += 1;
    }
    let received = recorder.take();
    let forwarded: Vec<_> = received.whole.iter().chain(&received.begun).collect();
    assert!(forwarded.is_empty(), "{forwarded:?}");
    assert!(received.wrong.is_empty(), "{:?}", received.wrong);
    let refused = sidecar.metric("refused_requests_total", "").await;
    assert_eq!(refused, cases.len() as f64);
    println!(
        "{} cases by grammar, 0 forwarded: {statuses:?}",
        cases.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_14_of_mutated_requests_only_those_pass_that_a_strict_reader_finds() {
    let (sidecar, recorder) = start().await;
    let address = sidecar.address();
    let mut random = Random::new(SEED);
    let streams: Vec<_> = (0..MUTATIONS).map(|_| random.mutation()).collect();
    let send = |(number, stream): (usize, &Vec<u8>)| {
        let stream = stream.clone();
        async move {
            let (good, end) = strict::requests(&stream);
            // What is wrong ends in a refusal, what is cut off in nothing.
            let answers = good.len() + usize::from(matches!(end, Read::Wrong(_)));
            exchange(number, address, &stream, Some(answers)).await;
        }
    };
    let sent =
        futures::stream::iter(streams.iter().enumerate().map(send)).buffer_unordered(AT_ONCE);
    sent.collect::<Vec<_>>().await;
    settle(&sidecar).await;

    let received = recorder.take();
    assert!(received.wrong.is_empty(), "{:?}", received.wrong);
    let mut by_client: BTreeMap<Ipv4Addr, Vec<Request>> = BTreeMap::new();
    for (client, request) in received.whole {
        by_client.entry(client).or_default().push(request);
    }
    let mut begun: BTreeMap<Ipv4Addr, Vec<Request>> = BTreeMap::new();
    for (client, request) in received.begun {
        begun.entry(client).or_default().push(request);
    }
    let mut let_pass: BTreeMap<&str, (usize, String)> = BTreeMap::new();
    let (mut forwarded, mut wrong, mut unfinished) = (0, 0, 0);
    for (number, stream) in streams.iter().enumerate() {
        let (good, end) = strict::requests(stream);
        wrong += usize::from(matches!(end, Read::Wrong(_)));
        let passed = by_client.remove(&address_of(number)).unwrap_or_default();
        let shown = stream.escape_ascii().to_string();
        assert!(
            passed.len() <= good.len(),
            "a hidden request: {shown}\n{passed:?}"
        );
        for (passed, sent) in passed.iter().zip(&good) {
            assert_eq!(
                (&passed.method, &passed.target, &passed.body),
                (&sent.method, &sent.target, &sent.body),
                "{shown}"
            );
            for odd in &sent.odd {
                assert!(LET_PASS.contains(odd), "{odd}: {shown}");
                let_pass.entry(odd).or_insert_with(|| (0, shown.clone())).0 += 1;
            }
        }
        forwarded += passed.len();
        for head in begun.remove(&address_of(number)).unwrap_or_default() {
            unfinished += 1;
            let Read::Begun(Some(sent)) = &end else {
                panic!("begun, and not because its end never came: {shown}\n{head:?}");
            };
            assert_eq!(
                (&head.method, &head.target),
                (&sent.method, &sent.target),
                "{shown}"
            );
        }
    }
    assert!(
        by_client.is_empty() && begun.is_empty(),
        "{by_client:?} {begun:?}"
    );
    assert!(
        forwarded > MUTATIONS / 10 && wrong > MUTATIONS / 3,
        "{forwarded} {wrong}"
    );
    println!(
        "{MUTATIONS} mutations, {wrong} of them wrong; {forwarded} requests forwarded, each one that a strict reader finds, too"
    );
    println!(
        "{unfinished} begun whose end the client never sent; 0 hidden requests. Let pass though odd:"
    );
    for (odd, (count, example)) in let_pass {
        println!("  {count:5} {odd}, such as {example}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_right_passes_in_one_piece_and_byte_by_byte() {
    let (sidecar, recorder) = start().await;
    for whole in [true, false] {
        for (number, text) in cases::RIGHT.iter().enumerate() {
            let mut stream = connect(address_of(number), sidecar.address()).await;
            stream.set_nodelay(true).unwrap();
            let pieces: Vec<&[u8]> = match whole {
                true => vec![text.as_bytes()],
                false => text.as_bytes().chunks(1).collect(),
            };
            for piece in pieces {
                stream.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            let mut answer = Vec::new();
            while !answer.starts_with(b"HTTP/1.1 200 ") {
                assert!(
                    stream.read_buf(&mut answer).await.unwrap() > 0,
                    "{text}\n{}",
                    answer.escape_ascii()
                );
            }
            let (sent, _) = strict::requests(text.as_bytes());
            let received = recorder.take();
            let [(_, passed)] = &received.whole[..] else {
                panic!("{text}: {:?}", received.whole);
            };
            assert_eq!(
                (&passed.method, &passed.target, &passed.body),
                (&sent[0].method, &sent[0].target, &sent[0].body)
            );
            assert!(received.wrong.is_empty());
        }
    }
}
