//! Rules of `AuditForwarding`.

use super::{NAMESPACE, admitted, client, merge, refused};
use audittrail_crds::AuditForwarding;
use audittrail_crds::document::{Compression, Format};
use audittrail_crds::trail::DeletionPolicy;
use audittrail_tests::control_plane::ControlPlane;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

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

/// The smallest forwarding, with `filter`.
fn filtered(filter: &Value) -> Value {
    forwarding(&json!({"spec": {"filter": filter}}))
}

/// A forwarding that sends what `selector` selects.
fn selecting(selector: &Value) -> Value {
    filtered(&json!({"include": [selector]}))
}

/// A forwarding with this `source.httpApi`, and no part of another one.
fn from_source(source: &Value) -> Value {
    let mut whole = forwarding(&json!({}));
    whole["spec"]["source"]["httpApi"] = source.clone();
    whole
}

/// A URL of this length.
fn url(chars: usize) -> String {
    format!("https://source.example/{}", "a".repeat(chars - "https://source.example/".len()))
}

#[tokio::test]
async fn admit_a_forwarding_with_all_defaults() {
    let Some(client) = client().await else { return };
    let AuditForwarding { spec, .. } = admitted(&client, forwarding(&json!({}))).await;
    assert!(spec.enabled && !spec.source.http_api.insecure);
    assert_eq!((spec.format, spec.start_from), (Format::Named, None));
    assert_eq!((spec.filter, spec.delivery), (None, None));
}

#[tokio::test]
async fn admit_filters_with_32_selectors_on_each_side() {
    let Some(client) = client().await else { return };
    let selectors = |count: usize| vec![json!({"area": ["Users"]}); count];
    for side in ["include", "exclude"] {
        for count in [0, 1, 32] {
            admitted::<AuditForwarding>(&client, filtered(&json!({side: selectors(count)}))).await;
        }
        let refused_at = format!("spec.filter.{side}: Too many");
        refused::<AuditForwarding>(&client, filtered(&json!({side: selectors(33)})), &refused_at).await;
    }
    admitted::<AuditForwarding>(&client, filtered(&json!({}))).await;
}

#[tokio::test]
async fn admit_no_selector_that_names_nothing() {
    let Some(client) = client().await else { return };
    let words = "a selector names at least one of type, area, actor, actorType, resource, resourceType, outcome and submittedBy";
    refused::<AuditForwarding>(&client, selecting(&json!({})), words).await;
    refused::<AuditForwarding>(&client, filtered(&json!({"exclude": [{"area": ["Users"]}, {}]})), words).await;
    for (member, value) in MEMBERS {
        admitted::<AuditForwarding>(&client, selecting(&json!({member: [value]}))).await;
    }
}

/// The members of a selector, each with a value that it may have.
const MEMBERS: [(&str, &str); 8] = [
    ("type", "Permission Check"),
    ("area", "Users"),
    ("actor", "usr_ada"),
    ("actorType", "user"),
    ("resource", "whs_31"),
    ("resourceType", "warehouse"),
    ("outcome", "denied"),
    ("submittedBy", "acme-write-key/writeKey"),
];

#[tokio::test]
async fn admit_selectors_of_1_to_100_values_within_the_bounds_of_events() {
    let Some(client) = client().await else { return };
    // As long as the member of an event may be, in characters.
    for (member, longest) in
        [("type", 128), ("area", 128), ("actor", 512), ("resource", 512), ("resourceType", 512), ("submittedBy", 512)]
    {
        let values = |count: usize| -> Value { (0..count).map(|number| json!(format!("x{number}"))).collect() };
        let at = format!("spec.filter.include[0].{member}");
        admitted::<AuditForwarding>(&client, selecting(&json!({member: values(100)}))).await;
        refused::<AuditForwarding>(&client, selecting(&json!({member: values(101)})), &at).await;
        refused::<AuditForwarding>(&client, selecting(&json!({member: []})), &at).await;
        admitted::<AuditForwarding>(&client, selecting(&json!({member: ["ä".repeat(longest)]}))).await;
        for bad in [json!("ä".repeat(longest + 1)), json!(""), json!(1)] {
            refused::<AuditForwarding>(&client, selecting(&json!({member: [bad]})), &format!("{at}[0]")).await;
        }
    }
}

