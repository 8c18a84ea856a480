//! The HTTP client for a Public API: whom it trusts, and which addresses it connects to.

use super::answer::Failure;
use audittrail_crds::address;
use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Certificate, Client, Url};
use std::sync::Arc;
use std::time::Duration;

/// How long a connection may take to come about, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one request may take as a whole.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// An address that nobody may connect to ([`audittrail_crds::address`]).
#[derive(Debug, thiserror::Error)]
#[error(
    "{} is at {}, a {} address, which is refused unless the operator's chart value forwarding.allowedNetworks has its network",
    .0.host, .0.address, .0.kind
)]
struct RefusedAddress(address::Refused);

/// A client for `url` that trusts the PEM certificates `authorities`, or else the public ones, which are part of this
/// binary as its image has no files of them.
pub fn client(url: &Url, authorities: Option<&str>, allowed: &[IpNet]) -> Result<Client, Failure> {
    address::check_literal(url.host_str().unwrap_or_default(), allowed)
        .map_err(|refused| Failure::refused(RefusedAddress(refused).to_string()))?;
    let trusted = match authorities {
        Some(pem) => Certificate::from_pem_bundle(pem.as_bytes()),
        None => webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(|der| Certificate::from_der(der)).collect(),
    };
    let client = trusted.and_then(|trusted| {
        Client::builder()
            .tls_certs_only(trusted)
            .dns_resolver(Arc::new(Guard { allowed: allowed.into() }))
            // A proxy would connect in our place, and to whatever it likes.
            .no_proxy()
            // The token must not go anywhere else than where the resource says.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .user_agent(concat!("audittrail/", env!("CARGO_PKG_VERSION")))
            .build()
    });
    client.map_err(|error| Failure::refused(format!("the HTTP client cannot be made: {}", innermost(&error))))
}

/// Looks names up, and keeps back addresses that nobody may connect to.
struct Guard {
    allowed: Arc<[IpNet]>,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = Arc::clone(&self.allowed);
        Box::pin(async move {
            // The port follows from the URL.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let permitted = address::permitted(name.as_str(), found, &allowed).map_err(RefusedAddress)?;
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

/// The failure behind an error of the client.
pub fn failure(error: &reqwest::Error) -> Failure {
    if let Some(refused) = causes(error).find_map(|cause| cause.downcast_ref::<RefusedAddress>()) {
        return Failure::refused(refused.to_string());
    }
    Failure::unavailable(if error.is_timeout() {
        format!("no answer within {} s", REQUEST_TIMEOUT.as_secs())
    } else {
        format!("no answer: {}", innermost(error))
    })
}

/// What really happened stands at the end of the chain: "connection refused", "invalid peer certificate".
fn innermost(error: &reqwest::Error) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}

fn causes<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    let first: &'a (dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |cause| cause.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().expect("a URL")
    }

    fn setup() {
        // Another test of the process may have done it.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }

    #[test]
    fn an_address_in_the_url_is_refused_unless_its_network_is_allowed() {
        setup();
        for text in
            ["https://127.0.0.1/", "https://[::1]:8443/", "https://169.254.169.254/latest", "https://0x7f000001/"]
        {
            let failure = client(&url(text), None, &[]).expect_err(text);
            assert!(failure.words().contains("address, which is refused unless"), "{text}: {}", failure.words());
        }
        assert!(client(&url("https://127.0.0.1/"), None, &["127.0.0.0/8".parse().expect("a network")]).is_ok());
        assert!(client(&url("https://10.0.0.1/"), None, &[]).is_ok());
    }

    #[tokio::test]
    async fn a_name_that_leads_to_a_refused_address_only_is_refused() {
        setup();
        let error = client(&url("http://localhost:1/"), None, &[]).expect("a client").get("http://localhost:1/").send();
        let failure = failure(&error.await.expect_err("refused"));
        assert!(matches!(failure, Failure::Refused { .. }), "{failure:?}");
        assert!(failure.words().starts_with("localhost is at "), "{}", failure.words());
    }

    #[tokio::test]
    async fn nobody_there_is_no_refusal() {
        setup();
        let allowed = ["127.0.0.0/8".parse().expect("a network"), "::1/128".parse().expect("a network")];
        let client = client(&url("http://localhost:1/"), None, &allowed).expect("a client");
        let failure = failure(&client.get("http://localhost:1/").send().await.expect_err("nobody is there"));
        assert!(matches!(&failure, Failure::Unavailable { .. }), "{failure:?}");
        assert!(failure.words().contains("onnection refused"), "{}", failure.words());
    }
}
