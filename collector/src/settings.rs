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
    /// A collector to try, without Kubernetes: finds or starts a Postgres, and prints how to go on.
    Dev(Dev),
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

/// Settings of `collector dev`.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct Dev {
    /// Connection URI of the database to use. Without one, a Postgres is started for as long as this runs.
    #[arg(long, env = "AUDITTRAIL_DATABASE", value_name = "URI", hide_env_values = true)]
    pub database: Option<String>,

    /// Where to listen, in plain HTTP.
    #[arg(long, env = "AUDITTRAIL_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Keeps the data and the keys in this directory, and uses them again. Without it, everything goes at the end.
    #[arg(long, value_name = "DIR", conflicts_with = "database")]
    pub keep: Option<PathBuf>,
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
    use crate::document::accept;
    use audittrail_crds::document::{
        Access, Catalogue, Database, Delivery, Document, EventType, Format, Forwarding, Ingest, Trail,
    };
    use audittrail_crds::filter::EventFilter;
    use clap::CommandFactory;

    fn parse(arguments: &[&str]) -> Result<Serve, clap::Error> {
        let words = ["collector", "serve"].iter().chain(arguments);
        Settings::try_parse_from(words).map(|settings| match settings.role {
            Role::Serve(serve) => serve,
            Role::Dev(_) => panic!("another role"),
        })
    }

    #[test]
    fn trying_it_needs_no_arguments_and_stays_on_this_machine() {
        let settings = Settings::try_parse_from(["collector", "dev"]).expect("valid");
        let Role::Dev(dev) = settings.role else { panic!("another role") };
        assert_eq!(dev, Dev { database: None, listen: SocketAddr::from(([127, 0, 0, 1], 8080)), keep: None });
    }

    #[test]
    fn a_database_that_is_given_is_not_kept_in_a_directory() {
        let both = ["collector", "dev", "--database", "postgresql://db", "--keep", "dir"];
        assert!(Settings::try_parse_from(both).is_err());
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

    /// The first JSON of the page, with fields that are named here so that a new one is not forgotten there.
    #[test]
    fn the_documented_example_is_a_document_with_every_field() {
        let page = include_str!("../../docs/standalone.md");
        let (_, rest) = page.split_once("```json\n").expect("an example");
        let (example, _) = rest.split_once("```").expect("its end");
        let example = accept(None, example.as_bytes()).expect("a document").expect("new");
        #[rustfmt::skip]
        let Document {
            version: _, generation: _, trail, database, access, ingest, catalogue, retention_seconds, known_log, tls, forwardings,
            allowed_source_networks,
        } = &example;
        let Trail { namespace: _, name: _, workspace: _, claim: _ } = trail;
        let Database { uri: _, ca } = database;
        let Access::Tokens(tokens) = access else { panic!("Kubernetes is not asked here") };
        let Ingest { write_keys, kubernetes_objects: _ } = ingest;
        let Catalogue { mode: _, event_types } = catalogue;
        let [EventType { name: _, area: _, aliases, schema }] = &event_types[..] else { panic!("one type") };
        let [forwarding] = &forwardings[..] else { panic!("one forwarding") };
        let Forwarding {
            name: _,
            generation: _,
            enabled: _,
            incomplete: _,
            endpoint: _,
            write_key: _,
            start_from: _,
            ca: source_ca,
            filter,
            format,
            delivery,
        } = forwarding;
        assert!(
            *format == Format::SegmentAudit && *filter != EventFilter::default() && *delivery != Delivery::default()
        );
        assert!(!allowed_source_networks.is_empty());
        assert!(ca.is_some() && retention_seconds.is_some() && known_log.is_some() && tls.is_some());
        assert!(!tokens.is_empty() && write_keys.len() == 2 && !aliases.is_empty() && schema.is_some());
        assert!(source_ca.is_some());
    }

    #[test]
    fn the_replica_has_a_name_without_being_told() {
        assert!(!parse(&["--config", "f"]).expect("valid").replica().is_empty());
        assert_eq!(parse(&["--config", "f", "--replica", "acme-0"]).expect("valid").replica(), "acme-0");
    }
}