#[tokio::test]
async fn admit_kinds_of_actors_and_outcomes_of_the_list() {
    let Some(client) = client().await else { return };
    for (member, values) in
        [("actorType", ["user", "accessToken", "system"]), ("outcome", ["success", "failure", "denied"])]
    {
        admitted::<AuditForwarding>(&client, selecting(&json!({member: values}))).await;
        let at = format!("spec.filter.include[0].{member}");
        refused::<AuditForwarding>(&client, selecting(&json!({member: ["other"]})), &format!("{at}[0]")).await;
        refused::<AuditForwarding>(&client, selecting(&json!({member: []})), &at).await;
        let [first, ..] = values;
        refused::<AuditForwarding>(&client, selecting(&json!({member: [first, first, first, first]})), &at).await;
    }
}

#[tokio::test]
async fn admit_formats_of_the_list() {
    let Some(client) = client().await else { return };
    let with = |format: &str| forwarding(&json!({"spec": {"format": format}}));
    for (name, format) in [("Named", Format::Named), ("SegmentAudit", Format::SegmentAudit)] {
        assert_eq!(admitted::<AuditForwarding>(&client, with(name)).await.spec.format, format);
    }
    refused::<AuditForwarding>(&client, with("CloudEvents"), "spec.format").await;
}

#[tokio::test]
async fn admit_deliveries_within_the_bounds_of_sources() {
    let Some(client) = client().await else { return };
    let with = |delivery: Value| forwarding(&json!({"spec": {"delivery": delivery}}));
    for (member, least, most) in
        [("maxBatchEvents", 1, 2_500), ("maxBatchBytes", 50_000, 475_000), ("maxEventsPerSecond", 1, 1_000_000)]
    {
        for good in [least, most] {
            admitted::<AuditForwarding>(&client, with(json!({member: good}))).await;
        }
        for bad in [json!(least - 1), json!(most + 1), json!(-1), json!(least.to_string())] {
            refused::<AuditForwarding>(&client, with(json!({member: bad})), &format!("spec.delivery.{member}")).await;
        }
    }
    for (name, compression) in [("None", Compression::None), ("Gzip", Compression::Gzip)] {
        let kept = admitted::<AuditForwarding>(&client, with(json!({"compression": name}))).await;
        assert_eq!(kept.spec.delivery.map(|delivery| delivery.compression), Some(compression));
    }
    refused::<AuditForwarding>(&client, with(json!({"compression": "Zstd"})), "spec.delivery.compression").await;
}

#[tokio::test]
async fn admit_exactly_one_of_a_write_key_and_a_source_to_create() {
    let Some(client) = client().await else { return };
    let (key, create) = (json!({"name": "source"}), json!({"tokenSecretRef": {"name": "token"}}));
    let words = "set exactly one of source.httpApi.writeKeySecretRef and source.httpApi.create";
    admitted::<AuditForwarding>(&client, from_source(&json!({"region": "US", "writeKeySecretRef": key}))).await;
    let made = admitted::<AuditForwarding>(&client, from_source(&json!({"region": "EU", "create": create}))).await;
    let made = made.spec.source.http_api.create.expect("a source to create");
    assert_eq!((made.deletion_policy, made.api_endpoint), (DeletionPolicy::Retain, None));
    let both = json!({"region": "US", "writeKeySecretRef": key, "create": create});
    refused::<AuditForwarding>(&client, from_source(&both), words).await;
    refused::<AuditForwarding>(&client, from_source(&json!({"region": "US"})), words).await;
}

/// Texts, and whether an object can be called so.
fn names() -> Vec<(String, bool)> {
    let good = ["a", "7", "source-2", "my.source", "a--b"].map(|name| (name.to_owned(), true));
    let bad = ["", "my secret", "a/b", "..", "a..b", "-a", "a-", ".a", "a.", "A", "a_b", "ä", "a\n"];
    let bounds = [("a".repeat(253), true), ("a".repeat(254), false)];
    good.into_iter().chain(bad.map(|name| (name.to_owned(), false))).chain(bounds).collect()
}

