//! Names and labels of everything that a trail is made of. Nothing else puts a name together.

use audittrail_crds::AuditTrail;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use std::collections::BTreeMap;

/// Which trail: namespace and name.
pub type Key = ObjectRef<AuditTrail>;

/// Field manager of every server-side apply, and the reporter of Events.
pub const OPERATOR: &str = "audittrail-operator";

/// On every child: the name of its trail. Maps a child to its trail where no owner reference does.
pub const TRAIL_LABEL: &str = "audittrail.dev/trail";

/// On what an `AuditTrail` must undo before it goes: objects outside the reach of owner references.
pub const FINALIZER: &str = "audittrail.dev/cleanup";

/// Selects every child of every trail.
pub const CHILDREN_SELECTOR: &str = "app.kubernetes.io/managed-by=audittrail-operator";

/// Port of Postgres.
pub const POSTGRES_PORT: i32 = 5432;

/// The role, and the database, of a managed Postgres.
pub const POSTGRES_USER: &str = "audittrail";

/// A part of a trail; value of the label `app.kubernetes.io/component`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Component {
    /// The collector.
    Collector,
    /// The managed Postgres.
    Postgres,
    /// Who may do what: keys, certificates, access rules.
    Access,
}

impl Component {
    fn label(self) -> &'static str {
        match self {
            Self::Collector => "collector",
            Self::Postgres => "postgres",
            Self::Access => "access",
        }
    }
}

/// Names of a trail's children.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Names {
    /// Namespace of the trail and of all children but the ClusterRoleBinding.
    pub namespace: String,
    /// Name of the `AuditTrail`.
    pub trail: String,
}

impl Names {
    /// Names of the children of `trail`.
    pub fn of(trail: &AuditTrail) -> Self {
        Self { namespace: trail.namespace().unwrap_or_default(), trail: trail.name_any() }
    }

    /// Secret with the trail's certificate authority, and ConfigMap with its certificate.
    pub fn ca(&self) -> String {
        format!("{}-ca", self.trail)
    }

    /// Secret with the write key that the operator makes.
    pub fn write_key(&self) -> String {
        format!("{}-write-key", self.trail)
    }

    /// Deployment, Service, ServiceAccount, Role, RoleBinding and Secret of the collector.
    pub fn collector(&self) -> String {
        format!("{}-collector", self.trail)
    }

    /// StatefulSet, Service, ServiceAccount and Secret (the password) of managed Postgres.
    pub fn postgres(&self) -> String {
        format!("{}-postgres", self.trail)
    }

    /// Secret with the certificate of managed Postgres.
    pub fn postgres_tls(&self) -> String {
        format!("{}-postgres-tls", self.trail)
    }

    /// PersistentVolumeClaim of managed Postgres, as the StatefulSet names it.
    pub fn postgres_volume(&self) -> String {
        format!("data-{}-0", self.postgres())
    }

    /// Role, RoleBinding and ServiceAccount of those who may read.
    pub fn owner(&self) -> String {
        format!("{}-owner", self.trail)
    }

    /// Role and RoleBinding of service accounts that may write.
    pub fn writer(&self) -> String {
        format!("{}-writer", self.trail)
    }

    /// ClusterRoleBinding that lets the collector ask for reviews. A colon cannot be part of a
    /// namespace or a trail's name, so no two trails share one.
    pub fn reviews_binding(&self) -> String {
        format!("audittrail:{}:{}:collector", self.namespace, self.trail)
    }

    /// DNS name of the collector's Service; also the audience that tokens must carry.
    pub fn collector_host(&self) -> String {
        format!("{}.{}.svc", self.collector(), self.namespace)
    }

    /// DNS name of managed Postgres.
    pub fn postgres_host(&self) -> String {
        format!("{}.{}.svc", self.postgres(), self.namespace)
    }

    /// URL of the collector inside the cluster.
    pub fn url(&self) -> String {
        format!("https://{}", self.collector_host())
    }

    /// DNS names and addresses in the collector's certificate. `localhost` serves `kubectl port-forward`.
    pub fn collector_certificate_names(&self) -> Vec<String> {
        let mut names = service_names(&self.collector(), &self.namespace);
        names.extend(["localhost".to_owned(), "127.0.0.1".to_owned()]);
        names
    }

    /// DNS names in the certificate of managed Postgres.
    pub fn postgres_certificate_names(&self) -> Vec<String> {
        service_names(&self.postgres(), &self.namespace)
    }

    /// Labels that select the pods of `component`. They never change: a selector cannot.
    pub fn selector(&self, component: Component) -> BTreeMap<String, String> {
        labels([
            ("app.kubernetes.io/name", "audittrail"),
            ("app.kubernetes.io/instance", &self.trail),
            ("app.kubernetes.io/component", component.label()),
        ])
    }

    /// Labels of every child.
    pub fn labels(&self, component: Component) -> BTreeMap<String, String> {
        let mut all = self.selector(component);
        all.extend(labels([("app.kubernetes.io/managed-by", OPERATOR), (TRAIL_LABEL, &self.trail)]));
        all
    }
}

fn service_names(service: &str, namespace: &str) -> Vec<String> {
    let host = format!("{service}.{namespace}.svc");
    vec![service.to_owned(), format!("{service}.{namespace}"), host.clone(), format!("{host}.cluster.local")]
}

fn labels<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use audittrail_crds::trail::NAME_MAX_CHARS;

    #[test]
    fn names_of_the_longest_trail_fit_a_dns_label() {
        let names = Names { namespace: "ns".to_owned(), trail: "a".repeat(NAME_MAX_CHARS) };
        // A StatefulSet's pod gets "-0", and its controller-revision label ten more characters and a dash.
        assert!(names.postgres().len() + 11 <= 63);
        assert!(names.postgres_volume().len() <= 63);
        assert!(names.collector().len() <= 63);
    }
}
