//! Kubernetes audit events, as an API server's webhook backend sends them (`audit.k8s.io/v1`,
//! `EventList`).
//!
//! The API server never sends a refused batch again, so content is cut by rule and marked in
//! `details.cut`; only JSON that cannot be read is refused. The query part of the URI is never kept, and request and
//! response objects only where the document says so: secrets travel in them.

use super::Edge;
use super::cut::Cut;
use super::items::{self, Item, ItemsError, event_bytes};
use super::limits::{
    IDENTITY_MAX_CHARS, NAME_MAX_CHARS, REQUEST_ID_MAX_CHARS, TIMESTAMP_AHEAD_MAX, TIMESTAMP_EARLIEST,
    USER_AGENT_MAX_CHARS,
};
use super::room::Held;
use super::tame::tame;
use crate::event::{Actor, ActorType, Context, Event, Outcome, Resource, whole_microseconds};
use audittrail_crds::document::KubernetesObjects;
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::net::IpAddr;

/// Each text in `details`, outside the objects.
const DETAIL_MAX_CHARS: usize = 1_024;

/// Members of an audit event that hold objects.
const OBJECTS: [&str; 2] = ["requestObject", "responseObject"];

/// Annotations of an audit event say why it was allowed, which is another matter.
const ANNOTATIONS: &str = "annotations";

/// Resources whose objects hold secrets, whatever their group; with a subresource, only that one.
const SECRET_RESOURCES: [(&str, Option<&str>); 3] =
    [("secrets", None), ("serviceaccounts", Some("token")), ("tokenreviews", None)];

/// The same by kind, in case another resource shows them.
const SECRET_KINDS: [&str; 4] = ["Secret", "SecretList", "TokenRequest", "TokenReview"];

/// The annotation with which `kubectl apply` repeats the whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

type Members = Map<String, Value>;

/// Reads an `EventList`. Events take `room`.
pub fn parse(body: &[u8], edge: &Edge<'_>, objects: KubernetesObjects, room: &Held) -> Result<Vec<Event>, ItemsError> {
    let body = tame(body, room)?;
    let skip: &[&str] = match objects {
        KubernetesObjects::Omit => &[ANNOTATIONS, OBJECTS[0], OBJECTS[1]],
        KubernetesObjects::Keep => &[ANNOTATIONS],
    };
    let mut events = Vec::new();
    items::each(&body, "items", skip, |item| {
        let event = event(item, edge);
        room.grow(event_bytes(&event))?;
        events.push(event);
        Ok(())
    })?;
    Ok(events)
}

/// Whatever may be missing or odd: there is always an event.
fn event(item: Item, edge: &Edge<'_>) -> Event {
    let mut cut = Cut::default();
    item.taken_out.iter().for_each(|path| cut.note(&place(path)));
    let mut audit = item.members;
    let objects = take_objects(&mut audit, &mut cut);
    let stage = text(&audit, "stage").unwrap_or("ResponseComplete");
    let audit_id = text(&audit, "auditID").map_or_else(edge.new_id, str::to_owned);
    let status = object(&audit, "responseStatus");
    let mut event = Event {
        id: cut.id(&format!("{audit_id}/{stage}")).unwrap_or_else(edge.new_id),
        timestamp: timestamp(&audit, edge, &mut cut),
        r#type: event_type(text(&audit, "verb"), object(&audit, "objectRef").is_some()).to_owned(),
        actor: Some(actor(&audit, &mut cut)),
        resource: Some(resource(&audit, &mut cut)),
        outcome: outcome(status, stage),
        context: Some(context(&audit, &audit_id, &mut cut)),
        changes: Vec::new(),
        details: None,
    };
    let mut details = details(&audit, stage, &mut cut);
    details.extend(objects);
    cut.fit(&mut details);
    event.details = Some(details);
    cut.mark_event(&mut event);
    event
}

/// Where in the event a member of the audit event would be.
fn place(path: &str) -> String {
    let of_object = OBJECTS.iter().any(|name| path.starts_with(name));
    if of_object { format!("details.{path}") } else { path.to_owned() }
}

