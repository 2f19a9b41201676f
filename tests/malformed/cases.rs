//! Requests that are wrong, by grammar; and mutations of requests that are right.

/// A stream of bytes that must not be understood.
pub struct Case {
    pub name: String,
    pub bytes: Vec<u8>,
}

/// What follows each wrong request; nobody may ever see it.
pub const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: shop.example\r\n\r\n";

/// A head with its parts.
struct Parts<'a> {
    line: &'a [u8],
    fields: &'a [u8],
    body: &'a [u8],
}

impl Parts<'_> {
    fn bytes(&self) -> Vec<u8> {
        [
            self.line,
            b"\r\n",
            self.fields,
            b"\r\n",
            self.body,
            HIDDEN.as_bytes(),
        ]
        .concat()
    }
}

const LINE: &[u8] = b"POST /case HTTP/1.1";
const HOST: &[u8] = b"Host: shop.example\r\n";

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

#[derive(Default)]
struct Cases(Vec<Case>);

impl Cases {
    fn raw(&mut self, kind: &str, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let name = format!("{kind}: {}", shown(&bytes[..bytes.len().min(120)]));
        self.0.push(Case {
            name,
            bytes: [bytes, HIDDEN.as_bytes()].concat(),
        });
    }

    fn line(&mut self, kind: &str, line: impl AsRef<[u8]>) {
        let line = line.as_ref();
        let bytes = Parts {
            line,
            fields: HOST,
            body: b"",
        }
        .bytes();
        self.0.push(Case {
            name: format!("{kind}: {}", shown(line)),
            bytes,
        });
    }

    fn fields(&mut self, kind: &str, fields: impl AsRef<[u8]>) {
        self.body(kind, &[HOST, fields.as_ref()].concat(), b"");
    }

    fn body(&mut self, kind: &str, fields: &[u8], body: &[u8]) {
        let bytes = Parts {
            line: LINE,
            fields,
            body,
        }
        .bytes();
        let name = format!(
            "{kind}: {} {}",
            shown(fields),
            shown(&body[..body.len().min(60)])
        );
        self.0.push(Case { name, bytes });
    }
}

/// Wrong by grammar. Each is refused, whatever else may be right about it.
pub fn wrong() -> Vec<Case> {
    let mut cases = Cases::default();
    lines(&mut cases);
    targets(&mut cases);
    names(&mut cases);
    framing(&mut cases);
    chunks(&mut cases);
    cases.0
}

