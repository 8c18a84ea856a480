//! Connections to one source: kept while all is well, and for how long.

use reqwest::Client;
use reqwest::dns::Resolve;
use reqwest::redirect::Policy;
use rustls::ClientConfig;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a connection may take to come about, look-up and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request may take as a whole, to the answer's last byte, as in Segment's own libraries.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection without a request is kept. Shorter than what servers do (Node.js: 5 s), so that no request is
/// lost on a connection which the other end is just closing.
const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(4);

/// How long connections may be used before the source's name is looked up again: Segment's addresses are not static, and
/// its documentation asks for this.
const ADDRESSES_MAX_AGE: Duration = Duration::from_hours(24);

/// Connections to one source. A name is looked up for each new connection, and so whenever those at hand are given up.
pub(super) struct Connections {
    tls: ClientConfig,
    resolver: Arc<dyn Resolve>,
    /// How long a request may take.
    pub(super) request_timeout: Duration,
    kept: Mutex<Option<Kept>>,
}

/// A client, which keeps its connections, and since when there is this one.
struct Kept {
    client: Client,
    since: Instant,
}

impl Connections {
    /// No connection yet. `resolver` decides what may be connected to.
    pub(super) fn new(tls: ClientConfig, resolver: Arc<dyn Resolve>) -> Self {
        Self { tls, resolver, request_timeout: REQUEST_TIMEOUT, kept: Mutex::new(None) }
    }

    /// The client to send with at this moment.
    pub(super) fn client(&self, now: Instant) -> Result<Client, reqwest::Error> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Kept { client, since }) = &*kept
            && is_fresh(now.duration_since(*since))
        {
            return Ok(client.clone());
        }
        let client = self.new_client()?;
        *kept = Some(Kept { client: client.clone(), since: now });
        Ok(client)
    }

    /// Gives up the connections at hand where this outcome (the answer's status code, or none) is a reason to.
    pub(super) fn learn(&self, status: Option<u16>) {
        if is_lost(status) {
            *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    fn new_client(&self) -> Result<Client, reqwest::Error> {
        Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .dns_resolver(Arc::clone(&self.resolver))
            // Not through a proxy that the environment names: it would look the name up itself, and connect for us to
            // addresses that are refused here.
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(self.request_timeout)
            .pool_idle_timeout(IDLE_CONNECTION_TIMEOUT)
            // The key must not go anywhere else than where the resource says.
            .redirect(Policy::none())
            .user_agent(concat!("audittrail/", env!("CARGO_PKG_VERSION")))
            .build()
    }
}

/// Whether connections of this age may be used.
fn is_fresh(age: Duration) -> bool {
    age < ADDRESSES_MAX_AGE
}

/// Whether another address may help: where there was no answer, and where the server that answered cannot serve (5xx,
/// after which Segment's documentation asks to look the name up again).
fn is_lost(status: Option<u16>) -> bool {
    status.is_none_or(|status| status >= 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_used_for_a_day() {
        assert!(is_fresh(Duration::from_millis(24 * 60 * 60 * 1000 - 1)));
        assert!(!is_fresh(Duration::from_hours(24)));
    }

    #[test]
    fn connections_are_lost_without_an_answer_and_with_5xx() {
        for status in [None, Some(500), Some(503), Some(599)] {
            assert!(is_lost(status), "{status:?}");
        }
        for status in [200, 400, 408, 429, 499] {
            assert!(!is_lost(Some(status)), "{status}");
        }
    }
}
