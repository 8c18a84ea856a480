//! The HTTP client of one forwarding.

use super::encode::{self, Item};
use super::verdict::{self, Answer, Verdict};
use audittrail_crds::document::{Forwarding, Sensitive};
use audittrail_crds::report::State;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

/// How long a connection may take to come about, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request may take as a whole, as in Segment's own libraries.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection without a request is kept. Shorter than what servers do (Node.js: 5 s), so that no request is
/// lost on a connection which the other end is just closing.
const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(4);

/// Largest answer that is read, in bytes. It has room for an error about each item of a batch.
const ANSWER_MAX_BYTES: usize = 1024 * 1024;

/// Longest text of an error, in characters.
pub const ERROR_MAX_CHARS: usize = 300;

/// Sends to one source with one key.
#[derive(Debug)]
pub struct Sender {
    write_key: Sensitive,
    target: Result<Target, TargetError>,
}

#[derive(Debug)]
struct Target {
    client: Client,
    url: Url,
    authorization: HeaderValue,
}

/// Why nothing was delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What follows.
    pub verdict: Verdict,
    /// What happened, for people: at most [`ERROR_MAX_CHARS`] characters, without secrets.
    pub error: String,
}

/// Why nothing can be sent at all.
#[derive(Debug, thiserror::Error)]
enum TargetError {
    #[error("the endpoint is not a URL with http or https")]
    Endpoint,
    #[error("the CA is not a list of PEM certificates")]
    Certificates,
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the HTTP client cannot be made: {0}")]
    Client(#[from] reqwest::Error),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    #[error("the answer is larger than {ANSWER_MAX_BYTES} bytes")]
    AnswerTooLarge,
}

/// An answer, read to its end.
struct Answered {
    status: u16,
    retry_after: Option<String>,
    body: Vec<u8>,
}

impl Fault {
    /// How delivery stands with this fault.
    pub fn state(&self) -> State {
        match self.verdict {
            Verdict::Done => State::Accepting,
            Verdict::Retry { .. } => State::Retrying,
            Verdict::KeyRefused => State::KeyRefused,
            Verdict::EndpointRefused => State::EndpointRefused,
            Verdict::EventRefused => State::EventRefused,
        }
    }
}

impl Sender {
    /// A sender to the source of `entry`. An entry that nothing can be sent to makes one whose
    /// every attempt ends with a fault that says so.
    pub fn new(entry: &Forwarding) -> Self {
        Self { write_key: entry.write_key.clone(), target: Target::new(entry) }
    }

    /// Sends a batch, once.
    pub async fn batch(&self, items: &[Item], now: Timestamp) -> Result<(), Fault> {
        self.post(items, now, verdict::batch).await
    }

    /// Sends an empty batch, to see whether the source is there and takes the key.
    pub async fn probe(&self, now: Timestamp) -> Result<(), Fault> {
        self.post(&[], now, verdict::probe).await
    }

