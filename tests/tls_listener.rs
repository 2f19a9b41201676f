//! TLS of listeners: what is agreed upon, which clients are let in, and certificates that change while there are connections.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use dressipi_sidecar::config::{self, Format};
use http::{Request, Version};
use http_body_util::BodyExt;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{
    AnyBody, App, Authority, Dressipi, Identity, Raw, Sidecar, SidecarBuilder, empty, eventually,
    json,
};

/// A listener with TLS, the third one of its sidecar.
fn listening(dressipi: &Dressipi, app: &App, keys: &str) -> SidecarBuilder {
    Sidecar::behind(dressipi).app(app).extra(&format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\n[listeners.tls]\n{keys}"
    ))
}

/// Writes the files of a listener and says where they are.
fn files(folder: &Path, identity: &Identity) -> String {
    let (cert, key) = identity.write(folder, "tls");
    format!("cert_file = {cert:?}\nkey_file = {key:?}\n")
}

/// A client that offers the `protocols`, and perhaps a certificate.
async fn connect(
    address: SocketAddr,
    authority: &Authority,
    protocols: &[&str],
    identity: Option<&Identity>,
) -> io::Result<TlsStream<TcpStream>> {
    let builder = ClientConfig::builder().with_root_certificates(authority.roots());
    let mut config = match identity {
        Some(identity) => builder
            .with_client_auth_cert(vec![identity.certificate().clone()], identity.key())
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().into())
        .collect();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

type Client = http1::SendRequest<AnyBody>;

async fn http1_over(stream: TlsStream<TcpStream>) -> Client {
    let (client, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    client
}

/// What the app saw of a request, or how it came to nothing.
async fn ask(client: &mut Client) -> Result<serde_json::Value, hyper::Error> {
    let request = Request::get("/x").header("host", "localhost");
    client.ready().await?;
    let answer = client.send_request(request.body(empty()).unwrap()).await?;
    assert_eq!(answer.status(), 200);
    let body = answer.into_body().collect().await?.to_bytes();
    Ok(serde_json::from_slice(&body).unwrap())
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

fn scheme(seen: &serde_json::Value) -> &str {
    let headers = seen["headers"].as_array().unwrap();
    let mut headers = headers
        .iter()
        .filter(|header| header[0] == "x-forwarded-proto");
    headers.next().unwrap()[1].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_the_protocol_that_it_offers_and_the_app_hears_of_https() {
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let keys = files(folder.path(), &authority.certify("localhost"));
    let sidecar = listening(&dressipi, &app, &keys).start().await;
    let address = sidecar.listener(2);

    for protocols in [&[][..], &["http/1.1"]] {
        let stream = connect(address, &authority, protocols, None).await.unwrap();
        assert_eq!(
            stream.get_ref().1.alpn_protocol().is_some(),
            !protocols.is_empty()
        );
        let mut client = http1_over(stream).await;
        for _ in 0..2 {
            assert_eq!(scheme(&ask(&mut client).await.unwrap()), "https");
        }
    }

    let stream = connect(address, &authority, &["h2", "http/1.1"], None)
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://localhost/x").body(empty()).unwrap();
    let answer = client.send_request(request).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.version()),
        (200, Version::HTTP_2)
    );
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(scheme(&serde_json::from_slice(&body).unwrap()), "https");

    let plain = sidecar.browser("/x").send().await.unwrap();
    assert_eq!(scheme(&json(plain).await), "http");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_is_not_offered_where_it_is_switched_off() {
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let keys = files(folder.path(), &authority.certify("localhost")) + "http2 = false";
    let sidecar = listening(&dressipi, &app, &keys).start().await;
    let stream = connect(sidecar.listener(2), &authority, &["h2", "http/1.1"], None).await;
    let stream = stream.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    ask(&mut http1_over(stream).await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_older_version_is_spoken_than_is_configured() {
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let identity = authority.certify("localhost");
    for (keys, with_1_2) in [("", true), ("min_version = \"1.3\"", false)] {
        let keys = files(folder.path(), &identity) + keys;
        let sidecar = listening(&dressipi, &app, &keys).start().await;
        for (version, spoken) in [
            (&rustls::version::TLS12, with_1_2),
            (&rustls::version::TLS13, true),
        ] {
            let config = ClientConfig::builder_with_protocol_versions(&[version])
                .with_root_certificates(authority.roots())
                .with_no_client_auth();
            let stream = TcpStream::connect(sidecar.listener(2)).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let stream = TlsConnector::from(Arc::new(config))
                .connect(name, stream)
                .await;
            assert_eq!(stream.is_ok(), spoken, "{version:?} with {keys}");
            if let Ok(stream) = stream {
                ask(&mut http1_over(stream).await).await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_14_the_gate_judges_http_2_over_tls() {
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let keys = files(folder.path(), &authority.certify("localhost"));
    let sidecar = listening(&dressipi, &app, &keys).start().await;
    let stream = connect(sidecar.listener(2), &authority, &["h2"], None).await;
    let (mut client, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream.unwrap()))
            .await
            .unwrap();
    tokio::spawn(connection);
    for (name, value, status) in [
        ("x-plain", "1", 200),
        ("content_length", "5", 400),
        ("transfer_encoding", "chunked", 400),
        ("host", "elsewhere.example", 400),
    ] {
        let request = Request::get("https://localhost/x").header(name, value);
        let answer = client
            .send_request(request.body(empty()).unwrap())
            .await
            .unwrap();
        // The app answers everything with 200.
        assert_eq!(answer.status(), status, "{name}: {value}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_14_the_gate_judges_what_comes_over_tls() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let keys = files(folder.path(), &authority.certify("localhost"));
    let sidecar = listening(&dressipi, &app, &keys).start().await;
    let stream = connect(sidecar.listener(2), &authority, &["http/1.1"], None).await;
    let mut stream = stream.unwrap();
    let request = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5, 5\r\n\r\nhello";
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // The end of the stream may come without the other side's last word.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(
        answer.starts_with(b"HTTP/1.1 400"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_let_in_by_their_certificates() {
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let (authority, clients) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let ca = clients.write(folder.path());
    let good = clients.certify("client");
    let (wrong, expired) = (
        Authority::new().certify("client"),
        clients.certify_expired("client"),
    );
    for (auth, without) in [("optional", true), ("required", false)] {
        let keys = files(folder.path(), &authority.certify("localhost"));
        let keys = format!("{keys}client_auth = {auth:?}\nclient_ca_file = {ca:?}");
        let sidecar = listening(&dressipi, &app, &keys).start().await;
        for (identity, served) in [
            (None, without),
            (Some(&good), true),
            (Some(&wrong), false),
            (Some(&expired), false),
        ] {
            let connected = connect(sidecar.listener(2), &authority, &["http/1.1"], identity).await;
            // A client of TLS 1.3 is ready before the other side has judged its certificate.
            let answered = match connected {
                Ok(stream) => ask(&mut http1_over(stream).await).await.is_ok(),
                Err(_) => false,
            };
            assert_eq!(answered, served, "{auth}");
        }
        let refused = if without { 2.0 } else { 3.0 };
        sidecar
            .counts("refused_connections_total", "tls_handshake", refused)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_finish_its_handshake_is_counted_and_cut_off() {
    use tokio::io::AsyncReadExt;
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let keys = files(folder.path(), &authority.certify("localhost"));
    let keys = format!("{keys}[limits]\nconnections = 2\nheader_timeout = \"8s\"");
    let sidecar = listening(&dressipi, &app, &keys).start().await;
    let mut silent = Raw::connect(sidecar.listener(2)).await;
    let stream = connect(sidecar.listener(2), &authority, &["http/1.1"], None).await;
    let mut client = http1_over(stream.unwrap()).await;
    ask(&mut client).await.unwrap();
    let third = connect(sidecar.listener(2), &authority, &["http/1.1"], None).await;
    assert!(third.is_err());
    let mut said = Vec::new();
    let _ = silent.stream().read_to_end(&mut said).await;
    assert!(said.is_empty());
    sidecar
        .counts("refused_connections_total", "tls_timeout", 1.0)
        .await;
    ask(&mut client).await.unwrap();
    eventually("its place is given back", async || {
        let stream = connect(sidecar.listener(2), &authority, &["http/1.1"], None).await;
        stream.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_gets_no_answer_from_a_listener_that_speaks_tls() {
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let folder = tempfile::tempdir().unwrap();
    let keys = files(folder.path(), &Authority::new().certify("localhost"));
    let sidecar = listening(&dressipi, &app, &keys).start().await;
    let mut client = Raw::connect(sidecar.listener(2)).await;
    client.send("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let answer = client.rest().await;
    assert!(
        !answer.starts_with(b"HTTP"),
        "at most a TLS alert: {answer:?}"
    );
    sidecar
        .counts("refused_connections_total", "tls_handshake", 1.0)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_15_new_certificates_are_used_and_bad_ones_are_not_while_connections_live() {
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    // As Kubernetes does: the files lead through a link that is replaced in one go.
    let write = |name: &str, identity: &Identity| {
        let version = folder.path().join(name);
        std::fs::create_dir(&version).unwrap();
        identity.write(&version, "tls");
        version
    };
    let turn_to = |version: &Path| {
        let link = folder.path().join("..data_tmp");
        std::os::unix::fs::symlink(version, &link).unwrap();
        std::fs::rename(link, folder.path().join("..data")).unwrap();
    };
    let [first, second] = [(); 2].map(|()| authority.certify("localhost"));
    turn_to(&write("1", &first));
    let data = folder.path().join("..data");
    let (cert, key) = (data.join("tls.pem"), data.join("tls.key"));
    let keys = format!("cert_file = {cert:?}\nkey_file = {key:?}\n");
    let sidecar = listening(&dressipi, &app, &keys).start().await;
    let address = sidecar.listener(2);
    let open = async || {
        connect(address, &authority, &["http/1.1"], None)
            .await
            .unwrap()
    };
    let stream = open().await;
    assert_eq!(shown(&stream), *first.certificate());
    let mut old = http1_over(stream).await;
    ask(&mut old).await.unwrap();
    assert!(sidecar.metric("certificate_expiry_seconds", "").await > 1e9);

    // A key that belongs to another certificate.
    let bad = write("2", &second);
    first.write(folder.path(), "other");
    std::fs::copy(folder.path().join("other.key"), bad.join("tls.key")).unwrap();
    turn_to(&bad);
    sidecar
        .counts("certificate_reloads_total", "error", 1.0)
        .await;
    assert_eq!(shown(&open().await), *first.certificate());

    turn_to(&write("3", &second));
    sidecar.counts("certificate_reloads_total", "ok", 1.0).await;
    assert_eq!(shown(&open().await), *second.certificate());
    ask(&mut old).await.unwrap();
    assert_eq!(
        sidecar.metric("certificate_reloads_total", "error").await,
        1.0
    );

    std::fs::remove_file(&cert).unwrap();
    sidecar
        .counts("certificate_reloads_total", "error", 2.0)
        .await;
    eventually("the second certificate is still shown", async || {
        shown(&open().await) == *second.certificate()
    })
    .await;
}

#[test]
fn bad_certificate_files_are_refused_before_anything_is_served() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let good = authority.certify("localhost");
    let (cert, key) = good.write(folder.path(), "good");
    let (_, other) = authority.certify("localhost").write(folder.path(), "other");
    let (old, old_key) = authority
        .certify_expired("localhost")
        .write(folder.path(), "old");
    let junk = folder.path().join("junk");
    std::fs::write(&junk, "no PEM\n").unwrap();
    let sealed = folder.path().join("sealed");
    let text = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    std::fs::write(&sealed, text).unwrap();
    let missing = folder.path().join("missing");
    let none = String::new();
    let ca = |path: &Path| format!("client_auth = \"required\"\nclient_ca_file = {path:?}\n");
    for (cert, key, more, expected) in [
        (&cert, &key, none.clone(), ""),
        (&missing, &key, none.clone(), "listeners[0].tls.cert_file: "),
        (&junk, &key, none.clone(), "holds no certificate"),
        (&cert, &missing, none.clone(), "cannot be read"),
        (&cert, &junk, none.clone(), "holds no private key"),
        (&cert, &sealed, none.clone(), "is encrypted"),
        (
            &cert,
            &other,
            none.clone(),
            "is not the key of the certificate",
        ),
        (&cert, &key, ca(&junk), "listeners[0].tls.client_ca_file: "),
        (
            &cert,
            &key,
            "client_auth = \"required\"\n".into(),
            "is missing",
        ),
        (
            &cert,
            &key,
            format!("client_ca_file = {cert:?}\n"),
            "has no meaning",
        ),
        (&old, &old_key, none.clone(), "has expired"),
    ] {
        let text = format!(
            "[[listeners]]\naddress = \"127.0.0.1:0\"\n[listeners.tls]\ncert_file = {cert:?}\nkey_file = {key:?}\n{more}\
             [dressipi]\nbase_url = \"https://dressipi.example\"\nclient_id = \"x\"\n\
             [session]\nstore = \"memory\"\n[[routes]]\npath = \"/\"\nupstream = \"dressipi\"\n"
        );
        let loaded = config::load_text("test.toml", &text, Format::Toml, Path::new("/"), []);
        let usable = expected.is_empty() || expected == "has expired";
        assert_eq!(loaded.is_ok(), usable, "{expected}");
        let said = match loaded {
            Ok(loaded) => loaded.warnings.iter().map(ToString::to_string).collect(),
            Err(problems) => problems.to_string(),
        };
        assert!(said.contains(expected), "{expected}: {said}");
    }
}