fn lines(cases: &mut Cases) {
    for end in [
        "\n", "\r", "\n\r", "\r\r\n", "\0\r\n", "\r\0\n", "\x0b\r\n", "\x0c\r\n",
    ] {
        cases.raw(
            "end of the request line",
            format!("GET /case HTTP/1.1{end}Host: shop.example\r\n\r\n"),
        );
        cases.raw(
            "end of a header line",
            format!("GET /case HTTP/1.1\r\nHost: shop.example\r\nX-A: 1{end}X-B: 2\r\n\r\n"),
        );
        cases.raw(
            "end of the last header line",
            format!("GET /case HTTP/1.1\r\nX-A: 1\r\nHost: shop.example{end}\r\n"),
        );
        cases.raw(
            "end of the head",
            format!("GET /case HTTP/1.1\r\nHost: shop.example\r\n{end}"),
        );
        cases.raw(
            "everywhere",
            format!("GET /case HTTP/1.1{end}Host: shop.example{end}{end}"),
        );
    }
    for start in [
        "\r\n", "\n", "\r", " ", "\t", "\0", "\r\n\r\n", "\u{feff}", "x\r\n", ": \r\n",
    ] {
        cases.raw(
            "before the request line",
            format!("{start}GET /case HTTP/1.1\r\nHost: shop.example\r\n\r\n"),
        );
    }
    for line in [
        "GET",
        "GET ",
        "GET /case",
        "GET /case ",
        "GET  /case HTTP/1.1",
        "GET /case  HTTP/1.1",
        "GET /case HTTP/1.1 ",
        " GET /case HTTP/1.1",
        "GET\t/case\tHTTP/1.1",
        "GET /case\tHTTP/1.1",
        "GET /case x HTTP/1.1",
        "GET /case HTTP/1.1 HTTP/1.1",
        "GET/case HTTP/1.1",
        "HTTP/1.1 200 OK",
        "GET /case, HTTP/1.1 x",
        "GET /case\u{a0}x HTTP/1.1 y",
    ] {
        cases.line("request line", line);
    }
    for version in [
        "HTTP/0.9",
        "HTTP/1.2",
        "HTTP/1.9",
        "HTTP/2.0",
        "HTTP/2",
        "HTTP/3",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/.1",
        "HTTP/1.10",
        "HTTP/1.01",
        "HTTP/01.1",
        "HTTP/11",
        "HTTP/1,1",
        "HTTP 1.1",
        "http/1.1",
        "Http/1.1",
        "HTTPS/1.1",
        "HTTP/1.1x",
        "HTTP/+1.1",
        "HTTP/-1.1",
        "HTTP//1.1",
        "TTP/1.1",
        "1.1",
        "HTTP/\u{661}.1",
        "ICY/1.1",
    ] {
        cases.line("version", format!("GET /case {version}"));
    }
    for method in [
        "", "CONNECT", "connect", "TRACE", "Trace", "TRACK", "PRI", "G(T", "G)T", "G,T", "G/T",
        "G:T", "G;T", "G<T", "G>T", "G=T", "G?T", "G@T", "G[T", "G\\T", "G]T", "G{T", "G}T",
        "G\"T", "G\0T", "G\x7fT", "G\u{e9}T",
    ] {
        cases.line("method", format!("{method} /case HTTP/1.1"));
    }
}

fn targets(cases: &mut Cases) {
    for target in [
        "",
        "*",
        "case",
        "?case",
        "case/",
        "http://shop.example/case",
        "https://shop.example/case",
        "HTTP://shop.example/case",
        "http://other.example/case",
        "http:/case",
        "http:case",
        "//\t",
        "shop.example:80",
        "shop.example",
        "ftp://shop.example/",
        "file:///etc/passwd",
        "javascript:x",
        "http://u@shop.example/",
        "%2fcase",
        "\\case",
        ".",
        "..",
        "../case",
        "-",
        "@/case",
        ":80",
        "&",
        "/case#",
        "/case#x",
        "/#/../case",
        "/case?x#y",
        "#/case",
        "[::1]/",
    ] {
        cases.line("target", format!("GET {target} HTTP/1.1"));
    }
    for byte in (0..=0x20).chain([0x7f]) {
        cases.line(
            "byte in the path",
            [b"GET /ca", &[byte][..], b"se HTTP/1.1"].concat(),
        );
        cases.line(
            "byte in the query",
            [b"GET /case?a", &[byte][..], b"b HTTP/1.1"].concat(),
        );
    }
    for path in [
        "/..",
        "/.",
        "/../case",
        "/./case",
        "/a/../case",
        "/a/./case",
        "/a/..",
        "/a/.",
        "/%2e%2e/case",
        "/.%2e/case",
        "/%2E./case",
        "/a/%2e%2e%2fcase",
        "/a/..%2fcase",
        "/a/..%5ccase",
        "/a\\..\\case",
        "/a/..\\case",
        "/a/..;/case",
        "/a/..;x=y/case",
        "/a/%2e%2e;/case",
        "/%252e%252e/case",
        "/a/..%252fcase",
        "/a//../case",
        "/case%00",
        "/case%0d%0a",
        "/case%0a",
        "/case%7f",
        "/case%2500",
        "//api/case",
        "///api/case",
        "/api;x/case",
        "/;/api/case",
        "/%61pi/case",
        "/ap%69/case",
        "/api%2fcase",
        "/api%252fcase",
        "/api%5ccase",
        "/api\\case",
        "\\api\\case",
        "/\\api/case",
        "/%2fapi/case",
        "/%5capi/case",
        "/case/..%2f..%2fapi/",
        "/api/..%2f",
        "/api/%2e%2e/",
        "/api/../",
        "/api/..;/case",
        "/api/.%2e/case",
        "/api/%2e/case",
        "//api/",
        "/api;x/",
        "/api;/",
        "/%2561pi/case",
    ] {
        cases.line("path", format!("GET {path} HTTP/1.1"));
    }
}

