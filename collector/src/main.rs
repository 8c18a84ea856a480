//! The collector's program.

use audittrail_collector::serve;
use audittrail_collector::settings::{Role, Settings};
use clap::Parser;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let Settings { role: Role::Serve(settings) } = Settings::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().flatten_event(true).with_span_list(false).with_env_filter(filter).init();
    // One provider for the listener, the cluster and the sources. Only a second call would fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match serve::run(settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the collector ends");
            ExitCode::FAILURE
        }
    }
}
