//! The fake HTTP API source as a program: prints one line for each event it receives.

use audittrail_source::{Settings, Source};
use clap::Parser;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// An HTTP API source in the shape of Segment's Tracking API, for tests and the demo.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Address to listen on.
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Write key that requests must carry; any other is answered 401. Without it, every key is taken.
    #[arg(long, env = "WRITE_KEY", hide_env_values = true)]
    write_key: Option<String>,
    /// Token that the Public API takes. Without it, it takes none.
    #[arg(long, env = "WORKSPACE_TOKEN", hide_env_values = true)]
    workspace_token: Option<String>,
    /// File that keeps what was received over a restart.
    #[arg(long, env = "FILE")]
    file: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let Arguments { listen, write_key, workspace_token, file } = Arguments::parse();
    let write_key = write_key.filter(|key| !key.is_empty());
    let source = Source::open(Settings { write_key, file, print: true, workspace_token })?;
    let listener = TcpListener::bind(listen).await?;
    // On stderr, since stdout is for events; tests read the port from here.
    eprintln!("listening on {}", listener.local_addr()?);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::select! {
        served = source.serve(listener, std::future::pending()) => served,
        // A request that hangs by script must not keep the program.
        () = shutdown => Ok(()),
    }
}