fn names(cases: &mut Cases) {
    for byte in (0..=0x20)
        .chain(*b"\"(),/;<=>?@[\\]{}")
        .chain([0x7f, 0x80, 0xff])
    {
        cases.fields(
            "byte in a name",
            [b"X-A", &[byte][..], b"B: 1\r\n"].concat(),
        );
    }
    for byte in (0..0x20).filter(|byte| *byte != b'\t').chain([0x7f]) {
        cases.fields(
            "byte in a value",
            [b"X-A: 1", &[byte][..], b"2\r\n"].concat(),
        );
    }
    for field in [
        ": 1\r\n",
        " : 1\r\n",
        "X-A\r\n",
        "X-A 1\r\n",
        "X-A : 1\r\n",
        "X-A\t: 1\r\n",
        " X-A: 1\r\n",
        "\tX-A: 1\r\n",
        "X-A: 1\r\n 2\r\n",
        "X-A: 1\r\n\t2\r\n",
        "X-A:\r\n 1\r\n",
        "X-A: 1\r\n \r\n",
        " \r\n",
        "\t\r\n",
        "X-A: 1\r\n  : 2\r\n",
        "X A: 1\r\n",
        "X-A;: 1\r\n",
        "Content-Length : 0\r\n",
        "Content-Length\t: 0\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding\u{a0}: chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "X: 1\r\n Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Content-Length:\r\n 0\r\n",
        "GET / HTTP/1.1\r\n",
        "Host : shop.example\r\n",
        "host\0: a\r\n",
    ] {
        cases.fields("header line", field);
    }
    for name in [
        "content-length",
        "transfer-encoding",
        "keep-alive",
        "proxy-connection",
        "http2-settings",
        "content-encoding",
    ] {
        for odd in ["_", ".", "~", "!", "+"] {
            cases.fields(
                "lookalike",
                format!("{}: 0\r\n", name.replacen('-', odd, 1)),
            );
        }
        cases.fields(
            "lookalike",
            format!("{}: 0\r\n", name.replacen('-', "_", 1).to_uppercase()),
        );
    }
    for hosts in [
        "",
        "X-Host: a\r\n",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nHost: b\r\n",
        "Host: a\r\nhOST: a\r\n",
        "Host:\r\n",
        "Host: \r\n",
        "Host: ,\r\n",
        "Host: a, b\r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "Host: http://a\r\n",
        "Host: u@a\r\n",
        "Host: u:p@a\r\n",
        "Host: a?b\r\n",
        "Host: a#b\r\n",
        "Host: a\\b\r\n",
        "Host: a:b\r\n",
        "Host: a:80:80\r\n",
        "Host: :80\r\n",
        "Host: a:-1\r\n",
        "Host: a:+80\r\n",
        "Host: a:123456\r\n",
        "Host: [::1\r\n",
        "Host: ::1\r\n",
        "Host: []\r\n",
        "Host: [::1]x\r\n",
        "Host: a]\r\n",
        "Host: (a)\r\n",
        "Host: a;b\r\n",
        "Host: a\"b\r\n",
        "Host: \u{e9}\r\n",
        "Host: a<b\r\n",
        "Host: a=b\r\n",
        "Host : a\r\n",
        "Host\r\n",
    ] {
        cases.body("host", hosts.as_bytes(), b"");
        if hosts.is_empty() {
            cases.raw("host", "GET /case HTTP/1.0\r\n\r\n");
        }
    }
    for options in [
        "Host",
        "close, host",
        "Content-Length",
        "transfer-encoding",
        "Cookie",
        "Authorization",
        "X-Forwarded-For",
        "x-forwarded-host",
        "x_forwarded_for",
        "Forwarded",
        "X-Real-IP",
        "Content-Type",
        "a b",
        "keep-alive, (x)",
        "close;x",
        "\"close\"",
        "sec-gpc",
    ] {
        cases.fields("connection", format!("Connection: {options}\r\n"));
    }
    for protocol in [
        "h2c, h2c",
        "h2c, websocket",
        "websocket, h2c",
        "h2",
        "HTTP/2.0",
        "TLS/1.0",
        "",
        ",",
        "websocket,",
    ] {
        cases.fields(
            "upgrade",
            format!("Connection: upgrade\r\nUpgrade: {protocol}\r\n"),
        );
    }
    cases.body(
        "upgrade with a body",
        b"Host: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n",
        b"hello",
    );
    cases.body(
        "upgrade with a body",
        b"Host: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n",
        b"0\r\n\r\n",
    );
    cases.fields("many headers", "X-A: 1\r\n".repeat(100));
    cases.fields(
        "long headers",
        format!("X-A: {}\r\n", "a".repeat(65 * 1024)),
    );
    cases.line(
        "long target",
        format!("GET /{} HTTP/1.1", "a".repeat(65 * 1024)),
    );
}

