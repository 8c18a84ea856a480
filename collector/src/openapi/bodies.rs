//! Bodies of requests, with examples that are valid.

use super::native::{closed, id, optional, refer};
use crate::forwardings::replay::IDS_MAX;
use crate::ingest::limits::ID_MAX_CHARS;
use serde_json::{Value, json};

/// The path of replays.
pub const REPLAY: &str = "/v1/forwardings/{name}/replay";

/// Paths that take a call of Segment's Tracking API and store nothing.
const OTHER_CALLS: [&str; 5] = ["/v1/identify", "/v1/page", "/v1/screen", "/v1/group", "/v1/alias"];

/// CloudEvents in binary mode have no media type of their own.
const BINARY_MODE: &str = "Beside a header `ce-specversion: 1.0` any other content is the data of a CloudEvent in binary mode, whose attributes \
    are the headers `ce-id`, `ce-source`, `ce-type` and so on (HTTP binding of CloudEvents 1.0, section 3.1).";

/// The body of a `POST` to this path; none where the path takes no `POST`.
pub fn of(path: &str) -> Option<Value> {
    match path {
        "/v1/events" => Some(events()),
        "/v1/kubernetes" => Some(body("An EventList.", "KubernetesEventList", &kubernetes())),
        REPLAY => Some(replay()),
        "/v1/track" => Some(body("A call.", "TrackCall", &track())),
        "/v1/batch" => {
            let mut call = track();
            call["type"] = json!("track");
            Some(body("Any number of calls.", "BatchCall", &json!({ "batch": [call] })))
        }
        _ if OTHER_CALLS.contains(&path) => {
            Some(body("A call.", "OtherCall", &json!({"userId": "usr_1", "traits": {"plan": "enterprise"}})))
        }
        _ => None,
    }
}

/// Whether a path takes calls of Segment's Tracking API.
pub fn is_tracking(path: &str) -> bool {
    ["/v1/track", "/v1/batch"].contains(&path) || OTHER_CALLS.contains(&path)
}

fn body(description: &str, schema: &str, example: &Value) -> Value {
    json!({
        "description": description,
        "required": true,
        "content": {"application/json": {"schema": refer(schema), "example": example}},
    })
}

fn events() -> Value {
    let lines = json!({
        "type": "string",
        "contentMediaType": "application/x-ndjson",
        "description": "A `NewEvent` a line. Empty lines do not count.",
    });
    let line = format!("{}\n", json!({"type": "Warehouse Disabled", "actor": {"type": "system", "id": "scheduler"}}));
    let one = json!({
        "schema": {"anyOf": [refer("NewEvent"), refer("NewEvents")]},
        "examples": {
            "one": {"summary": "One event", "value": event()},
            "many": {"summary": "Many, all of them or none", "value": {"events": [event()]}},
        },
    });
    json!({
        "description": format!("Events. {BINARY_MODE}"),
        "required": true,
        "content": {
            "application/json": one,
            "application/x-ndjson": {"schema": lines, "example": line},
            "application/cloudevents+json": {"schema": refer("CloudEvent"), "example": cloud_event()},
            "application/cloudevents-batch+json": {"schema": refer("CloudEvents"), "example": [cloud_event()]},
        },
    })
}

/// The one body that may be left out.
fn replay() -> Value {
    let ids = json!({"type": "array", "minItems": 1, "maxItems": IDS_MAX, "items": id("Identity of a parked event.", ID_MAX_CHARS)});
    let schema = closed(
        "Which parked events are sent again: all, where `events` is absent.",
        &[],
        &json!({"events": optional(ids)}),
    );
    json!({
        "description": "Which parked events are sent again. Without a body, all.",
        "required": false,
        "content": {"application/json": {"schema": schema, "example": {"events": ["evt_1"]}}},
    })
}

/// Without an id, so that it may be sent again.
fn event() -> Value {
    json!({
        "timestamp": "2026-03-02T09:14:05Z",
        "type": "Warehouse Disabled",
        "actor": {"type": "user", "id": "usr_1", "name": "Jane", "email": "jane@acme.example"},
        "resource": {"type": "warehouse", "id": "wh_1", "name": "Main"},
        "outcome": "success",
        "context": {"ip": "192.0.2.1", "userAgent": "curl/8.5.0", "requestId": "req_1"},
        "changes": [{"field": "enabled", "before": true, "after": false}],
        "details": {"reason": "cost"},
    })
}

fn cloud_event() -> Value {
    json!({
        "specversion": "1.0",
        "id": "evt-1",
        "source": "/acme/warehouses",
        "type": "Warehouse Disabled",
        "time": "2026-03-02T09:14:05Z",
        "subject": "wh_1",
        "data": {"actor": {"type": "user", "id": "usr_1"}, "outcome": "success"},
    })
}

fn kubernetes() -> Value {
    json!({
        "kind": "EventList",
        "apiVersion": "audit.k8s.io/v1",
        "items": [{
            "auditID": "6e2d2c3b-6b2f-4b8c-9d0f-1f6f2a9b7c11",
            "stage": "ResponseComplete",
            "verb": "delete",
            "requestURI": "/api/v1/namespaces/acme/configmaps/limits",
            "user": {"username": "jane@acme.example"},
            "objectRef": {"resource": "configmaps", "namespace": "acme", "name": "limits"},
            "responseStatus": {"code": 200},
            "requestReceivedTimestamp": "2026-03-02T09:14:05.000000Z",
        }],
    })
}

fn track() -> Value {
    json!({
        "event": "Warehouse Disabled",
        "userId": "usr_1",
        "timestamp": "2026-03-02T09:14:05Z",
        "properties": {"reason": "cost"},
    })
}
