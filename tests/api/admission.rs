//! What the API server itself refuses: schema and CEL rules, each at its bound and one past it,
//! with the field named.

use audittrail_crds::document::{CatalogueMode, KubernetesObjects};
use audittrail_crds::{AuditForwarding, AuditTrail};
use audittrail_tests::control_plane::ControlPlane;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;

const NAMESPACE: &str = "default";

/// A trail that is admitted, with `change` merged over it.
fn trail(change: &Value) -> Value {
    let mut trail = json!({
        "apiVersion": "audittrail.dev/v1alpha1",
        "kind": "AuditTrail",
        "metadata": {"name": "acme"},
        "spec": {"workspace": "Acme", "storage": {"managed": {}}},
    });
    merge(&mut trail, change);
    trail
}

/// A forwarding that is admitted, with `change` merged over it.
fn forwarding(change: &Value) -> Value {
    let mut forwarding = json!({
        "apiVersion": "audittrail.dev/v1alpha1",
        "kind": "AuditForwarding",
        "metadata": {"name": "to-segment"},
        "spec": {
            "trailRef": {"name": "acme"},
            "source": {"httpApi": {"region": "US", "writeKeySecretRef": {"name": "source"}}},
        },
    });
    merge(&mut forwarding, change);
    forwarding
}

/// RFC 7386: null removes.
fn merge(target: &mut Value, change: &Value) {
    let Value::Object(change) = change else {
        *target = change.clone();
        return;
    };
    for (field, value) in change {
        match value {
            Value::Null => drop(target.as_object_mut().expect("an object").remove(field)),
            value => merge(target.as_object_mut().expect("an object").entry(field).or_insert(json!({})), value),
        }
    }
}

trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize
{
}
impl Kind for AuditTrail {}
impl Kind for AuditForwarding {}

/// What the API server says to `object`, without keeping it.
async fn ask<K: Kind>(client: &Client, object: Value) -> Result<K, String> {
    let api = Api::<kube::core::DynamicObject>::namespaced_with(
        client.clone(),
        NAMESPACE,
        &kube::core::ApiResource::erase::<K>(&()),
    );
    let object = serde_json::from_value(object).expect("an object");
    let answer = api.create(&PostParams { dry_run: true, ..PostParams::default() }, &object).await;
    answer.map(|object| object.try_parse().expect("its kind")).map_err(|error| error.to_string())
}

async fn admitted<K: Kind>(client: &Client, object: Value) -> K {
    ask(client, object.clone()).await.unwrap_or_else(|error| panic!("{object}: {error}"))
}

async fn refused<K: Kind>(client: &Client, object: Value, words: &str) {
    match ask::<K>(client, object.clone()).await {
        Ok(_) => panic!("admitted: {object}"),
        Err(error) => assert!(error.contains(words), "{words:?} is not in {error}"),
    }
}

async fn client() -> Option<Client> {
    Some(ControlPlane::shared()?.admin().await)
}

#[tokio::test]
async fn admit_a_trail_with_all_defaults() {
    let Some(client) = client().await else { return };
    let trail: AuditTrail = admitted(&client, trail(&json!({}))).await;
    let managed = trail.spec.storage.managed.expect("managed");
    assert_eq!((trail.spec.collector.replicas, managed.size.as_str()), (1, "10Gi"));
    assert_eq!((trail.spec.retention, trail.spec.collector.tracing), (None, None));
    assert_eq!((trail.spec.catalogue.mode, trail.spec.catalogue.event_types), (CatalogueMode::Open, Vec::new()));
    assert_eq!(trail.spec.ingest.kubernetes.objects, KubernetesObjects::Omit);
}

#[tokio::test]
async fn admit_retention_in_hours_and_days() {
    let Some(client) = client().await else { return };
    let with = |retention: Value| trail(&json!({"spec": {"retention": retention}}));
    for good in ["1h", "36h", "90d", "99999d"] {
        let kept: AuditTrail = admitted(&client, with(json!(good))).await;
        assert_eq!(kept.spec.retention.as_deref(), Some(good));
    }
    for bad in ["", "0d", "90", "d", "-1d", "1.5d", "90 d", "90D", "2w", "1d12h", "90d\n", "100000d", "09d"] {
        refused::<AuditTrail>(&client, with(json!(bad)), "spec.retention").await;
    }
    refused::<AuditTrail>(&client, with(json!(90)), "spec.retention").await;
}