const LENGTHS: [&str; 34] = [
    "",
    "+5",
    "-5",
    "-0",
    "5,5",
    "5, 5",
    "5,6",
    ",5",
    "5,",
    "5 5",
    "5;",
    "5;x=1",
    "0x5",
    "0X5",
    "5h",
    "5.0",
    "5.",
    ".5",
    "5e0",
    "1_0",
    "\"5\"",
    "'5'",
    "(5)",
    "=5",
    "five",
    "\u{665}",
    "\u{a0}5",
    "18446744073709551616",
    "18446744073709551621",
    "9223372036854775808",
    "99999999999999999999",
    "00000000000000000000005",
    "5\u{b}",
    "NaN",
];
const CODINGS: [&str; 38] = [
    "",
    ",",
    "chunked,",
    ",chunked",
    "chunked, chunked",
    "gzip, chunked",
    "chunked, gzip",
    "gzip",
    "deflate",
    "compress",
    "identity",
    "identity, chunked",
    "chunked, identity",
    "x",
    "x, chunked",
    "chunked;x",
    "chunked;q=1",
    "chunked ;x=y",
    "\"chunked\"",
    "'chunked'",
    "xchunked",
    "chunkedx",
    "chunke",
    "chunked\u{a0}",
    "\u{a0}chunked",
    "chunked chunked",
    "cow, chunked",
    "chunk",
    "c\thunked",
    "(x) chunked",
    "CHUNKED,",
    "chunked=1",
    "chunked/1",
    "chun\u{212a}ed",
    "trailers",
    "chunked, cow",
    "0",
    "tchunked",
];