    async fn post(
        &self,
        items: &[Item],
        now: Timestamp,
        verdict: fn(Answer<'_>, Timestamp) -> Verdict,
    ) -> Result<(), Fault> {
        let target = self.target.as_ref().map_err(|error| self.fault(Verdict::EndpointRefused, &error.to_string()))?;
        let body = encode::body(items, self.write_key.reveal(), now);
        let answered = target.post(body).await.map_err(|error| {
            self.fault(Verdict::Retry { after: None }, &format!("no answer from the source: {}", in_full(&error)))
        })?;
        let Answered { status, retry_after, body } = &answered;
        match verdict(Answer { status: *status, retry_after: retry_after.as_deref(), body }, now) {
            Verdict::Done => Ok(()),
            verdict => {
                let words = String::from_utf8_lossy(body);
                Err(self.fault(verdict, format!("the source answered {status}: {words}").trim_end_matches([':', ' '])))
            }
        }
    }

    fn fault(&self, verdict: Verdict, error: &str) -> Fault {
        Fault { verdict, error: presentable(error, self.write_key.reveal()) }
    }
}

impl Target {
    fn new(entry: &Forwarding) -> Result<Self, TargetError> {
        let url: Url = format!("{}/v1/batch", entry.endpoint.trim_end_matches('/'))
            .parse()
            .ok()
            .filter(|url: &Url| matches!(url.scheme(), "http" | "https"))
            .ok_or(TargetError::Endpoint)?;
        // base64 is plain ASCII, which every header can hold.
        let mut authorization =
            HeaderValue::from_str(&basic(entry.write_key.reveal())).map_err(|_| TargetError::Endpoint)?;
        authorization.set_sensitive(true);
        let client = Client::builder()
            .tls_backend_preconfigured(tls(entry.ca.as_deref())?)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .pool_idle_timeout(IDLE_CONNECTION_TIMEOUT)
            // The key must not go anywhere else than where the resource says.
            .redirect(Policy::none())
            .user_agent(concat!("audittrail/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, url, authorization })
    }

    async fn post(&self, body: Vec<u8>) -> Result<Answered, SendError> {
        let response = self
            .client
            .post(self.url.clone())
            .header(AUTHORIZATION, self.authorization.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .send()
            .await?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Answered { status, retry_after, body: read(response).await? })
    }
}

/// Reads the answer to its end: of one that breaks off nobody knows what it would have said.
async fn read(mut response: Response) -> Result<Vec<u8>, SendError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > ANSWER_MAX_BYTES {
            return Err(SendError::AnswerTooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The key as user and no password: the colon is required.
fn basic(write_key: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{write_key}:")))
}

/// Trusts the public authorities, which are part of this binary as its image has no files of them, or else
/// only those of `ca`.
fn tls(ca: Option<&str>) -> Result<ClientConfig, TargetError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                roots.add(certificate.map_err(|_| TargetError::Certificates)?)?;
            }
            if roots.is_empty() {
                return Err(TargetError::Certificates);
            }
        }
        None => {
            roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(versions.with_root_certificates(roots).with_no_client_auth())
}

/// An error with all its causes. Those of `reqwest` are told without the URL, which is in the resource already.
fn in_full(error: &SendError) -> String {
    let mut text = match error {
        SendError::Http(error) if error.is_timeout() && !error.is_connect() => {
            format!("it took longer than {} s", REQUEST_TIMEOUT.as_secs())
        }
        SendError::Http(_) => String::new(),
        SendError::AnswerTooLarge => error.to_string(),
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = if text.is_empty() { words } else { format!("{text}: {words}") };
        }
        cause = error.source();
    }
    text
}

/// One line, without the key in any form in which it was sent, cut to [`ERROR_MAX_CHARS`].
fn presentable(text: &str, write_key: &str) -> String {
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if !write_key.is_empty() {
        let encoded = BASE64_STANDARD.encode(format!("{write_key}:"));
        text = text.replace(&encoded, "[redacted]").replace(write_key, "[redacted]");
    }
    match text.char_indices().nth(ERROR_MAX_CHARS) {
        Some(_) => text.chars().take(ERROR_MAX_CHARS - 1).chain(['…']).collect(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use audittrail_crds::document::StartFrom;
    use axum::Router;
    use axum::routing::post;
    use axum_server::tls_rustls::RustlsConfig;
    use rcgen::CertifiedKey;
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use std::net::SocketAddr;

    fn entry(endpoint: &str) -> Forwarding {
        Forwarding {
            name: "f".to_owned(),
            generation: 1,
            enabled: true,
            endpoint: endpoint.to_owned(),
            write_key: Sensitive::new("secret"),
            ca: None,
            start_from: StartFrom::Now,
        }
    }

    async fn probe(entry: &Forwarding) -> Fault {
        Sender::new(entry).probe(Timestamp::UNIX_EPOCH).await.expect_err("a fault")
    }

    #[tokio::test]
    async fn an_endpoint_that_is_no_url_is_a_fault_of_the_endpoint() {
        for endpoint in ["nowhere", "ftp://host", ""] {
            let fault = probe(&entry(endpoint)).await;
            assert_eq!(fault.state(), State::EndpointRefused, "{endpoint}");
        }
    }

    #[tokio::test]
    async fn a_ca_without_certificates_is_a_fault_of_the_endpoint() {
        let fault = probe(&Forwarding { ca: Some("nothing".to_owned()), ..entry("https://host") }).await;
        assert_eq!(fault.error, "the CA is not a list of PEM certificates");
    }

    #[tokio::test]
    async fn a_refused_connection_is_retried_and_says_why() {
        for endpoint in ["http://127.0.0.1:1", "https://127.0.0.1:1"] {
            let fault = probe(&entry(endpoint)).await;
            assert_eq!(fault.state(), State::Retrying);
            assert!(fault.error.contains("Connection refused") && !fault.error.contains("/v1/"), "{}", fault.error);
        }
    }

    /// A source at https://localhost with a certificate of its own; returns its port and the certificate.
    async fn https_source() -> (u16, String) {
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate can be made");
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("PKCS #8");
        let mut server = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("known versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("they belong together");
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        let handle = axum_server::Handle::new();
        let listening =
            axum_server::bind_rustls(([127, 0, 0, 1], 0).into(), RustlsConfig::from_config(Arc::new(server)))
                .handle(handle.clone());
        let routes = Router::new().route("/v1/batch", post(async || "ok"));
        tokio::spawn(listening.serve(routes.into_make_service()));
        let address: SocketAddr = handle.listening().await.expect("a port is free");
        (address.port(), cert.pem())
    }

    #[tokio::test]
    async fn the_ca_of_the_entry_is_trusted_and_without_it_the_public_ones_are() {
        let (port, certificate) = https_source().await;
        let entry = entry(&format!("https://localhost:{port}"));
        let trusting = Forwarding { ca: Some(certificate), ..entry.clone() };
        assert_eq!(Sender::new(&trusting).probe(Timestamp::UNIX_EPOCH).await, Ok(()));
        let fault = probe(&entry).await;
        assert_eq!(fault.state(), State::Retrying);
        assert!(fault.error.contains("certificate"), "{}", fault.error);
    }

    #[test]
    fn the_user_is_the_key_and_the_password_is_empty() {
        assert_eq!(basic("secret"), "Basic c2VjcmV0Og==");
    }

    #[test]
    fn no_error_shows_the_key_as_it_is_or_encoded() {
        assert_eq!(
            presentable("key\n  secret, header Basic c2VjcmV0Og==", "secret"),
            "key [redacted], header Basic [redacted]"
        );
    }

    #[test]
    fn an_error_is_cut_past_300_characters_and_not_before() {
        assert_eq!(presentable(&"é".repeat(300), "k").chars().count(), 300);
        let cut = presentable(&"é".repeat(301), "k");
        assert_eq!(cut.chars().count(), 300);
        assert!(cut.ends_with("é…"));
    }
}
