//! What the operator is told at its start, by flags or environment. The chart sets all of it.

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

    /// Where the probes `/livez` and `/readyz` are answered.
    #[arg(long, env = "PROBE_ADDRESS", default_value = "0.0.0.0:8080")]
    pub probe_address: SocketAddr,
}
