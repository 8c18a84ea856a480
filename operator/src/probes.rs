//! `/livez` and `/readyz`, over plain HTTP and to anybody: they tell nothing but yes or no.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The listener, and whether the operator is ready.
pub struct Probes {
    listener: TcpListener,
    ready: CancellationToken,
}

impl Probes {
    /// Listens at `address`; not ready yet.
    pub async fn listen(address: SocketAddr) -> Result<Self, std::io::Error> {
        Ok(Self { listener: TcpListener::bind(address).await?, ready: CancellationToken::new() })
    }

    /// Cancel this to become ready.
    pub fn ready(&self) -> CancellationToken {
        self.ready.clone()
    }

    /// Answers until the process ends.
    pub async fn answer(self) {
        let ready = self.ready;
        let readiness = move || {
            let status = if ready.is_cancelled() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            std::future::ready(status)
        };
        let routes = Router::new().route("/livez", get(async || StatusCode::OK)).route("/readyz", get(readiness));
        if let Err(error) = axum::serve(self.listener, routes).await {
            tracing::error!(%error, "probes are answered no more");
        }
    }
}