/// A trail with these types of its own.
fn with_types(types: &Value) -> Value {
    trail(&json!({"spec": {"catalogue": {"eventTypes": types}}}))
}

#[tokio::test]
async fn admit_catalogues_of_the_two_modes() {
    let Some(client) = client().await else { return };
    let with = |mode: &str| trail(&json!({"spec": {"catalogue": {"mode": mode}}}));
    admitted::<AuditTrail>(&client, with("Open")).await;
    admitted::<AuditTrail>(&client, with("Strict")).await;
    refused::<AuditTrail>(&client, with("Closed"), "spec.catalogue.mode").await;
}

#[tokio::test]
async fn admit_event_types_whose_names_have_1_to_128_characters() {
    let Some(client) = client().await else { return };
    let texts =
        |name: &str, area: &str, alias: &str| with_types(&json!([{"name": name, "area": area, "aliases": [alias]}]));
    let longest = "ä".repeat(128);
    admitted::<AuditTrail>(&client, texts(&longest, &longest, &longest)).await;
    admitted::<AuditTrail>(&client, texts("é", "é", "é")).await;
    for bad in ["", " x", "x ", "a\nb", "a\u{85}b", "ä".repeat(129).as_str()] {
        refused::<AuditTrail>(&client, texts(bad, "x", "x"), "spec.catalogue.eventTypes[0].name").await;
        refused::<AuditTrail>(&client, texts("x", bad, "x"), "spec.catalogue.eventTypes[0].area").await;
        refused::<AuditTrail>(&client, texts("x", "x", bad), "spec.catalogue.eventTypes[0].aliases[0]").await;
    }
    refused::<AuditTrail>(&client, with_types(&json!([{"name": "x"}])), "spec.catalogue.eventTypes[0].area").await;
    refused::<AuditTrail>(&client, with_types(&json!([{"area": "x"}])), "spec.catalogue.eventTypes[0].name").await;
}

#[tokio::test]
async fn admit_1000_event_types_with_20_aliases() {
    let Some(client) = client().await else { return };
    let aliases = |count: usize| -> Vec<String> { (0..count).map(|number| format!("Alias {number}")).collect() };
    let types = |count: usize| -> Value {
        (0..count).map(|number| json!({"name": format!("Type {number}"), "area": "Doors"})).collect()
    };
    admitted::<AuditTrail>(&client, with_types(&types(1000))).await;
    refused::<AuditTrail>(&client, with_types(&types(1001)), "spec.catalogue.eventTypes").await;
    let with = |count| with_types(&json!([{"name": "Door Opened", "area": "Doors", "aliases": aliases(count)}]));
    admitted::<AuditTrail>(&client, with(20)).await;
    refused::<AuditTrail>(&client, with(21), "spec.catalogue.eventTypes[0].aliases").await;
}

#[tokio::test]
async fn admit_no_event_type_twice() {
    let Some(client) = client().await else { return };
    let one = json!({"name": "Door Opened", "area": "Doors"});
    refused::<AuditTrail>(&client, with_types(&json!([one, one])), "Duplicate value").await;
    let aliased = json!([{"name": "Door Opened", "area": "Doors", "aliases": ["x", "x"]}]);
    refused::<AuditTrail>(&client, with_types(&aliased), "Duplicate value").await;
}

#[tokio::test]
async fn admit_schemas_as_they_are() {
    let Some(client) = client().await else { return };
    let with = |schema: &Value| with_types(&json!([{"name": "Door Opened", "area": "Doors", "schema": schema}]));
    let schema = json!({
        "$defs": {"door": {"enum": [null, 1, "x"]}},
        "properties": {"door": {"$ref": "#/$defs/door", "default": null}, "metadata": {"x-own": [true, {}]}},
        "additionalProperties": false,
        "maximum": 1.5,
    });
    let kept: AuditTrail = admitted(&client, with(&schema)).await;
    assert_eq!(kept.spec.catalogue.event_types[0].schema.clone().map(Value::Object), Some(schema));
    for bad in [json!(true), json!("{}"), json!([])] {
        refused::<AuditTrail>(&client, with(&bad), "spec.catalogue.eventTypes[0].schema").await;
    }
}

