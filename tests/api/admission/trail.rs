//! Rules of `AuditTrail`.

use super::{NAMESPACE, admitted, client, merge, refused};
use audittrail_crds::AuditTrail;
use audittrail_crds::document::{CatalogueMode, KubernetesObjects};
use audittrail_tests::control_plane::ControlPlane;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

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
async fn admit_references_that_an_object_can_be_called() {
    let Some(client) = client().await else { return };
    for (name, good) in [("my.source-2", true), ("my secret", false), ("a/b", false), ("..", false), ("A", false)] {
        for (at, spec) in [
            ("spec.ingest.writeKeySecretRef.name", json!({"ingest": {"writeKeySecretRef": {"name": name}}})),
            (
                "spec.storage.external.uriSecretRef.name",
                json!({"storage": {"managed": null, "external": {"uriSecretRef": {"name": name}}}}),
            ),
        ] {
            let object = trail(&json!({"spec": spec}));
            if good {
                admitted::<AuditTrail>(&client, object).await;
            } else {
                refused::<AuditTrail>(&client, object, at).await;
            }
        }
    }
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
async fn admit_owners_of_the_kinds_that_rbac_knows() {
    let Some(client) = client().await else { return };
    let owner = |kind: &str| trail(&json!({"spec": {"access": {"owners": [{"kind": kind, "name": "ann"}]}}}));
    for kind in ["User", "Group", "ServiceAccount"] {
        admitted::<AuditTrail>(&client, owner(kind)).await;
    }
    refused::<AuditTrail>(&client, owner("Team"), "access.owners: kind must be User, Group or ServiceAccount").await;
}