/// Takes the objects out of the audit event: those that may be kept, without what only repeats them.
fn take_objects(audit: &mut Members, cut: &mut Cut) -> Vec<(String, Value)> {
    let secret = is_secret(object(audit, "objectRef"));
    let mut kept = Vec::new();
    for name in OBJECTS {
        let Some(mut value) = audit.remove(name).filter(|value| !value.is_null()) else { continue };
        let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default();
        if secret || SECRET_KINDS.contains(&kind) {
            cut.note(&format!("details.{name}"));
        } else {
            drop_repetitions(&mut value);
            kept.push((name.to_owned(), value));
        }
    }
    kept
}

/// Whether the objects of a request hold secrets. Where nobody says what it was about, they may.
fn is_secret(reference: Option<&Members>) -> bool {
    let Some(reference) = reference else { return true };
    let (resource, subresource) = (text(reference, "resource"), text(reference, "subresource"));
    SECRET_RESOURCES.iter().any(|(secret, only)| resource == Some(secret) && (only.is_none() || *only == subresource))
}

/// Drops `metadata.managedFields` and [`LAST_APPLIED`], on all levels.
fn drop_repetitions(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::Object(metadata)) = members.get_mut("metadata") {
                metadata.remove("managedFields");
                if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
                    annotations.remove(LAST_APPLIED);
                }
            }
            members.values_mut().for_each(drop_repetitions);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_repetitions),
        _ => {}
    }
}

/// When the stage was reached, where that can be.
fn timestamp(audit: &Members, edge: &Edge<'_>, cut: &mut Cut) -> Option<Timestamp> {
    let given = text(audit, "stageTimestamp").or_else(|| text(audit, "requestReceivedTimestamp"))?;
    let latest = edge.now.saturating_add(TIMESTAMP_AHEAD_MAX).unwrap_or(Timestamp::MAX);
    let moment = given.parse().ok().map(whole_microseconds);
    let moment = moment.filter(|moment| (TIMESTAMP_EARLIEST..=latest).contains(moment));
    if moment.is_none() {
        cut.note("timestamp");
    }
    moment
}

fn context(audit: &Members, audit_id: &str, cut: &mut Cut) -> Context {
    let ips = audit.get("sourceIPs").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    Context {
        ip: ips.map(str::to_owned).find(|ip| ip.parse::<IpAddr>().is_ok()),
        user_agent: cut.optional("context.userAgent", text(audit, "userAgent"), USER_AGENT_MAX_CHARS),
        request_id: Some(cut.text("context.requestId", audit_id, REQUEST_ID_MAX_CHARS)),
    }
}

/// What has no field of its own.
fn details(audit: &Members, stage: &str, cut: &mut Cut) -> Members {
    let status = object(audit, "responseStatus");
    let texts = [
        ("verb", text(audit, "verb")),
        ("stage", Some(stage)),
        ("level", text(audit, "level")),
        ("path", path(audit)),
        ("reason", status.and_then(|status| text(status, "reason"))),
        ("impersonated", object(audit, "impersonatedUser").and_then(|user| text(user, "username"))),
    ];
    let mut details = Map::new();
    for (name, text) in texts {
        if let Some(text) = cut.optional(&format!("details.{name}"), text, DETAIL_MAX_CHARS) {
            details.insert(name.to_owned(), text.into());
        }
    }
    details.extend(code(status).map(|code| ("code".to_owned(), code.into())));
    details
}

/// Path of the URI, without its query part; none where nothing is left.
fn path(audit: &Members) -> Option<&str> {
    text(audit, "requestURI").and_then(|uri| uri.split('?').next()).filter(|path| !path.is_empty())
}

/// What happened, in the manner of the catalogue: a thing, then a participle.
fn event_type(verb: Option<&str>, of_resource: bool) -> &'static str {
    match verb {
        _ if !of_resource => "Kubernetes API Called",
        Some("create") => "Kubernetes Resource Created",
        Some("update" | "patch") => "Kubernetes Resource Modified",
        Some("delete") => "Kubernetes Resource Deleted",
        Some("deletecollection") => "Kubernetes Resources Deleted",
        Some("get") => "Kubernetes Resource Viewed",
        Some("list") => "Kubernetes Resources Listed",
        Some("watch") => "Kubernetes Resources Watched",
        _ => "Kubernetes Resource Used",
    }
}

