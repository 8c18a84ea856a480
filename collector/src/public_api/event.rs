//! An event as Segment shows it, `AuditEventV1`.

use crate::event::{Actor, ActorType, StoredEvent};
use crate::segment::SYSTEM;
use serde::Serialize;
use utoipa::ToSchema;

/// `AuditEventV1`. All members but the e-mail address are required there; where an event has none, the text is empty.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = PublicApiAuditEvent)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent<'a> {
    id: &'a str,
    /// When it happened, ISO 8601 in UTC, in milliseconds; never later than it was.
    #[schema(format = DateTime)]
    timestamp: String,
    r#type: &'a str,
    /// Whose id it is: of a user, or of an access token. `__system__` where neither acted; empty where a person was erased.
    actor: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor_email: Option<&'a str>,
    resource_id: &'a str,
    resource_type: &'a str,
    resource_name: &'a str,
}

impl<'a> From<&'a StoredEvent> for AuditEvent<'a> {
    fn from(stored: &'a StoredEvent) -> Self {
        let event = &stored.event;
        let resource = event.resource.as_ref();
        Self {
            id: &event.id,
            timestamp: format!("{:.3}", stored.timestamp),
            r#type: &event.r#type,
            actor: event.actor.as_ref().map_or("", actor_id),
            actor_email: event.actor.as_ref().and_then(|actor| actor.email.as_deref()),
            resource_id: resource.map_or("", |resource| &resource.id),
            resource_type: resource.map_or("", |resource| &resource.r#type),
            resource_name: resource.and_then(|resource| resource.name.as_deref()).unwrap_or_default(),
        }
    }
}

fn actor_id(actor: &Actor) -> &str {
    match actor.r#type {
        ActorType::User | ActorType::AccessToken => &actor.id,
        ActorType::System => SYSTEM,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::segment::tests::{full, stored};
    use serde_json::json;

    fn shown(event: Event) -> serde_json::Value {
        serde_json::to_value(AuditEvent::from(&stored(event))).expect("JSON")
    }

    #[test]
    fn an_event_with_every_member_is_shown_in_segments_shape() {
        insta::assert_json_snapshot!(shown(full()));
    }

    #[test]
    fn what_an_event_does_not_have_is_an_empty_text_and_an_e_mail_address_is_left_out() {
        let event = Event { actor: None, resource: None, ..full() };
        assert_eq!(
            shown(event),
            json!({
                "id": "evt_1", "timestamp": "2026-03-02T09:14:05.000Z", "type": "Warehouse Disabled",
                "actor": "", "resourceId": "", "resourceType": "", "resourceName": "",
            })
        );
    }

    #[test]
    fn an_access_token_is_shown_by_its_id_and_the_system_by_segments() {
        let by = |r#type| {
            let actor = Actor { r#type, id: "tok_1".to_owned(), name: None, email: None };
            shown(Event { actor: Some(actor), ..full() })["actor"].clone()
        };
        assert_eq!(by(ActorType::AccessToken), "tok_1");
        assert_eq!(by(ActorType::System), "__system__");
    }

    #[test]
    fn a_moment_is_cut_to_milliseconds() {
        let mut late = stored(full());
        late.timestamp = "2026-03-02T09:14:05.999999Z".parse().expect("valid");
        assert_eq!(AuditEvent::from(&late).timestamp, "2026-03-02T09:14:05.999Z");
    }
}
