//! What the collector is told at its start, by flags or environment. Everything that may change while
//! it runs stands in the document instead.

use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where Linux tells the name of the machine; in a pod that is the pod's name.
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

/// The command line.
#[derive(Clone, Debug, Parser)]
#[command(name = "collector", version, about = "Accepts audit events, keeps them, answers for them and forwards them")]
pub struct Settings {
    /// What to be.
    #[command(subcommand)]
    pub role: Role,
}

/// What to be.
#[derive(Clone, Debug, Subcommand)]
pub enum Role {
    /// The collector of a workspace.
    Serve(Serve),
}

/// Settings of `collector serve`.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct Serve {
    /// Where the configuration document is.
    #[command(flatten)]
    pub document: DocumentPlace,

    /// Namespace of the Secret: the collector's own.
    #[arg(long, env = "AUDITTRAIL_NAMESPACE")]
    pub namespace: Option<String>,

    /// Where to listen: HTTPS when the document has a certificate, else plain HTTP.
    #[arg(long, env = "AUDITTRAIL_LISTEN", default_value = "0.0.0.0:8443")]
    pub listen: SocketAddr,

    /// Name of this replica, unique within the trail: its pod's. The host's name when absent.
    #[arg(long, env = "POD_NAME")]
    pub replica: Option<String>,
}

/// Where the configuration document is: exactly one of the two.
#[derive(Args, Clone, Debug, PartialEq)]
#[group(required = true, multiple = false)]
pub struct DocumentPlace {
    /// The document as a file, followed as it changes.
    #[arg(long = "config", env = "AUDITTRAIL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Name of the Secret that holds the document, on Kubernetes; followed as it changes.
    #[arg(long, env = "AUDITTRAIL_DOCUMENT_SECRET", value_name = "NAME", requires = "namespace")]
    pub document_secret: Option<String>,
}

impl Serve {
    /// The replica's name, as given or the host's.
    pub fn replica(&self) -> String {
        let host = || std::fs::read_to_string(HOST_NAME_FILE).ok().map(|name| name.trim().to_owned());
        self.replica.clone().or_else(host).unwrap_or_else(|| "collector".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(arguments: &[&str]) -> Result<Serve, clap::Error> {
        let words = ["collector", "serve"].iter().chain(arguments);
        Settings::try_parse_from(words).map(|Settings { role: Role::Serve(serve) }| serve)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Settings::command().debug_assert();
    }

    #[test]
    fn a_file_is_enough() {
        let serve = parse(&["--config", "document.json"]).expect("valid");
        assert_eq!(serve.document.config, Some(PathBuf::from("document.json")));
        assert_eq!(serve.listen, SocketAddr::from(([0, 0, 0, 0], 8443)));
    }

    #[test]
    fn a_secret_needs_its_namespace() {
        let serve = parse(&["--document-secret", "acme-collector", "--namespace", "team-a"]).expect("valid");
        assert_eq!(serve.document.document_secret.as_deref(), Some("acme-collector"));
        assert!(parse(&["--document-secret", "acme-collector"]).is_err());
    }

    #[test]
    fn there_is_exactly_one_document() {
        assert!(parse(&[]).is_err());
        assert!(parse(&["--config", "f", "--document-secret", "s", "--namespace", "n"]).is_err());
    }

    #[test]
    fn the_replica_has_a_name_without_being_told() {
        assert!(!parse(&["--config", "f"]).expect("valid").replica().is_empty());
        assert_eq!(parse(&["--config", "f", "--replica", "acme-0"]).expect("valid").replica(), "acme-0");
    }
}
