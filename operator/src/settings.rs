//! What the operator is told at its start, by flags or environment. The chart sets all of it.

use audittrail_crds::address;
use ipnet::IpNet;
use std::net::SocketAddr;

/// Settings of one operator process.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "audittrail-operator", version, about = "Runs AuditTrails and AuditForwardings")]
pub struct Settings {
    /// Image of the collector.
    #[arg(long, env = "COLLECTOR_IMAGE")]
    pub collector_image: String,

    /// Image of managed Postgres, for trails that name none.
    #[arg(long, env = "POSTGRES_IMAGE")]
    pub postgres_image: String,

    /// Pull policy of both images; Kubernetes' own default when absent.
    #[arg(long, env = "IMAGE_PULL_POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub image_pull_policy: Option<String>,

    /// Namespace the operator runs in.
    #[arg(long, env = "OPERATOR_NAMESPACE")]
    pub namespace: String,

    /// The operator's own service account, in its namespace: collectors are polled with its tokens.
    #[arg(long, env = "OPERATOR_SERVICE_ACCOUNT")]
    pub service_account: String,

    /// The ClusterRole that lets a collector ask who a token belongs to and what it may do.
    #[arg(long, env = "REVIEWS_CLUSTER_ROLE", default_value = "audittrail-collector-reviews")]
    pub reviews_cluster_role: String,

    /// Connect here to poll, whatever the trail: for an operator that runs outside the cluster,
    /// where Service names do not resolve (`kubectl port-forward`). TLS still checks the name.
    #[arg(long, env = "COLLECTOR_ADDRESS")]
    pub collector_address: Option<SocketAddr>,

    /// Networks (CIDR, separated by commas) of sources that may be connected to although they are loopback, link-local or
    /// cloud metadata addresses. Whoever may write an AuditForwarding reaches them from the collector and from the operator.
    #[arg(long, env = "ALLOWED_SOURCE_NETWORKS", value_delimiter = ',', value_parser = address::network)]
    pub allowed_source_networks: Vec<IpNet>,

    /// Where the probes `/livez` and `/readyz` are answered.
    #[arg(long, env = "PROBE_ADDRESS", default_value = "0.0.0.0:8080")]
    pub probe_address: SocketAddr,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn parse(networks: &str) -> Result<Settings, clap::Error> {
        Settings::try_parse_from([
            "audittrail-operator",
            "--collector-image=collector",
            "--postgres-image=postgres",
            "--namespace=audittrail-system",
            "--service-account=audittrail-operator",
            &format!("--allowed-source-networks={networks}"),
        ])
    }

    #[test]
    fn networks_are_separated_by_commas() {
        let settings = parse("127.0.0.0/8,fe80::/10").expect("valid");
        let networks: Vec<String> = settings.allowed_source_networks.iter().map(ToString::to_string).collect();
        assert_eq!(networks, ["127.0.0.0/8", "fe80::/10"]);
    }

    #[test]
    fn a_network_that_is_none_ends_the_start_and_is_named() {
        for networks in ["10.0.0.0/8,127.0.0.1", "localhost", ""] {
            let error = parse(networks).expect_err(networks).to_string();
            assert!(error.contains("is not a network: write its address and length"), "{error}");
        }
    }
}
