//! Where one forwarding sends to: the URL, the key, and whom to trust.

use super::addresses::{Addresses, RefusedAddress};
use super::answer::{self, AnswerError, Answered};
use super::connections::Connections;
use audittrail_crds::document::{Compression, Forwarding};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::write::GzEncoder;
use ipnet::IpNet;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::io::Write as _;
use std::sync::Arc;
use tokio::time::Instant;

/// How many attempts came before this one, from the second on, as Segment's own library for Node.js sends it.
const RETRY_COUNT: HeaderName = HeaderName::from_static("x-retry-count");

/// A source, ready to be sent to.
pub(super) struct Target {
    url: Url,
    authorization: HeaderValue,
    compression: Compression,
    pub(super) connections: Connections,
}

/// Why nothing can be sent at all.
#[derive(Debug, thiserror::Error)]
pub(super) enum TargetError {
    #[error("the endpoint is not a base URL: http or https, a host, and no credentials, query or fragment")]
    Endpoint,
    #[error(transparent)]
    Address(#[from] RefusedAddress),
    #[error("the CA is not a list of PEM certificates")]
    Certificates,
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

impl Target {
    /// The source of `entry`. Addresses in `allowed` are connected to whatever they are.
    pub(super) fn new(entry: &Forwarding, allowed: &[IpNet]) -> Result<Self, TargetError> {
        let url = batch_url(&entry.endpoint).ok_or(TargetError::Endpoint)?;
        let addresses = Addresses::new(allowed);
        addresses.check(url.host_str().unwrap_or_default())?;
        // base64 is plain ASCII, which every header can hold.
        let mut authorization =
            HeaderValue::from_str(&basic(entry.write_key.reveal())).map_err(|_| TargetError::Endpoint)?;
        authorization.set_sensitive(true);
        let connections = Connections::new(tls(entry.ca.as_deref())?, Arc::new(addresses));
        Ok(Self { url, authorization, compression: entry.delivery.compression, connections })
    }

    /// Sends a body, once, and reads the answer. `retries` is how often it was sent before.
    pub(super) async fn post(&self, body: Vec<u8>, retries: u32) -> Result<Answered, AnswerError> {
        let answered = self.exchange(body, retries).await;
        self.connections.learn(answered.as_ref().ok().map(|answered| answered.status));
        answered
    }

    async fn exchange(&self, body: Vec<u8>, retries: u32) -> Result<Answered, AnswerError> {
        let client = self.connections.client(Instant::now())?;
        let mut request = client
            .request(Method::POST, self.url.clone())
            .header(AUTHORIZATION, self.authorization.clone())
            .header(CONTENT_TYPE, "application/json");
        if retries > 0 {
            request = request.header(RETRY_COUNT, retries);
        }
        let request = match self.compression {
            Compression::None => request.body(body),
            Compression::Gzip => request.header(CONTENT_ENCODING, "gzip").body(gzip(&body)),
        };
        answer::read(request.send().await?).await
    }
}

/// Where batches go; none where `endpoint` is not a base URL. The resource's schema says the same.
fn batch_url(endpoint: &str) -> Option<Url> {
    let mut url: Url = endpoint.parse().ok()?;
    let is_http = matches!(url.scheme(), "http" | "https");
    let has_credentials = !url.username().is_empty() || url.password().is_some();
    if !is_http || has_credentials || url.query().is_some() || url.fragment().is_some() {
        return None;
    }
    url.set_path(&format!("{}/v1/batch", url.path().trim_end_matches('/')));
    Some(url)
}

/// The key as user and no password: the colon is required.
fn basic(write_key: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{write_key}:")))
}

/// At the fast level a full body takes 1 ms and a tenth of its room: less than encoding it took, so it stays on this thread.
fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), flate2::Compression::fast());
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("memory takes all that is written")
}

/// Trusts the public authorities, which are part of this binary as its image has no files of them, or else
/// only those of `ca`.
pub(super) fn tls(ca: Option<&str>) -> Result<ClientConfig, TargetError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read as _;

    #[test]
    fn batches_go_below_the_base_url() {
        let url = |endpoint| batch_url(endpoint).map(String::from);
        assert_eq!(url("https://host").as_deref(), Some("https://host/v1/batch"));
        assert_eq!(url("http://host:81/a%2Fb//").as_deref(), Some("http://host:81/a%2Fb/v1/batch"));
    }

    #[test]
    fn what_is_no_base_url_is_refused() {
        for endpoint in [
            "",
            "nowhere",
            "ftp://host",
            "https://",
            "https://user@host",
            "https://:p@host",
            "https://host?a",
            "https://host#a",
        ] {
            assert_eq!(batch_url(endpoint), None, "{endpoint}");
        }
    }

    #[test]
    fn the_user_is_the_key_and_the_password_is_empty() {
        assert_eq!(basic("secret"), "Basic c2VjcmV0Og==");
    }

    #[test]
    fn a_compressed_body_is_the_body() {
        let body = b"{\"batch\":[]}".repeat(1_000);
        let compressed = gzip(&body);
        let mut again = Vec::new();
        GzDecoder::new(&compressed[..]).read_to_end(&mut again).expect("gzip");
        assert!(again == body && compressed.len() < body.len() / 10);
    }
}