/// Who authenticated, even when they impersonated somebody: that is who did it. A service account
/// acts by a token of its own.
fn actor(audit: &Members, cut: &mut Cut) -> Actor {
    let name = object(audit, "user").and_then(|user| text(user, "username")).unwrap_or("system:unknown");
    let r#type = if name.starts_with("system:serviceaccount:") {
        ActorType::AccessToken
    } else if name.starts_with("system:") {
        ActorType::System
    } else {
        ActorType::User
    };
    Actor { r#type, id: cut.text("actor.id", name, IDENTITY_MAX_CHARS), name: None, email: None }
}

/// `deployments.apps` with the id `namespace/name`; `pods/exec` for a subresource; the path for a
/// request that is of no resource.
fn resource(audit: &Members, cut: &mut Cut) -> Resource {
    let Some(reference) = object(audit, "objectRef") else {
        let id = cut.text("resource.id", path(audit).unwrap_or("/"), IDENTITY_MAX_CHARS);
        return Resource { r#type: "path".to_owned(), id, name: None };
    };
    let mut r#type = text(reference, "resource").unwrap_or("unknown").to_owned();
    for (separator, part) in [(".", "apiGroup"), ("/", "subresource")] {
        if let Some(part) = text(reference, part) {
            r#type = format!("{type}{separator}{part}");
        }
    }
    let name = text(reference, "name");
    // A collection, or a create whose name the server was to make up.
    let of_name = name.unwrap_or("*");
    let id = match text(reference, "namespace") {
        Some(namespace) => format!("{namespace}/{of_name}"),
        None => of_name.to_owned(),
    };
    Resource {
        r#type: cut.text("resource.type", &r#type, IDENTITY_MAX_CHARS),
        id: cut.text("resource.id", &id, IDENTITY_MAX_CHARS),
        name: cut.optional("resource.name", name, NAME_MAX_CHARS),
    }
}

/// By the code; without one, by what the status or the stage says. A request that was only received has no outcome yet.
fn outcome(status: Option<&Members>, stage: &str) -> Option<Outcome> {
    match code(status) {
        Some(401 | 403) => Some(Outcome::Denied),
        Some(400..) => Some(Outcome::Failure),
        Some(_) => Some(Outcome::Success),
        None if stage == "Panic" => Some(Outcome::Failure),
        None => match status.and_then(|status| text(status, "status")) {
            Some("Failure") => Some(Outcome::Failure),
            Some("Success") => Some(Outcome::Success),
            _ => None,
        },
    }
}

/// The response code, if it is one (RFC 9110, section 15).
fn code(status: Option<&Members>) -> Option<u64> {
    status?.get("code")?.as_u64().filter(|code| (100..600).contains(code))
}

fn object<'a>(members: &'a Members, name: &str) -> Option<&'a Members> {
    members.get(name).and_then(Value::as_object)
}

