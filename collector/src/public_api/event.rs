//! An event as Segment shows it, `AuditEventV1`.

use crate::event::ActorType;
use crate::query::export::row::Row;
use crate::segment::SYSTEM;
use serde::Serialize;
use utoipa::ToSchema;

/// `AuditEventV1`. All members but the e-mail address are required there; where an event has none, the text is empty.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = PublicApiAuditEvent)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    id: String,
    /// When it happened, ISO 8601 in UTC, in milliseconds; never later than it was.
    #[schema(format = DateTime)]
    timestamp: String,
    r#type: String,
    /// Whose id it is: of a user, or of an access token. `__system__` where neither acted; empty where a person was erased.
    actor: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor_email: Option<String>,
    resource_id: String,
    resource_type: String,
    resource_name: String,
}

/// Of the row, the rest is not looked at: `details` and `changes` can be large.
impl From<&Row<'_>> for AuditEvent {
    fn from(row: &Row<'_>) -> Self {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let [resource_type, resource_id, resource_name] = row.resource;
        Self {
            id: row.id.to_owned(),
            timestamp: row.timestamp.in_milliseconds(),
            r#type: row.r#type.to_owned(),
            actor: text(actor_id(row)),
            actor_email: row.actor[3].map(str::to_owned),
            resource_id: text(resource_id),
            resource_type: text(resource_type),
            resource_name: text(resource_name),
        }
    }
}

impl AuditEvent {
    /// Memory that it takes, in bytes, about.
    pub fn bytes(&self) -> usize {
        let texts = [
            &self.id,
            &self.timestamp,
            &self.r#type,
            &self.actor,
            &self.resource_id,
            &self.resource_type,
            &self.resource_name,
        ];
        let texts = texts.into_iter().chain(&self.actor_email);
        size_of::<Self>() + texts.map(String::len).sum::<usize>()
    }
}

fn actor_id<'r>(row: &Row<'r>) -> Option<&'r str> {
    let [kind, id, ..] = row.actor;
    if kind == Some(ActorType::System.as_str()) { Some(SYSTEM) } else { id }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::export::moment::Moment;
    use serde_json::json;

    /// 2026-03-02T09:14:05Z, as Postgres counts.
    const MOMENT: i64 = 825_758_045_000_000;

    fn full() -> Row<'static> {
        Row {
            sequence: 7,
            epoch: 1,
            received_at: Moment::of_postgres(MOMENT + 120_000),
            id: "evt_1",
            timestamp: Moment::of_postgres(MOMENT),
            r#type: "Warehouse Disabled",
            actor: [Some("user"), Some("usr_1"), Some("Ada"), Some("ada@acme.example")],
            resource: [Some("warehouse"), Some("whs_31"), Some("Production")],
            outcome: Some("success"),
            submitted_by: ["writeKey", "acme/writeKey"],
            context: Some(r#"{"ip":"203.0.113.7"}"#),
            changes: Some(r#"[{"after":false,"before":true,"field":"enabled"}]"#),
            details: Some(r#"{"reason":"by mistake"}"#),
        }
    }

    fn shown(row: &Row<'_>) -> serde_json::Value {
        serde_json::to_value(AuditEvent::from(row)).expect("JSON")
    }

    #[test]
    fn an_event_with_every_member_is_shown_in_segments_shape() {
        insta::assert_json_snapshot!(shown(&full()));
    }

    #[test]
    fn what_an_event_does_not_have_is_an_empty_text_and_an_e_mail_address_is_left_out() {
        let row = Row { actor: [None; 4], resource: [None; 3], ..full() };
        assert_eq!(
            shown(&row),
            json!({
                "id": "evt_1", "timestamp": "2026-03-02T09:14:05.000Z", "type": "Warehouse Disabled",
                "actor": "", "resourceId": "", "resourceType": "", "resourceName": "",
            })
        );
    }

    #[test]
    fn an_access_token_is_shown_by_its_id_and_the_system_by_segments() {
        let by = |kind| shown(&Row { actor: [Some(kind), Some("tok_1"), None, None], ..full() })["actor"].clone();
        assert_eq!(by("accessToken"), "tok_1");
        assert_eq!(by("system"), "__system__");
    }

    #[test]
    fn a_moment_is_cut_to_milliseconds() {
        let late = Row { timestamp: Moment::of_postgres(MOMENT + 999_999), ..full() };
        assert_eq!(AuditEvent::from(&late).timestamp, "2026-03-02T09:14:05.999Z");
    }

    #[test]
    fn the_size_of_an_event_counts_its_texts() {
        let bytes = |row: &Row<'_>| AuditEvent::from(row).bytes();
        let id = "x".repeat(100);
        assert_eq!(bytes(&Row { id: &id, ..full() }), bytes(&full()) + 100 - "evt_1".len());
    }
}
