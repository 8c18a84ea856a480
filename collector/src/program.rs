//! The program: logs, traces and TLS are set up for the process, then it is what it was told to be.

use crate::settings::{Role, Settings};
use crate::telemetry::{LogFormat, Traces, start_logs};
use crate::{dev, serve};
use std::process::ExitCode;
use tokio::runtime::Handle;

/// Runs until it is told to stop, or cannot go on.
pub async fn run(settings: Settings) -> ExitCode {
    start_logs(match settings.role {
        Role::Serve(_) => LogFormat::Json,
        Role::Dev(_) => LogFormat::Plain,
    });
    // One provider for the listener, the cluster, the sources and traces. Only a second call would fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // A trail goes on without traces.
    let traces = Traces::start(Handle::current()).inspect_err(|error| tracing::error!("{error}")).ok();
    let code = run_role(settings.role).await;
    if let Some(traces) = traces {
        traces.stop().await;
    }
    code
}

async fn run_role(role: Role) -> ExitCode {
    match role {
        Role::Serve(settings) => match serve::run(settings).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!(%error, "the collector ends");
                ExitCode::FAILURE
            }
        },
        Role::Dev(settings) => match dev::run(settings).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("collector dev: {error}");
                ExitCode::FAILURE
            }
        },
    }
}
