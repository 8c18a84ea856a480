//! `audittrail-operator`: reads its settings, connects, runs until it is told to stop.

mod probes;

use audittrail_operator::settings::Settings;
use clap::Parser;
use kube::Client;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// What went wrong with the whole process.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot connect to Kubernetes: {0}")]
    Connect(#[source] kube::Error),
    #[error("cannot find a cluster: {0}. Run in a pod, or set KUBECONFIG")]
    Config(#[from] kube::config::InferConfigError),
    #[error("cannot listen for signals: {0}")]
    Signals(#[source] std::io::Error),
    #[error("cannot answer probes at {address}: {source}")]
    Probes { address: std::net::SocketAddr, source: std::io::Error },
    #[error("cannot start: {0}")]
    Start(#[source] kube::Error),
}

#[tokio::main]
async fn main() -> ExitCode {
    let settings = Settings::parse();
    let filter = filter(&std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default());
    tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).init();
    match run(settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "stopped");
            ExitCode::FAILURE
        }
    }
}

/// `info` unless told otherwise. The client logs each broken connection, several lines for one, and
/// then returns the error, which is logged where it is handled: its own lines come only when asked for.
fn filter(wished: &str) -> EnvFilter {
    let mut directives = if wished.is_empty() { "info".to_owned() } else { wished.to_owned() };
    if !directives.contains("kube_client") {
        directives.push_str(",kube_client=off");
    }
    EnvFilter::new(directives)
}

async fn run(settings: Settings) -> Result<(), Error> {
    // A failure means that the same provider was there before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let stop = stop_on_signal().map_err(Error::Signals)?;
    let address = settings.probe_address;
    let probes = probes::Probes::listen(address).await.map_err(|source| Error::Probes { address, source })?;
    let client = Client::try_from(kube::Config::infer().await?).map_err(Error::Connect)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "started");
    let ready = probes.ready();
    tokio::spawn(probes.answer());
    audittrail_operator::run(client, settings, stop, move || {
        tracing::info!("all AuditTrails and AuditForwardings are known");
        ready.cancel();
    })
    .await
    .map_err(Error::Start)
}

/// Cancelled by the first TERM or INT; rounds in flight then end, which takes seconds.
fn stop_on_signal() -> Result<CancellationToken, std::io::Error> {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        told.cancel();
    });
    Ok(stop)
}