#[tokio::test]
async fn admit_kubernetes_objects_of_the_list() {
    let Some(client) = client().await else { return };
    let with = |objects: &str| trail(&json!({"spec": {"ingest": {"kubernetes": {"objects": objects}}}}));
    let kept: AuditTrail = admitted(&client, with("Keep")).await;
    assert_eq!(kept.spec.ingest.kubernetes.objects, KubernetesObjects::Keep);
    refused::<AuditTrail>(&client, with("Some"), "spec.ingest.kubernetes.objects").await;
}

#[tokio::test]
async fn admit_traces_to_a_url() {
    let Some(client) = client().await else { return };
    let with = |endpoint: &str| trail(&json!({"spec": {"collector": {"tracing": {"endpoint": endpoint}}}}));
    let of_length =
        |chars: usize| format!("https://otel.example/{}", "a".repeat(chars - "https://otel.example/".len()));
    for good in ["http://otel.observability.svc:4318", "https://otel.example/base", of_length(2000).as_str()] {
        admitted::<AuditTrail>(&client, with(good)).await;
    }
    for bad in
        ["", "otel:4318", "grpc://otel:4317", "https://", "https://user@otel", "https://otel/?a=b", "https://o tel"]
    {
        refused::<AuditTrail>(&client, with(bad), "spec.collector.tracing.endpoint").await;
    }
    refused::<AuditTrail>(&client, with(&of_length(2001)), "spec.collector.tracing.endpoint").await;
    let without = trail(&json!({"spec": {"collector": {"tracing": {}}}}));
    refused::<AuditTrail>(&client, without, "spec.collector.tracing.endpoint").await;
}

#[tokio::test]
async fn admit_the_example_with_a_catalogue() {
    let Some(control_plane) = ControlPlane::shared() else { return };
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/catalogue.yaml");
    let said = control_plane.kubectl(&["apply", "--server-side", "--dry-run=server", "-f", example], "");
    assert!(said.contains("audittrail.audittrail.dev/billing serverside-applied"), "{said}");
}

#[tokio::test]
async fn admit_names_of_trails_up_to_40_characters() {
    let Some(client) = client().await else { return };
    let named = |name: &str| trail(&json!({"metadata": {"name": name}}));
    admitted::<AuditTrail>(&client, named(&"a".repeat(40))).await;
    refused::<AuditTrail>(&client, named(&"a".repeat(41)), "metadata.name must be at most 40 characters").await;
    refused::<AuditTrail>(&client, named("1acme"), "metadata.name must be a DNS label that starts with a letter").await;
    refused::<AuditTrail>(&client, named("a.b"), "metadata.name must be a DNS label that starts with a letter").await;
}

#[tokio::test]
async fn admit_workspaces_of_1_to_100_characters() {
    let Some(client) = client().await else { return };
    let called = |workspace: String| trail(&json!({"spec": {"workspace": workspace}}));
    admitted::<AuditTrail>(&client, called("ä".repeat(100))).await;
    refused::<AuditTrail>(&client, called("ä".repeat(101)), "spec.workspace").await;
    refused::<AuditTrail>(&client, called(String::new()), "spec.workspace").await;
}

#[tokio::test]
async fn admit_exactly_one_storage() {
    let Some(client) = client().await else { return };
    let external = json!({"uriSecretRef": {"name": "database"}});
    let words = "set exactly one of storage.managed and storage.external";
    admitted::<AuditTrail>(&client, trail(&json!({"spec": {"storage": {"managed": null, "external": external}}})))
        .await;
    refused::<AuditTrail>(&client, trail(&json!({"spec": {"storage": {"external": external}}})), words).await;
    refused::<AuditTrail>(&client, trail(&json!({"spec": {"storage": {"managed": null}}})), words).await;
}

#[tokio::test]
async fn admit_sizes_in_mi_gi_and_ti() {
    let Some(client) = client().await else { return };
    let sized = |size: &str| trail(&json!({"spec": {"storage": {"managed": {"size": size}}}}));
    for size in ["512Mi", "1Gi", "2Ti"] {
        admitted::<AuditTrail>(&client, sized(size)).await;
    }
    for size in ["0Gi", "1G", "1.5Gi", "", "Gi"] {
        refused::<AuditTrail>(&client, sized(size), "spec.storage.managed.size").await;
    }
}

