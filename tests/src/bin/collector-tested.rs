//! The collector's program once more, as part of this package: cargo builds it for the tests that run it, and tells them
//! where it is.

use audittrail_collector::program;
use audittrail_collector::settings::Settings;
use clap::Parser;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    program::run(Settings::parse()).await
}
