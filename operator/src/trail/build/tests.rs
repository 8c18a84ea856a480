//! The children of two trails, as YAML in `snapshots/`. After a wished change: `INSTA_UPDATE=always cargo test`.

use super::*;
use crate::pki::{Authority, Leaf};
use crate::testing::{external, forwarding_inputs, inputs, managed, now, secret, settings, valid};
use crate::trail::validate::validate;
use audittrail_crds::document::{Sensitive, WriteKey};
use k8s_openapi::api::core::v1::Container;
use serde_json::{Value, json};

fn material(managed: bool) -> Material {
    let leaf = |name: &str| Leaf {
        certificate: format!("({name} certificate)"),
        key: Sensitive::new(format!("({name} key)")),
    };
    Material {
        authority: Authority { certificate: "(CA certificate)".to_owned(), key: Sensitive::new("(CA key)") },
        write_keys: vec![WriteKey { name: "acme-write-key/writeKey".to_owned(), key: Sensitive::new("atk_x") }],
        collector_leaf: leaf("collector"),
        postgres_leaf: managed.then(|| leaf("postgres")),
        postgres_password: managed.then(|| Sensitive::new("secret")),
    }
}

fn managed_children(spec: &Value) -> Children {
    children(&valid(spec), &material(true), &settings(), now())
}

fn external_children() -> Children {
    let mut inputs = inputs(&external());
    inputs.secrets.uri = Some(secret("database", &[("uri", "postgresql://u:p@one,two/db")]));
    inputs.forwardings = vec![forwarding_inputs(&json!({"endpoint": "http://source.example/base/", "insecure": true}))];
    children(&validate(&inputs).expect("valid"), &material(false), &settings(), now())
}

#[test]
fn the_networks_that_the_operator_allows_stand_in_the_document() {
    let networks = vec!["127.0.0.0/8".parse().expect("a network"), "::1/128".parse().expect("a network")];
    let settings = Settings { allowed_source_networks: networks, ..settings() };
    let document = document::build(&valid(&managed()), &material(true), &settings, now());
    assert_eq!(document.allowed_source_networks, ["127.0.0.0/8", "::1/128"]);
}

/// With all that a trail can say of its pods and its people.
fn full() -> Value {
    let mut spec = managed();
    spec["storage"]["managed"] = json!({
        "size": "20Gi",
        "storageClassName": "fast",
        "image": "example/postgres:18",
        "resources": {"limits": {"memory": "4Gi"}},
    });
    spec["collector"] = json!({
        "replicas": 3,
        "resources": {"requests": {"cpu": "1"}},
        "tracing": {"endpoint": "http://otel.observability.svc:4318"},
    });
    spec["access"] = json!({
        "owners": [{"kind": "User", "name": "ann"}, {"kind": "ServiceAccount", "name": "audit"}],
        "apiServerTokens": "Refuse",
    });
    spec["ingest"] = json!({
        "serviceAccounts": [{"name": "app"}, {"name": "app", "namespace": "other"}],
        "kubernetes": {"objects": "Keep"},
    });
    spec["retention"] = json!("90d");
    let schema = json!({"required": ["sum"], "properties": {"sum": {"type": "integer"}}});
    let own = json!({"name": "Invoice Sent", "area": "Billing", "aliases": ["Bill Sent"], "schema": schema});
    spec["catalogue"] = json!({"mode": "Strict", "eventTypes": [own, {"name": "Door Opened", "area": "Doors"}]});
    spec
}

/// Name, type, keys and owner of a Secret: what is in it stands in the document's snapshot.
fn outline(secret: &Secret) -> Value {
    json!({
        "name": secret.metadata.name,
        "type": secret.type_,
        "keys": secret.data.as_ref().map(|data| data.keys().collect::<Vec<_>>()),
        "owned": secret.metadata.owner_references.is_some(),
    })
}

/// The script is in a file of its own.
fn without_script(mut stateful_set: StatefulSet) -> StatefulSet {
    let container: Option<&mut Container> =
        stateful_set.spec.as_mut().and_then(|spec| spec.template.spec.as_mut()?.containers.first_mut());
    if let Some(script) = container.and_then(|container| container.command.as_mut()?.last_mut()) {
        *script = "(postgres-start.sh)".to_owned();
    }
    stateful_set
}

#[test]
fn the_smallest_trail() {
    let children = managed_children(&managed());
    insta::assert_yaml_snapshot!("managed_deployment", children.deployment);
    insta::assert_yaml_snapshot!("managed_stateful_set", without_script(children.stateful_set.expect("managed")));
    insta::assert_yaml_snapshot!("managed_services", children.services);
    insta::assert_yaml_snapshot!(
        "managed_access",
        (children.service_accounts, children.roles, children.role_bindings, children.reviews_binding,)
    );
    insta::assert_yaml_snapshot!("managed_config_map", children.config_map);
    insta::assert_yaml_snapshot!("managed_document", children.document);
}

#[test]
fn a_trail_that_says_all_it_can() {
    let children = managed_children(&full());
    insta::assert_yaml_snapshot!("full_deployment", children.deployment.spec);
    insta::assert_yaml_snapshot!("full_stateful_set", without_script(children.stateful_set.expect("managed")).spec);
    insta::assert_yaml_snapshot!("full_document", children.document);
    insta::assert_yaml_snapshot!("full_roles", (&children.roles[2..], &children.role_bindings[1..]));
}

#[test]
fn a_trail_with_a_database_of_somebody_else() {
    let children = external_children();
    assert!(children.stateful_set.is_none());
    let names: Vec<_> = children.services.iter().filter_map(|service| service.metadata.name.clone()).collect();
    assert_eq!(names, ["acme-collector"]);
    insta::assert_yaml_snapshot!("external_document", children.document);
}

#[test]
fn secrets_and_whom_they_belong_to() {
    let children = managed_children(&managed());
    let all: Vec<Value> = children.new_secrets.iter().chain(&children.secrets).map(outline).collect();
    insta::assert_yaml_snapshot!("managed_secrets", all);
}

#[test]
fn a_new_postgres_certificate_restarts_postgres_and_nothing_else() {
    let before = managed_children(&managed());
    let mut material = material(true);
    material.postgres_leaf = Some(Leaf { certificate: "(renewed)".to_owned(), key: Sensitive::new("(renewed key)") });
    let after = children(&valid(&managed()), &material, &settings(), now());
    assert_ne!(before.stateful_set, after.stateful_set);
    assert_eq!((before.deployment, before.document), (after.deployment, after.document));
}

#[test]
fn a_forwarding_rolls_no_pod() {
    let before = managed_children(&managed());
    let mut inputs = inputs(&managed());
    inputs.forwardings = vec![forwarding_inputs(&json!({"region": "US"}))];
    let after = children(&validate(&inputs).expect("valid"), &material(true), &settings(), now());
    assert_ne!(before.document, after.document);
    assert_eq!((before.deployment, before.stateful_set), (after.deployment, after.stateful_set));
}
