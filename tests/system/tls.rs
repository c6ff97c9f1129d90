//! A Qdrant server (the test's own) behind TLS, with a certificate of an authority that only this test knows: who trusts it and shows the key is
//! served, and everyone else learns at the start what to do.

use std::{fs, net::SocketAddr, path::PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use reqwest::{Method, StatusCode};
use serde_json::{Value as Json, json};
use tonic::transport::Identity;

use crate::{
    qdrant,
    server::{Client, Server, ids, until},
    start::refused,
};

const KEY: &str = "s3cret";

/// Signs certificates. Its own stands in a file, for those who trust it.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let authority = Self { issuer, folder };
        fs::write(authority.file(), authority.issuer.pem()).unwrap();
        authority
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    fn certificate_for(&self, host: &str) -> Identity {
        self.signed(&CertificateParams::new([host.to_owned()]).unwrap())
    }

    fn signed(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity::from_pem(certificate.pem(), key.serialize_pem())
    }
}

fn anywhere() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn behind_tls(identity: Identity) -> qdrant::Server {
    qdrant::Server::start_behind_tls(identity, &qdrant::Storage::default(), anywhere(), Some(KEY))
}

fn at(server: &qdrant::Server, host: &str) -> String {
    format!("https://{host}:{}", server.address.port())
}

/// The ids that an undegraded answer lists, sorted.
async fn found(client: &Client, body: &Json) -> Vec<String> {
    let answer = client.recommend(body).await;
    assert_eq!(answer["degraded"], json!([]), "{answer}");
    let mut ids = ids(&answer);
    ids.sort_unstable();
    ids
}

async fn metric(client: &Client, name: &str) -> u64 {
    let metrics = client.metrics().await;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{metrics}")).parse().unwrap()
}

/// What the process trusts, in place of the system's: a file and nothing else.
struct Trust {
    file: PathBuf,
    nothing: tempfile::TempDir,
}

impl Trust {
    fn in_file(file: PathBuf) -> Self {
        Self { file, nothing: tempfile::tempdir().unwrap() }
    }

    fn in_authority(authority: &Authority) -> Self {
        Self::in_file(authority.file())
    }

    fn settings<'a>(&'a self, url: &'a str, key: &'a str) -> [(&'a str, &'a str); 4] {
        let (file, folder) = (self.file.to_str().unwrap(), self.nothing.path().to_str().unwrap());
        [("INKLING_INDEX__URL", url), ("INKLING_INDEX__API_KEY", key), ("SSL_CERT_FILE", file), ("SSL_CERT_DIR", folder)]
    }

    /// The one line of a start that fails. It holds no key.
    fn refused(&self, url: &str, key: &str) -> String {
        let line = refused(&[], &self.settings(url, key));
        assert!(!line.contains(key) && !line.contains(KEY), "{line}");
        line
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_certificate_of_a_trusted_authority_is_written_searched_and_deleted_from() {
    let authority = Authority::new("trusted");
    let (trust, storage) = (Trust::in_authority(&authority), qdrant::Storage::default());
    let index = qdrant::Server::start_behind_tls(authority.certificate_for("localhost"), &storage, anywhere(), Some(KEY));
    let (folder, url) = (tempfile::tempdir().unwrap(), at(&index, "localhost"));
    let settings = trust.settings(&url, KEY);
    let server = Server::start_with(folder.path(), &settings).await;
    let client = server.client();
    let wanted = json!({"text": "kettle", "filter": {"price": {"lt": 3}}});

    let kettles: Vec<_> = (0..6).map(|n| json!({"item_id": format!("kettle-{n}"), "title": format!("Kettle number {n}"), "price": n})).collect();
    client.post("/items", &json!(kettles)).await;
    client.all_searchable().await;
    assert_eq!(found(&client, &wanted).await, ["kettle-0", "kettle-1", "kettle-2"]);
    assert_eq!(client.send(Method::DELETE, "/items/kettle-1", &[], "").await.status, StatusCode::NO_CONTENT);
    client.all_searchable().await;
    assert_eq!(found(&client, &wanted).await, ["kettle-0", "kettle-2"]);

    assert!(metric(&client, r#"inkling_index_seconds_count{operation="nearest"}"#).await >= 2, "asked by meaning, over the wire");
    until("the server's count shows the delete", || async { metric(&client, "inkling_index_points").await == 5 }).await;
    assert!(!server.log().iter().any(|line| line.contains(KEY) || line.contains("unencrypted")), "{:?}", server.log());
    server.stop().await;

    // Another start finds what stands there and writes nothing.
    let server = Server::start_with(folder.path(), &settings).await;
    assert_eq!(found(&server.client(), &wanted).await, ["kettle-0", "kettle-2"]);
    assert_eq!(metric(&server.client(), "inkling_items_indexed_total").await, 0);
    server.stop().await;
}

#[test]
fn a_wrong_key_stops_the_start_and_the_line_names_the_setting() {
    let authority = Authority::new("trusted");
    let index = behind_tls(authority.certificate_for("localhost"));

    let line = Trust::in_authority(&authority).refused(&at(&index, "localhost"), "wr0ng");

    assert!(line.contains("refuses index.api_key") && line.contains("INKLING_INDEX__API_KEY"), "{line}");
}

#[test]
fn a_certificate_that_is_not_trusted_stops_the_start_and_the_line_says_how_to_trust_it() {
    let (authority, other) = (Authority::new("untrusted"), Authority::new("trusted"));
    let index = behind_tls(authority.certificate_for("localhost"));

    let line = Trust::in_authority(&other).refused(&at(&index, "localhost"), KEY);
    assert!(line.contains("SSL_CERT_FILE") && line.ends_with("(UnknownIssuer)"), "{line}");

    let line = Trust::in_authority(&authority).refused(&at(&index, "127.0.0.1"), KEY);
    assert!(line.contains("for another name") && line.contains("localhost"), "{line}");

    let empty = tempfile::NamedTempFile::new().unwrap();
    let line = Trust::in_file(empty.path().to_owned()).refused(&at(&index, "localhost"), KEY);
    assert!(line.contains("ca-certificates") && line.contains("SSL_CERT_FILE"), "{line}");
}

#[test]
fn a_certificate_that_has_expired_stops_the_start_and_the_line_says_so() {
    let authority = Authority::new("trusted");
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let index = behind_tls(authority.signed(&params));

    let line = Trust::in_authority(&authority).refused(&at(&index, "localhost"), KEY);

    assert!(line.contains("renew it"), "{line}");
}

#[test]
fn a_certificate_that_signed_itself_as_an_authority_stops_the_start_although_it_is_trusted() {
    let authority = Authority::new("localhost");
    let index = behind_tls(Identity::from_pem(authority.issuer.pem(), authority.issuer.key().serialize_pem()));

    let line = Trust::in_authority(&authority).refused(&at(&index, "localhost"), KEY);

    assert!(line.contains("one that the authority signed"), "{line}");
}

#[test]
fn tls_on_one_side_only_stops_the_start_and_the_line_says_which() {
    let authority = Authority::new("trusted");
    let (encrypted, plain) = (behind_tls(authority.certificate_for("localhost")), qdrant::Server::start_at(&qdrant::Storage::default(), anywhere(), Some(KEY)));
    let trust = Trust::in_authority(&authority);

    let line = trust.refused(&at(&plain, "localhost"), KEY);
    assert!(line.contains("is not TLS") && line.contains("http://"), "{line}");

    let line = trust.refused(&at(&encrypted, "localhost").replace("https://", "http://"), KEY);
    assert!(line.contains("must begin with https://"), "{line}");
}
