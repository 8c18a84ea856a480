//! The listener: HTTPS with the document's certificate, exchanged while it runs; plain HTTP when the
//! document has none.

mod patience;

use audittrail_crds::document::{Document, Tls};
use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use patience::{BLOCKED_MAX, Patience};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long a client may take to send the head of its first request. A slow one must not hold a connection for ever.
const FIRST_HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long it may then take to send the next, silence included. Longer than the 90 s for which clients keep
/// idle connections: if we ended one just when the next request comes, that request would be lost.
const NEXT_HEAD_TIMEOUT: Duration = Duration::from_secs(100);

/// Length of a request's head, in bytes, at most: the longest URL that hyper takes (65,534 bytes), and the longest credential
/// ([`CREDENTIAL_MAX_BYTES`](crate::access::credential::CREDENTIAL_MAX_BYTES)) with room beside it. More is answered 431.
pub const HEAD_MAX_BYTES: usize = 96 * 1024;

/// Headers of a request, at most; more is answered 431. hyper's own bound for HTTP/1, named here because setting it
/// would cost an allocation a request. HTTP/2 is bounded by the length of the head.
pub const HEADERS_MAX: usize = 100;

/// How long a client may be silent before HTTP/2 asks whether it is there.
const PING_AFTER: Duration = Duration::from_secs(30);

/// The certificate in use.
#[derive(Clone)]
pub struct Certificate(RustlsConfig);

impl Certificate {
    /// Of the document. The error says what is wrong with the PEM texts, not what is in them.
    pub async fn load(tls: &Tls) -> io::Result<Self> {
        RustlsConfig::from_pem(pem(&tls.certificate), pem(tls.key.reveal())).await.map(Self)
    }

    /// Takes every later certificate of the document. A bad one is logged, and the last good one stays. Never ends.
    pub async fn follow(self, mut documents: watch::Receiver<Arc<Document>>) {
        let mut current = documents.borrow_and_update().tls.clone();
        while documents.changed().await.is_ok() {
            let next = documents.borrow_and_update().tls.clone();
            if next == current {
                continue;
            }
            let Some(tls) = &next else { continue };
            match self.0.reload_from_pem(pem(&tls.certificate), pem(tls.key.reveal())).await {
                Ok(()) => tracing::info!("a new certificate is in use"),
                Err(error) => tracing::error!(%error, "the new certificate cannot be used; the last one stays"),
            }
            current = next;
        }
        std::future::pending::<()>().await;
    }
}

fn pem(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

/// Answers on `listener` until `handle` stops it.
pub async fn serve(
    listener: TcpListener,
    certificate: Option<Certificate>,
    router: Router,
    handle: Handle<SocketAddr>,
) -> io::Result<()> {
    let mut server = axum_server::from_tcp(listener)?.handle(handle).first_request_timeout(FIRST_HEAD_TIMEOUT);
    server.http_builder().http1().header_read_timeout(NEXT_HEAD_TIMEOUT).max_buf_size(HEAD_MAX_BYTES);
    let head_max = u32::try_from(HEAD_MAX_BYTES).unwrap_or(u32::MAX);
    server.http_builder().http2().keep_alive_interval(PING_AFTER).max_header_list_size(head_max);
    let service = router.into_make_service();
    let patience = Patience(BLOCKED_MAX);
    match certificate {
        Some(Certificate(config)) => {
            server.acceptor(RustlsAcceptor::new(config).acceptor(patience)).serve(service).await
        }
        None => server.acceptor(patience).serve(service).await,
    }
}
