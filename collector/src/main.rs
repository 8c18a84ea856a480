//! The collector's program.

use audittrail_collector::program;
use audittrail_collector::settings::Settings;
use clap::Parser;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    program::run(Settings::parse()).await
}