#[tokio::test]
async fn admit_1_to_20_replicas() {
    let Some(client) = client().await else { return };
    let with = |replicas: i32| trail(&json!({"spec": {"collector": {"replicas": replicas}}}));
    for (replicas, good) in [(0, false), (1, true), (20, true), (21, false)] {
        if good {
            admitted::<AuditTrail>(&client, with(replicas)).await;
        } else {
            refused::<AuditTrail>(&client, with(replicas), "spec.collector.replicas").await;
        }
    }
}

#[tokio::test]
async fn admit_100_owners_and_100_writers() {
    let Some(client) = client().await else { return };
    let owner = json!({"kind": "User", "name": "ann"});
    let owners = |count: usize| trail(&json!({"spec": {"access": {"owners": vec![owner.clone(); count]}}}));
    admitted::<AuditTrail>(&client, owners(100)).await;
    refused::<AuditTrail>(&client, owners(101), "spec.access.owners").await;
    let writer = json!({"name": "app"});
    let writers = |count: usize| trail(&json!({"spec": {"ingest": {"serviceAccounts": vec![writer.clone(); count]}}}));
    admitted::<AuditTrail>(&client, writers(100)).await;
    refused::<AuditTrail>(&client, writers(101), "spec.ingest.serviceAccounts").await;
}

#[tokio::test]
async fn admit_deletion_policies_of_the_list() {
    let Some(client) = client().await else { return };
    let with = |policy: &str| trail(&json!({"spec": {"deletionPolicy": policy}}));
    admitted::<AuditTrail>(&client, with("Delete")).await;
    refused::<AuditTrail>(&client, with("Orphan"), "spec.deletionPolicy").await;
}

#[tokio::test]
async fn admit_no_change_of_what_is_immutable_in_a_trail() {
    let Some(client) = client().await else { return };
    let api = Api::<AuditTrail>::namespaced(client, NAMESPACE);
    let made = serde_json::from_value(trail(&json!({"metadata": {"name": "immutable"}}))).expect("a trail");
    api.create(&PostParams::default(), &made).await.expect("admitted");
    for (change, words) in [
        (json!({"workspace": "Other"}), "workspace is immutable"),
        (json!({"storage": {"managed": {"size": "20Gi"}}}), "storage.managed.size is immutable"),
        (
            json!({"storage": {"managed": null, "external": {"uriSecretRef": {"name": "x"}}}}),
            "storage cannot change between managed and external",
        ),
    ] {
        let patch = Patch::Merge(json!({"spec": change}));
        let error = api.patch("immutable", &PatchParams::default(), &patch).await.expect_err("refused").to_string();
        assert!(error.contains(words), "{words:?} is not in {error}");
    }
    let patch = Patch::Merge(json!({"spec": {"collector": {"replicas": 3}, "deletionPolicy": "Delete"}}));
    api.patch("immutable", &PatchParams::default(), &patch).await.expect("the rest may change");
}

#[tokio::test]
async fn admit_a_forwarding_that_is_on_by_default() {
    let Some(client) = client().await else { return };
    let forwarding: AuditForwarding = admitted(&client, forwarding(&json!({}))).await;
    assert!(forwarding.spec.enabled && !forwarding.spec.source.http_api.insecure);
}

#[tokio::test]
async fn admit_names_of_forwardings_up_to_63_characters() {
    let Some(client) = client().await else { return };
    let named = |name: String| forwarding(&json!({"metadata": {"name": name}}));
    admitted::<AuditForwarding>(&client, named("a".repeat(63))).await;
    refused::<AuditForwarding>(&client, named("a".repeat(64)), "metadata.name must be at most 63 characters").await;
}

#[tokio::test]
async fn admit_exactly_one_of_endpoint_and_region() {
    let Some(client) = client().await else { return };
    let source = |change: Value| forwarding(&json!({"spec": {"source": {"httpApi": change}}}));
    let words = "set exactly one of source.httpApi.endpoint and source.httpApi.region";
    admitted::<AuditForwarding>(&client, source(json!({"region": null, "endpoint": "https://source.example/base"})))
        .await;
    refused::<AuditForwarding>(&client, source(json!({"endpoint": "https://source.example"})), words).await;
    refused::<AuditForwarding>(&client, source(json!({"region": null})), words).await;
    refused::<AuditForwarding>(&client, source(json!({"region": "APAC"})), "spec.source.httpApi.region").await;
}