#[tokio::test]
async fn admit_references_that_an_object_can_be_called() {
    let Some(client) = client().await else { return };
    let source = |change: Value| forwarding(&json!({"spec": {"source": {"httpApi": change}}}));
    for (name, good) in names() {
        for (at, object) in [
            ("spec.trailRef.name", forwarding(&json!({"spec": {"trailRef": {"name": name}}}))),
            ("spec.source.httpApi.writeKeySecretRef.name", source(json!({"writeKeySecretRef": {"name": name}}))),
            ("spec.source.httpApi.caConfigMapRef.name", source(json!({"caConfigMapRef": {"name": name}}))),
        ] {
            if good {
                admitted::<AuditForwarding>(&client, object).await;
            } else {
                refused::<AuditForwarding>(&client, object, at).await;
            }
        }
    }
}

#[tokio::test]
async fn admit_sources_to_create_with_a_token_and_a_policy_of_the_list() {
    let Some(client) = client().await else { return };
    let with = |create: Value| from_source(&json!({"region": "US", "create": create}));
    let at = "spec.source.httpApi.create";
    refused::<AuditForwarding>(&client, with(json!({})), &format!("{at}.tokenSecretRef")).await;
    for (name, good) in names() {
        let named = with(json!({"tokenSecretRef": {"name": name}}));
        if good {
            admitted::<AuditForwarding>(&client, named).await;
        } else {
            refused::<AuditForwarding>(&client, named, &format!("{at}.tokenSecretRef.name")).await;
        }
    }
    let policy = |policy: &str| with(json!({"tokenSecretRef": {"name": "token"}, "deletionPolicy": policy}));
    for good in ["Retain", "Delete"] {
        admitted::<AuditForwarding>(&client, policy(good)).await;
    }
    refused::<AuditForwarding>(&client, policy("Orphan"), &format!("{at}.deletionPolicy")).await;
}

#[tokio::test]
async fn admit_a_source_to_create_only_where_the_public_api_is_known() {
    let Some(client) = client().await else { return };
    let with = |source: Value, api: Option<&str>, insecure: bool| {
        let mut create = json!({"tokenSecretRef": {"name": "token"}});
        if let Some(api) = api {
            create["apiEndpoint"] = json!(api);
        }
        let mut source = source;
        merge(&mut source, &json!({"create": create, "insecure": insecure}));
        from_source(&source)
    };
    let (region, endpoint) = (json!({"region": "US"}), json!({"endpoint": "https://source.example"}));
    admitted::<AuditForwarding>(&client, with(region.clone(), None, false)).await;
    admitted::<AuditForwarding>(&client, with(region.clone(), Some("https://api.example"), false)).await;
    admitted::<AuditForwarding>(&client, with(endpoint.clone(), Some("https://api.example"), false)).await;
    let unknown = "set source.httpApi.create.apiEndpoint";
    refused::<AuditForwarding>(&client, with(endpoint, None, false), unknown).await;
    admitted::<AuditForwarding>(&client, with(region.clone(), Some("http://api.example"), true)).await;
    let plain = "source.httpApi.create.apiEndpoint must start with https:// unless source.httpApi.insecure is true";
    refused::<AuditForwarding>(&client, with(region.clone(), Some("http://api.example"), false), plain).await;
    let at = "spec.source.httpApi.create.apiEndpoint";
    admitted::<AuditForwarding>(&client, with(region.clone(), Some(&url(2000)), false)).await;
    for bad in [url(2001).as_str(), "", "ftp://api.example", "https://user@api.example", "https://api.example/?a=b"] {
        refused::<AuditForwarding>(&client, with(region.clone(), Some(bad), true), at).await;
    }
}

#[tokio::test]
async fn admit_endpoints_of_2000_characters() {
    let Some(client) = client().await else { return };
    let with = |chars| from_source(&json!({"endpoint": url(chars), "writeKeySecretRef": {"name": "source"}}));
    admitted::<AuditForwarding>(&client, with(2000)).await;
    refused::<AuditForwarding>(&client, with(2001), "spec.source.httpApi.endpoint").await;
}

#[tokio::test]
async fn admit_the_example_with_every_field() {
    let Some(control_plane) = ControlPlane::shared() else { return };
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "acme"}}).to_string();
    control_plane.kubectl(&["apply", "--server-side", "-f", "-"], &namespace);
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/forwarding.yaml");
    let said = control_plane.kubectl(&["apply", "--server-side", "--dry-run=server", "-f", example], "");
    for name in ["to-warehouse", "to-segment"] {
        assert!(said.contains(&format!("auditforwarding.audittrail.dev/{name} serverside-applied")), "{said}");
    }
}