/// Text that says something.
fn text<'a>(members: &'a Members, name: &str) -> Option<&'a str> {
    members.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::limits::JSON_MAX_BYTES;
    use super::super::native;
    use super::super::room::Room;
    use super::*;
    use crate::event::json::Extent;
    use audittrail_crds::catalogue::{Catalogue, built_in};
    use proptest::prelude::*;
    use serde_json::json;

    fn read(body: &str, objects: KubernetesObjects) -> Result<Vec<Event>, ItemsError> {
        let now = "2026-03-02T09:20:00Z".parse().expect("valid");
        let edge = Edge { now, catalogue: &Catalogue::default(), new_id: || "made".to_owned() };
        parse(body.as_bytes(), &edge, objects, &Room::default().enter())
    }

    /// The event of an item given as text.
    fn of_text(item: &str, objects: KubernetesObjects) -> Event {
        let body = format!(r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{{}},"items":[{item}]}}"#);
        read(&body, objects).expect("readable").remove(0)
    }

    fn one(item: &Value) -> Event {
        of_text(&item.to_string(), KubernetesObjects::Omit)
    }

    fn keep(item: &Value) -> Map<String, Value> {
        of_text(&item.to_string(), KubernetesObjects::Keep).details.expect("kept")
    }

    fn with_request(object: Value) -> Value {
        let mut item = scaled();
        item["requestObject"] = object;
        item
    }

    fn scaled() -> Value {
        json!({
            "level": "RequestResponse", "auditID": "7d3c1b9e-0000-4000-8000-000000000001", "stage": "ResponseComplete",
            "requestURI": "/apis/apps/v1/namespaces/shop/deployments/cart?fieldManager=kubectl",
            "verb": "patch", "user": {"username": "ada", "groups": ["system:authenticated"]},
            "impersonatedUser": {"username": "root"},
            "sourceIPs": ["192.0.2.7"], "userAgent": "kubectl/v1.37.2",
            "objectRef": {"resource": "deployments", "namespace": "shop", "name": "cart", "apiGroup": "apps", "apiVersion": "v1"},
            "responseStatus": {"metadata": {}, "code": 200},
            "requestObject": {"password": "hunter2", "big": u64::MAX},
            "requestReceivedTimestamp": "2026-03-02T09:14:05.120000Z", "stageTimestamp": "2026-03-02T09:14:05.125000Z",
            "annotations": {"authorization.k8s.io/decision": "allow"}
        })
    }

    #[test]
    fn a_patch_becomes_a_modified_resource_with_who_where_and_how() {
        insta::assert_json_snapshot!(one(&scaled()));
    }

    #[test]
    fn neither_bodies_nor_query_parts_are_kept() {
        let text = serde_json::to_string(&one(&scaled())).expect("JSON");
        assert!(!text.contains("hunter2") && !text.contains("fieldManager"), "{text}");
    }

    #[test]
    fn a_request_without_a_path_was_made_at_the_root() {
        let event = one(&json!({"requestURI": "?watch=1"}));
        assert_eq!(event.resource.expect("kept").id, "/");
        assert!(!event.details.expect("kept").contains_key("path"));
    }

    #[test]
    fn a_refused_request_is_denied_and_a_failed_one_a_failure() {
        let with = |code: u16| {
            let mut item = scaled();
            item["responseStatus"]["code"] = code.into();
            one(&item).outcome
        };
        assert_eq!(
            [with(201), with(403), with(401), with(404), with(500)],
            [
                Some(Outcome::Success),
                Some(Outcome::Denied),
                Some(Outcome::Denied),
                Some(Outcome::Failure),
                Some(Outcome::Failure),
            ]
        );
    }

    #[test]
    fn one_audit_id_is_one_event_for_each_stage() {
        let mut item = scaled();
        item["stage"] = "RequestReceived".into();
        assert_eq!(one(&item).id, "7d3c1b9e-0000-4000-8000-000000000001/RequestReceived");
    }

    #[test]
    fn what_is_too_long_is_cut_and_marked() {
        let mut item = scaled();
        item["userAgent"] = "x".repeat(USER_AGENT_MAX_CHARS + 1).into();
        item["objectRef"]["name"] = "a\nb".into();
        let event = one(&item);
        assert_eq!(event.context.expect("kept").user_agent.expect("kept").len(), USER_AGENT_MAX_CHARS);
        assert_eq!(event.details.expect("kept")["cut"], json!(["resource.id", "resource.name", "context.userAgent"]));
    }

    #[test]
    fn an_empty_item_is_still_an_event() {
        let event = one(&json!({}));
        assert_eq!(event.id, "made/ResponseComplete");
        assert_eq!(event.r#type, "Kubernetes API Called");
    }

    #[test]
    fn only_unreadable_json_is_refused() {
        for body in ["{\"items\": [", "[]", "", "{\"items\":{}}", "{} {}"] {
            read(body, KubernetesObjects::Omit).expect_err(body);
        }
        assert!(read(r#"{"items":null}"#, KubernetesObjects::Omit).expect("an empty list of Go").is_empty());
    }

    #[test]
    fn whoever_impersonates_somebody_is_the_actor() {
        let event = one(&scaled());
        assert_eq!(event.actor.expect("kept").id, "ada");
        assert_eq!(event.details.expect("kept")["impersonated"], "root");
    }

    #[test]
    fn the_outcome_is_told_by_the_code_or_else_by_status_and_stage() {
        let with = |status: Value, stage: &str| {
            let mut item = scaled();
            item["responseStatus"] = status;
            item["stage"] = stage.into();
            one(&item).outcome
        };
        for (status, stage, expected) in [
            (json!({"code": 101}), "ResponseStarted", Some(Outcome::Success)),
            (json!({"code": 500}), "Panic", Some(Outcome::Failure)),
            (Value::Null, "Panic", Some(Outcome::Failure)),
            (json!({"status": "Failure"}), "ResponseComplete", Some(Outcome::Failure)),
            (json!({"status": "Success", "code": 0}), "ResponseComplete", Some(Outcome::Success)),
            (json!({}), "ResponseComplete", None),
            (Value::Null, "RequestReceived", None),
            (json!({"code": "200"}), "ResponseComplete", None),
            (json!({"code": 65_936}), "ResponseComplete", None),
        ] {
            assert_eq!(with(status.clone(), stage), expected, "{status} {stage}");
        }
    }

    #[test]
    fn every_type_is_in_the_catalogue() {
        let verbs = ["create", "update", "patch", "delete", "deletecollection", "get", "list", "watch", "proxy"];
        let types = verbs.iter().map(|verb| event_type(Some(verb), true)).chain([event_type(None, false)]);
        let types: std::collections::BTreeSet<&str> = types.collect();
        let built_in = built_in::rows().filter(|row| row.area == "Kubernetes").map(|row| row.name).collect();
        assert_eq!(types, built_in);
    }

    #[test]
    fn a_time_that_cannot_be_is_dropped_and_marked() {
        let at = |moment: &str| {
            let mut item = scaled();
            item["stageTimestamp"] = moment.into();
            let event = one(&item);
            (event.timestamp.is_some(), event.details.expect("kept").contains_key("cut"))
        };
        assert_eq!(at("2026-03-02T10:20:00Z"), (true, false));
        assert_eq!(at("2026-03-02T10:20:00.000001Z"), (false, true));
        assert_eq!(at("1969-12-31T23:59:59Z"), (false, true));
        assert_eq!(at("yesterday"), (false, true));
    }

    #[test]
    fn objects_are_kept_when_the_document_says_so_without_what_repeats_them() {
        let item = with_request(json!({
            "kind": "Deployment",
            "metadata": {"name": "cart", "managedFields": [{"manager": "kubectl"}],
                "annotations": {LAST_APPLIED: "{}", "team": "shop"}},
            "spec": {"template": {"metadata": {"managedFields": []}}},
        }));
        let details = keep(&item);
        assert_eq!(
            details["requestObject"],
            json!({"kind": "Deployment", "metadata": {"name": "cart", "annotations": {"team": "shop"}},
                "spec": {"template": {"metadata": {}}}})
        );
        assert!(!details.contains_key("cut") && !details.contains_key("annotations"));
        assert!(!one(&item).details.expect("kept").contains_key("requestObject"));
    }

    #[test]
    fn objects_that_hold_secrets_are_never_kept_and_their_absence_is_marked() {
        let of = |reference: Value, kind: &str| {
            let mut item = with_request(json!({"kind": kind, "data": "hunter2"}));
            item["responseObject"] = json!([{"data": "hunter2"}]);
            item["objectRef"] = reference;
            Value::Object(keep(&item))
        };
        for reference in [
            json!({"resource": "secrets"}),
            json!({"resource": "secrets", "apiGroup": "other.example"}),
            json!({"resource": "serviceaccounts", "subresource": "token"}),
            json!({"resource": "tokenreviews", "apiGroup": "authentication.k8s.io"}),
            Value::Null,
        ] {
            let details = of(reference.clone(), "Any");
            assert!(!details.to_string().contains("hunter2"), "{reference}");
            assert_eq!(details["cut"], json!(["details.requestObject", "details.responseObject"]), "{reference}");
        }
        for kind in SECRET_KINDS {
            assert_eq!(of(json!({"resource": "widgets"}), kind)["cut"], json!(["details.requestObject"]));
        }
        let others = of(json!({"resource": "serviceaccounts"}), "ServiceAccount");
        assert_eq!(others["requestObject"]["data"], "hunter2");
    }

    #[test]
    fn an_object_that_is_too_large_loses_its_largest_parts() {
        let item = with_request(
            json!({"metadata": {"name": "page"}, "data": {"small": "x", "large": "x".repeat(JSON_MAX_BYTES)}}),
        );
        let details = keep(&item);
        assert_eq!(details["requestObject"], json!({"metadata": {"name": "page"}, "data": {"small": "x"}}));
        assert_eq!(details["cut"], json!(["details.requestObject.data.large"]));
        assert!(Extent::of_object(&details).bytes <= JSON_MAX_BYTES);
    }

    #[test]
    fn odd_json_in_an_object_costs_only_what_is_odd() {
        let odd = [
            ("9007199254740993", json!(null)),
            ("1e999", json!(null)),
            (r#""a\u0000b""#, json!(null)),
            (r#""a\ud800b""#, json!("a\u{fffd}b")),
            (r#"{"a":1,"a":2}"#, json!({"a": 1})),
            (&("[".repeat(5_000) + &"]".repeat(5_000)), json!(null)),
        ];
        for (value, kept) in odd {
            let text = scaled().to_string().replace(
                r#"{"big":18446744073709551615,"password":"hunter2"}"#,
                &format!(r#"{{"odd":{value},"even":1}}"#),
            );
            assert!(text.contains("even"));
            let details = of_text(&text, KubernetesObjects::Keep).details.expect("kept");
            assert_eq!(details["requestObject"]["even"], 1, "{value:.20}");
            assert_eq!(details["requestObject"].get("odd").unwrap_or(&Value::Null), &kept, "{value:.20}");
            assert_eq!(details.contains_key("cut"), !kept.is_string(), "{value:.20}");
            // Where objects are left out, nothing was cut of the event.
            assert!(!of_text(&text, KubernetesObjects::Omit).details.expect("kept").contains_key("cut"), "{value:.20}");
        }
    }

    #[test]
    fn odd_json_in_the_event_itself_costs_only_what_is_odd() {
        let text = r#"{"auditID":"a","auditID":"b","verb":7,"user":"ada","sourceIPs":{},"stage":"\u0000","userAgent":["x"],"objectRef":[]}"#;
        let event = of_text(text, KubernetesObjects::Omit);
        assert_eq!((&*event.id, &*event.actor.expect("kept").id), ("a/ResponseComplete", "system:unknown"));
        assert_eq!(event.details.expect("kept")["cut"], json!(["auditID", "stage"]));
        for item in ["null", "1", "\"a\"", "[]"] {
            assert_eq!(of_text(item, KubernetesObjects::Omit).id, "made/ResponseComplete");
        }
    }

    fn anything() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 16, 4, |inner| {
            let member = prop_oneof![
                any::<String>(),
                prop::sample::select(vec![
                    "username", "resource", "apiGroup", "name", "code", "status", "kind", "metadata"
                ])
                .prop_map(str::to_owned),
            ];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(member, inner, 0..4).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    fn members() -> impl Strategy<Value = Value> {
        let names = vec![
            "auditID",
            "stage",
            "level",
            "verb",
            "requestURI",
            "user",
            "impersonatedUser",
            "sourceIPs",
            "userAgent",
            "objectRef",
            "responseStatus",
            "requestObject",
            "responseObject",
            "stageTimestamp",
            "annotations",
        ];
        prop::collection::btree_map(prop::sample::select(names).prop_map(str::to_owned), anything(), 0..15)
            .prop_map(|members| members.into_iter().collect())
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let now = Timestamp::UNIX_EPOCH;
            let edge = Edge { now, catalogue: &Catalogue::default(), new_id: String::new };
            let _either = parse(&body, &edge, KubernetesObjects::Keep, &Room::default().enter());
        }

        #[test]
        fn any_item_makes_an_event_that_could_have_been_sent_natively(item in members()) {
            let event = of_text(&item.to_string(), KubernetesObjects::Keep);
            let now = "2026-03-02T09:20:00Z".parse().expect("valid");
            let edge = Edge { now, catalogue: &Catalogue::default(), new_id: String::new };
            let sent_natively = serde_json::to_vec(&event).expect("JSON");
            let again = native::parse(&sent_natively, &edge, &Room::default().enter());
            prop_assert_eq!(again, Ok(vec![event]));
        }
    }
}