#[tokio::test]
async fn admit_plain_http_only_when_it_is_called_insecure() {
    let Some(client) = client().await else { return };
    let source = |endpoint: &str, insecure: bool| {
        let source = json!({"region": null, "endpoint": endpoint, "insecure": insecure});
        forwarding(&json!({"spec": {"source": {"httpApi": source}}}))
    };
    admitted::<AuditForwarding>(&client, source("http://source.example", true)).await;
    refused::<AuditForwarding>(&client, source("http://source.example", false), "must start with https:// unless")
        .await;
    for endpoint in ["ftp://source.example", "https://", "https://user@source.example", "https://source.example/?a=b"] {
        refused::<AuditForwarding>(&client, source(endpoint, true), "spec.source.httpApi.endpoint").await;
    }
}

#[tokio::test]
async fn admit_exactly_one_place_to_start_from() {
    let Some(client) = client().await else { return };
    let from = |start: Value| forwarding(&json!({"spec": {"startFrom": start}}));
    for start in [
        json!({"position": "Now"}),
        json!({"position": "Beginning"}),
        json!({"time": "2026-11-23T10:00:00Z"}),
        json!({"sequence": 0}),
    ] {
        admitted::<AuditForwarding>(&client, from(start)).await;
    }
    let words = "set exactly one of startFrom.position, startFrom.time and startFrom.sequence";
    refused::<AuditForwarding>(&client, from(json!({})), words).await;
    refused::<AuditForwarding>(&client, from(json!({"position": "Now", "sequence": 1})), words).await;
    refused::<AuditForwarding>(&client, from(json!({"sequence": -1})), "spec.startFrom.sequence").await;
    refused::<AuditForwarding>(&client, from(json!({"time": "yesterday"})), "spec.startFrom.time").await;
    refused::<AuditForwarding>(&client, from(json!({"position": "End"})), "spec.startFrom.position").await;
}

#[tokio::test]
async fn admit_no_other_trail_for_a_forwarding() {
    let Some(client) = client().await else { return };
    let api = Api::<AuditForwarding>::namespaced(client, NAMESPACE);
    let made = serde_json::from_value(forwarding(&json!({"metadata": {"name": "immutable"}}))).expect("a forwarding");
    api.create(&PostParams::default(), &made).await.expect("admitted");
    let patch = Patch::Merge(json!({"spec": {"trailRef": {"name": "other"}}}));
    let error = api.patch("immutable", &PatchParams::default(), &patch).await.expect_err("refused").to_string();
    assert!(error.contains("trailRef is immutable"), "{error}");
    let patch = Patch::Merge(json!({"spec": {"enabled": false}}));
    api.patch("immutable", &PatchParams::default(), &patch).await.expect("the toggle is not");
}

#[tokio::test]
async fn admit_documents_every_field() {
    let Some(control_plane) = ControlPlane::shared() else { return };
    // With --recursive kubectl leaves descriptions out, so the parts are asked one by one.
    for part in [
        "audittrail.spec",
        "audittrail.spec.catalogue",
        "audittrail.spec.catalogue.eventTypes",
        "audittrail.spec.collector",
        "audittrail.spec.collector.tracing",
        "audittrail.spec.ingest",
        "audittrail.spec.ingest.kubernetes",
        "audittrail.status",
        "auditforwarding.spec",
        "auditforwarding.status",
    ] {
        let text = control_plane.kubectl(&["explain", part], "");
        assert!(!text.contains("<no description>") && !text.contains("<empty>"), "{text}");
    }
}

#[tokio::test]
async fn admit_owners_of_the_kinds_that_rbac_knows() {
    let Some(client) = client().await else { return };
    let owner = |kind: &str| trail(&json!({"spec": {"access": {"owners": [{"kind": kind, "name": "ann"}]}}}));
    for kind in ["User", "Group", "ServiceAccount"] {
        admitted::<AuditTrail>(&client, owner(kind)).await;
    }
    refused::<AuditTrail>(&client, owner("Team"), "access.owners: kind must be User, Group or ServiceAccount").await;
}