/// What is in Git and nothing more: no object that is empty, nothing that a tool would take for drift.
#[tokio::test]
async fn admit_the_same_twice_without_a_change() {
    let (Some(client), Some(control_plane)) = (client().await, ControlPlane::shared()) else { return };
    let api = Api::<kube::core::DynamicObject>::namespaced_with(
        client,
        NAMESPACE,
        &kube::core::ApiResource::erase::<AuditForwarding>(&()),
    );
    let defaults = json!({"enabled": true, "format": "Named", "source": {"httpApi": {"insecure": false}}});
    for (name, spec, added) in [
        ("applied-plain", json!({}), defaults.clone()),
        ("applied-nulls", json!({"filter": null, "delivery": null}), defaults.clone()),
        ("applied-empty", json!({"filter": {}, "delivery": {}}), {
            let mut added = defaults.clone();
            merge(&mut added, &json!({"delivery": {"compression": "None"}}));
            added
        }),
        (
            "applied-whole",
            json!({"filter": {"exclude": [{"type": ["Permission Check"]}]}, "format": "SegmentAudit"}),
            {
                let mut added = defaults;
                merge(&mut added, &json!({"format": "SegmentAudit"}));
                added
            },
        ),
    ] {
        let mut manifest = forwarding(&json!({"metadata": {"name": name, "namespace": NAMESPACE}}));
        let written = manifest["spec"].as_object_mut().expect("an object");
        written.extend(spec.as_object().expect("an object").clone());
        let text = manifest.to_string();
        let apply = ["apply", "--server-side", "--field-manager=gitops", "-f", "-"];
        control_plane.kubectl(&apply, &text);
        let first = api.get(name).await.expect("it is there");
        control_plane.kubectl(&apply, &text);
        assert_eq!(api.get(name).await.expect("it is there"), first, "{name}: the second time changed something");
        control_plane.kubectl(&["diff", "--server-side", "--field-manager=gitops", "-f", "-"], &text);
        let mut expected = manifest["spec"].clone();
        merge(&mut expected, &added);
        assert_eq!(first.data["spec"], expected, "{name}");
    }
}

#[tokio::test]
async fn admit_columns_that_answer_whether_it_works() {
    let Some(control_plane) = ControlPlane::shared() else { return };
    let manifest = forwarding(&json!({"metadata": {"name": "columns", "namespace": NAMESPACE}})).to_string();
    control_plane.kubectl(&["apply", "--server-side", "-f", "-"], &manifest);
    let header = |output: &[&str]| -> Vec<String> {
        let table =
            control_plane.kubectl(&[&["get", "auditforwarding", "columns", "-n", NAMESPACE], output].concat(), "");
        table.lines().next().unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    };
    let columns = ["NAME", "READY", "ENABLED", "DELIVERED", "LAG", "PARKED", "AGE"];
    assert_eq!(header(&[]), columns);
    assert_eq!(header(&["-o", "wide"]), [&columns[..], &["TRAIL", "REASON", "MESSAGE"]].concat());
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

/// An object that is admitted and cannot be read by the operator is not served.
#[tokio::test]
async fn admit_times_to_start_from_that_can_be_read() {
    let Some(client) = client().await else { return };
    let from = |time: &str| forwarding(&json!({"spec": {"startFrom": {"time": time}}}));
    for time in [
        "0001-01-01T00:00:00Z",
        "9998-12-31T23:59:59.999999999Z",
        "2026-11-23T10:00:00.1Z",
        "2026-11-23T10:00:00+23:59",
    ] {
        admitted::<AuditForwarding>(&client, from(time)).await;
    }
    for time in ["9999-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "9998-12-31T23:59:59-00:01"] {
        refused::<AuditForwarding>(&client, from(time), "startFrom.time must be before the year 9999").await;
    }
    for time in [
        "2026-11-23T10:00:00.0000000000Z",
        "2026-11-23T10:00:00,5Z",
        "2026-11-23T10:00:00+24:00",
        "2026-11-23t10:00:00z",
        "2026-11-23",
    ] {
        refused::<AuditForwarding>(&client, from(time), "spec.startFrom.time").await;
    }
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