fn framing(cases: &mut Cases) {
    for length in LENGTHS {
        cases.body(
            "content-length",
            format!("Host: a\r\nContent-Length: {length}\r\n").as_bytes(),
            b"hello",
        );
        cases.body(
            "content-length beside a good one",
            format!("Host: a\r\nContent-Length: 5\r\ncontent-length: {length}\r\n").as_bytes(),
            b"hello",
        );
    }
    for second in ["0", "5", "6", "05"] {
        cases.body(
            "content-length twice",
            format!("Host: a\r\nContent-Length: 5\r\nContent-Length: {second}\r\n").as_bytes(),
            b"hello",
        );
    }
    for coding in CODINGS {
        cases.body(
            "coding",
            format!("Host: a\r\nTransfer-Encoding: {coding}\r\n").as_bytes(),
            b"0\r\n\r\n",
        );
        cases.body(
            "coding beside a good one",
            format!("Host: a\r\nTransfer-Encoding: {coding}\r\ntransfer-encoding: chunked\r\n")
                .as_bytes(),
            b"0\r\n\r\n",
        );
        cases.body(
            "coding after a good one",
            format!("Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: {coding}\r\n")
                .as_bytes(),
            b"0\r\n\r\n",
        );
        cases.body(
            "coding with a length",
            format!("Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: {coding}\r\n").as_bytes(),
            b"0\r\n\r\n",
        );
    }
    for (one, other) in [
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: Chunked", "Content-Length: 0"),
        ("transfer-encoding:chunked", "content-length:5"),
    ] {
        cases.body(
            "both",
            format!("Host: a\r\n{one}\r\n{other}\r\n").as_bytes(),
            b"0\r\n\r\n",
        );
    }
    cases.raw(
        "chunks of HTTP/1.0",
        "POST /case HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    );
    cases.raw("chunks of HTTP/1.0", "POST /case HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
}

fn chunks(cases: &mut Cases) {
    let fields = b"Host: a\r\nTransfer-Encoding: chunked\r\n";
    for size in [
        "",
        " 5",
        "5 ",
        "\t5",
        "5\t",
        "+5",
        "-5",
        "0x5",
        "0X5",
        "x5",
        "5h",
        "5_0",
        "5,5",
        "5.0",
        "5e",
        "g",
        "\"5\"",
        "\u{665}",
        "5 ;x",
        "5\t;x",
        ";x",
        "5;\0",
        "5;x\0",
        "5;x\ny",
        "5;x\ry",
        "5\n",
        "5\r",
        "5\r\r",
        "10000000000000005",
        "fffffffffffffffb",
        "ffffffffffffffff",
        "00000000000000000005",
        "7fffffffffffffff",
        "8000000000000000",
        "5;x\x7f",
        "-1",
        "5\x0b",
        "5\u{a0}",
    ] {
        if size != "5e" {
            cases.body(
                "chunk size",
                fields,
                format!("{size}\r\nhello\r\n0\r\n\r\n").as_bytes(),
            );
        }
        cases.body(
            "second chunk size",
            fields,
            format!(
                "5\r\nhello\r\n{}\r\nhello\r\n0\r\n\r\n",
                if size == "5e" { "5g" } else { size }
            )
            .as_bytes(),
        );
    }
    cases.body(
        "chunk extension",
        fields,
        format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(300)).as_bytes(),
    );
    for data in [
        "hello",
        "hello\n",
        "hello\r",
        "hello!\r\n",
        "hell\r\n",
        "hello\n\r\n",
        "hello \r\n",
        "hello\r\r\n",
        "hello\0\r\n",
    ] {
        cases.body(
            "end of a chunk",
            fields,
            format!("5\r\n{data}0\r\n\r\n").as_bytes(),
        );
    }
    for size in ["0 ", "+0", "-0", "0x0", "0\n", "0\r", "0;\0"] {
        cases.body(
            "last chunk",
            fields,
            format!("5\r\nhello\r\n{size}\r\n\r\n").as_bytes(),
        );
    }
    for trailer in [
        "x\r\n",
        " x: 1\r\n",
        "x : 1\r\n",
        ": 1\r\n",
        "x: 1\n",
        "x: 1\r",
        "x: \0\r\n",
        "x\0: 1\r\n",
        "\r",
        "\n",
        "x: 1\r\n y\r\n",
        "(: 1\r\n",
        "transfer_encoding: chunked\r\n",
        "x: 1\r\r\n",
    ] {
        cases.body("trailer", fields, format!("0\r\n{trailer}\r\n").as_bytes());
    }
}

/// Requests that are right.
pub const RIGHT: [&str; 14] = [
    "GET /a HTTP/1.1\r\nHost: shop.example\r\n\r\n",
    "GET /a?b=c&d=/../x HTTP/1.1\r\nHost: shop.example:8080\r\nAccept: */*\r\nCookie: a=1; b=2\r\nUser-Agent: Mozilla/5.0\r\n\r\n",
    "HEAD /a HTTP/1.1\r\nHost: [::1]:80\r\nX-Empty:\r\nX-Tab:\ta\tb\t\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 5\r\n\r\nhello",
    "POST /a HTTP/1.1\r\nContent-Length: 0\r\nHost: shop.example\r\n\r\n",
    "PUT /a HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "PUT /a HTTP/1.1\r\nHost: shop.example\r\ntransfer-encoding: Chunked\r\n\r\n5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nX-T: 1\r\n\r\n",
    "DELETE /a/b%2Fc;v=1 HTTP/1.1\r\nHost: shop.example\r\nConnection: keep-alive\r\n\r\n",
    "OPTIONS /a HTTP/1.1\r\nHost: shop.example\r\nOrigin: https://a.example\r\n\r\n",
    "GET /a HTTP/1.0\r\nHost: shop.example\r\nConnection: keep-alive\r\n\r\n",
    "POST /a HTTP/1.0\r\nHost: shop.example\r\nContent-Length: 5\r\n\r\nhello",
    "POST /a HTTP/1.1\r\nHost: shop.example\r\nContent-Type: application/json\r\nContent-Length: 44\r\n\r\nGET /hidden HTTP/1.1\r\nHost: shop.example\r\n\r\n",
    "PATCH /a HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n2c\r\nGET /hidden HTTP/1.1\r\nHost: shop.example\r\n\r\n\r\n0\r\n\r\n",
    "GET /a HTTP/1.1\r\nHost: shop.example\r\nx_own: 1\r\nConnection: close\r\n\r\n",
];

/// What is put into streams by mutation.
const PIECES: [&str; 34] = [
    "\r",
    "\n",
    "\r\n",
    "\r\n\r\n",
    " ",
    "\t",
    "\0",
    ":",
    ",",
    ";",
    "#",
    "%",
    "/",
    "\\",
    "_",
    "-",
    "+",
    "0",
    "5",
    "f",
    "0x",
    "\u{7f}",
    "\u{e9}",
    "Host: a\r\n",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "content_length: 5\r\n",
    "Connection: close\r\n",
    "Upgrade: h2c\r\n",
    "chunked",
    "0\r\n\r\n",
    "/../",
    "HTTP/1.1",
    "GET /hidden HTTP/1.1\r\n",
];

/// A generator that repeats (splitmix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }

    /// Two or three requests, changed in one to three places.
    pub fn mutation(&mut self) -> Vec<u8> {
        let mut stream: Vec<u8> = Vec::new();
        for _ in 0..=self.below(2) {
            stream.extend_from_slice(RIGHT[self.below(RIGHT.len())].as_bytes());
        }
        let first = stream.len();
        stream.extend_from_slice(HIDDEN.as_bytes());
        for _ in 0..=self.below(3) {
            let at = self.below(first.min(stream.len()));
            match self.below(6) {
                0 => stream[at] ^= 1 << self.below(8),
                1 => {
                    stream.remove(at);
                }
                2 => {
                    let end = (at + self.below(12)).min(stream.len());
                    stream.drain(at..end);
                }
                3 => {
                    let end = (at + self.below(40)).min(stream.len());
                    let copy = stream[at..end].to_vec();
                    stream.splice(at..at, copy);
                }
                _ => {
                    let piece = PIECES[self.below(PIECES.len())].bytes();
                    stream.splice(at..at, piece);
                }
            }
        }
        stream
    }
}
