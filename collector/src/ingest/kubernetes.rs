//! Kubernetes audit events, as an API server's webhook backend sends them (`audit.k8s.io/v1`,
//! `EventList`).
//!
//! The API server never sends a refused batch again, so content is cut by rule and marked in
//! `details.cut`; only JSON that cannot be read is refused. Request and response bodies, and the
//! query part of the URI, are never kept: secrets travel in them.

use super::limits::{ID_MAX_CHARS, IDENTITY_MAX_CHARS, NAME_MAX_CHARS, REQUEST_ID_MAX_CHARS, USER_AGENT_MAX_CHARS};
use crate::event::{Actor, ActorType, Context, Event, Outcome, Resource, whole_microseconds};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// Each text in `details`.
const DETAIL_MAX_CHARS: usize = 1_024;

/// `audit.k8s.io/v1`, `EventList`, as far as we read it.
#[derive(Debug, Deserialize)]
struct EventList {
    #[serde(default)]
    items: Vec<AuditEvent>,
}

/// `audit.k8s.io/v1`, `Event`, as far as we read it. Everything may be missing: a batch is never refused for its content.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AuditEvent {
    #[serde(rename = "auditID")]
    audit_id: Option<String>,
    stage: Option<String>,
    level: Option<String>,
    verb: Option<String>,
    #[serde(rename = "requestURI")]
    request_uri: Option<String>,
    user: UserInfo,
    impersonated_user: Option<UserInfo>,
    #[serde(rename = "sourceIPs")]
    source_ips: Vec<String>,
    user_agent: Option<String>,
    object_ref: Option<ObjectReference>,
    response_status: Option<ResponseStatus>,
    request_received_timestamp: Option<String>,
    stage_timestamp: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct UserInfo {
    username: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectReference {
    resource: Option<String>,
    subresource: Option<String>,
    api_group: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ResponseStatus {
    code: Option<u16>,
    reason: Option<String>,
}

/// Reads an `EventList`. An event without an audit id gets one from `new_id`.
pub fn parse(body: &[u8], mut new_id: impl FnMut() -> String) -> serde_json::Result<Vec<Event>> {
    let list: EventList = serde_json::from_slice(body)?;
    Ok(list.items.iter().map(|audit| event(audit, &mut new_id)).collect())
}

fn event(audit: &AuditEvent, new_id: &mut impl FnMut() -> String) -> Event {
    let mut cut = Cut::default();
    let stage = audit.stage.as_deref().unwrap_or("ResponseComplete");
    let audit_id = present(audit.audit_id.as_ref()).map_or_else(new_id, str::to_owned);
    let timestamp = audit.stage_timestamp.as_ref().or(audit.request_received_timestamp.as_ref());
    Event {
        id: cut.text("id", &format!("{audit_id}/{stage}"), ID_MAX_CHARS),
        timestamp: timestamp.and_then(|text| text.parse().ok()).map(whole_microseconds),
        r#type: event_type(audit.verb.as_deref(), audit.object_ref.is_some()).to_owned(),
        actor: Some(actor(&audit.user, &mut cut)),
        resource: Some(resource(audit, &mut cut)),
        outcome: audit.response_status.as_ref().and_then(outcome),
        context: Some(Context {
            ip: audit.source_ips.iter().find(|ip| ip.parse::<IpAddr>().is_ok()).cloned(),
            user_agent: cut.optional("context.userAgent", present(audit.user_agent.as_ref()), USER_AGENT_MAX_CHARS),
            request_id: Some(cut.text("context.requestId", &audit_id, REQUEST_ID_MAX_CHARS)),
        }),
        changes: Vec::new(),
        details: Some(details(audit, stage, cut)),
    }
}

/// What has no field of its own, and what was cut.
fn details(audit: &AuditEvent, stage: &str, mut cut: Cut) -> Map<String, Value> {
    let status = audit.response_status.as_ref();
    let impersonated = audit.impersonated_user.as_ref().and_then(|user| present(user.username.as_ref()));
    let texts = [
        ("verb", "details.verb", present(audit.verb.as_ref())),
        ("stage", "details.stage", Some(stage)),
        ("level", "details.level", present(audit.level.as_ref())),
        ("path", "details.path", path(audit)),
        ("reason", "details.reason", status.and_then(|status| present(status.reason.as_ref()))),
        ("impersonated", "details.impersonated", impersonated),
    ];
    let mut details = Map::new();
    for (name, field, text) in texts {
        if let Some(text) = cut.optional(field, text, DETAIL_MAX_CHARS) {
            details.insert(name.to_owned(), text.into());
        }
    }
    if let Some(code) = status.and_then(|status| status.code) {
        details.insert("code".to_owned(), code.into());
    }
    if !cut.fields.is_empty() {
        details.insert("cut".to_owned(), json!(cut.fields));
    }
    details
}

/// Path of the URI, without its query part.
fn path(audit: &AuditEvent) -> Option<&str> {
    present(audit.request_uri.as_ref()).and_then(|uri| uri.split('?').next())
}

fn present(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
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
fn actor(user: &UserInfo, cut: &mut Cut) -> Actor {
    let name = present(user.username.as_ref()).unwrap_or("system:unknown");
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
fn resource(audit: &AuditEvent, cut: &mut Cut) -> Resource {
    let Some(object) = &audit.object_ref else {
        let id = cut.text("resource.id", path(audit).unwrap_or("/"), IDENTITY_MAX_CHARS);
        return Resource { r#type: "path".to_owned(), id, name: None };
    };
    let mut r#type = present(object.resource.as_ref()).unwrap_or("unknown").to_owned();
    for (separator, part) in [(".", present(object.api_group.as_ref())), ("/", present(object.subresource.as_ref()))] {
        if let Some(part) = part {
            r#type = format!("{type}{separator}{part}");
        }
    }
    let name = present(object.name.as_ref());
    // A collection, or a create whose name the server was to make up.
    let of_name = name.unwrap_or("*");
    let id = match present(object.namespace.as_ref()) {
        Some(namespace) => format!("{namespace}/{of_name}"),
        None => of_name.to_owned(),
    };
    Resource {
        r#type: cut.text("resource.type", &r#type, IDENTITY_MAX_CHARS),
        id: cut.text("resource.id", &id, IDENTITY_MAX_CHARS),
        name: cut.optional("resource.name", name, NAME_MAX_CHARS),
    }
}

fn outcome(status: &ResponseStatus) -> Option<Outcome> {
    Some(match status.code? {
        401 | 403 => Outcome::Denied,
        400.. => Outcome::Failure,
        _ => Outcome::Success,
    })
}

/// Cuts text to what a field may hold and remembers where.
#[derive(Default)]
struct Cut {
    fields: Vec<&'static str>,
}

impl Cut {
    /// At most `max_chars` characters, control characters shown as U+FFFD.
    fn text(&mut self, field: &'static str, text: &str, max_chars: usize) -> String {
        let kept: String = text
            .chars()
            .take(max_chars)
            .map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char })
            .collect();
        if kept != text {
            self.fields.push(field);
        }
        kept
    }

    fn optional(&mut self, field: &'static str, text: Option<&str>, max_chars: usize) -> Option<String> {
        text.map(|text| self.text(field, text, max_chars))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(item: &Value) -> Event {
        let body = json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": [item]});
        parse(&serde_json::to_vec(&body).expect("JSON"), || "made".to_owned()).expect("readable").remove(0)
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
        parse(b"{\"items\": [", String::new).expect_err("refused");
    }
}
