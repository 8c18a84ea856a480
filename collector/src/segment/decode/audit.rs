//! Items whose event is `Audit`: of format `SegmentAudit`, and of Segment's own audit forwarding.

use super::{Layers, Members, Reader, into_object, moment, text};
use crate::event::{Actor, ActorType, Change, Event, Outcome, Resource, json};
use crate::ingest::fields::Faults;
use crate::ingest::limits::{EMAIL_MAX_CHARS, IDENTITY_MAX_CHARS, NAME_MAX_CHARS, TYPE_MAX_CHARS};
use crate::segment::{SYSTEM, audit};

impl Reader<'_> {
    /// What [`crate::segment::encode::item`] made in format `SegmentAudit`. Values of `details` stay text.
    pub(super) fn audit(&mut self, faults: &mut Faults) -> Event {
        let mut properties = self.take_object("properties").unwrap_or_default();
        self.note_truncated(&properties);
        let context = self.take_object("context").unwrap_or_default();
        let mut details = properties.remove("details").and_then(into_object).unwrap_or_default();
        let timestamp = moment(&self.members, "timestamp");
        Event {
            id: self.id(text(&properties, "id")),
            timestamp: self.timestamp(timestamp),
            r#type: self.audit_type(&properties),
            actor: self.audit_actor(&details, faults),
            resource: self.audit_resource(&details),
            outcome: text(&details, audit::OUTCOME).and_then(Outcome::parse),
            context: self.context(Layers { item: &context, batch: &Members::new() }),
            changes: self.audit_changes(&details),
            details: self.own_details(&mut details),
        }
    }

    fn audit_type(&mut self, properties: &Members) -> String {
        self.cut.optional("type", text(properties, "type"), TYPE_MAX_CHARS).unwrap_or_default()
    }

    /// The actor whom the subject names; nobody, where the person was erased.
    fn audit_actor(&mut self, details: &Members, faults: &mut Faults) -> Option<Actor> {
        let subject = text(details, audit::SUBJECT);
        if subject.is_none() && text(&self.members, "userId") == Some(SYSTEM) {
            return None;
        }
        let Some((r#type, id)) = subject.and_then(audit::actor) else { return self.user(faults) };
        Some(Actor {
            r#type,
            id: self.cut.text("actor.id", id, IDENTITY_MAX_CHARS),
            name: self.cut.optional("actor.name", text(details, audit::ACTOR_NAME), NAME_MAX_CHARS),
            email: self.cut.optional("actor.email", text(details, audit::ACTOR_EMAIL), EMAIL_MAX_CHARS),
        })
    }

    fn audit_resource(&mut self, details: &Members) -> Option<Resource> {
        let (id, r#type) = text(details, audit::RESOURCE_ID).zip(text(details, audit::RESOURCE_TYPE))?;
        Some(Resource {
            r#type: self.cut.text("resource.type", r#type, IDENTITY_MAX_CHARS),
            id: self.cut.text("resource.id", id, IDENTITY_MAX_CHARS),
            name: self.cut.optional("resource.name", text(details, audit::TARGET), NAME_MAX_CHARS),
        })
    }

    fn audit_changes(&mut self, details: &Members) -> Vec<Change> {
        let Some(changes) = text(details, audit::CHANGES) else { return Vec::new() };
        // What is not JSON stays text, and text is no list of changes: it is cut.
        self.changes(Some(json::parse(changes.as_bytes()).unwrap_or_else(|_| changes.into())))
    }

    /// What is left of `details` when our own members are taken out; none when nothing is.
    fn own_details(&mut self, details: &mut Members) -> Option<Members> {
        for name in audit::TAKEN {
            details.remove(name);
        }
        let mut own: Members =
            std::mem::take(details).into_iter().map(|(name, value)| (audit::own(name), value)).collect();
        self.cut.fit(&mut own);
        Some(own).filter(|own| !own.is_empty())
    }

    /// What Segment's own audit forwarding makes.
    pub(super) fn segments_own(&mut self, faults: &mut Faults) -> Event {
        let mut properties = self.take_object("properties").unwrap_or_default();
        let r#type = self.audit_type(&properties);
        let workspace = properties.remove("workspace_id");
        let mut details = properties.remove("details").and_then(into_object).unwrap_or_default();
        let actor = self.segments_actor(&details, faults);
        let resource = self.audit_resource(&details);
        for name in [audit::RESOURCE_ID, audit::RESOURCE_TYPE, audit::TARGET] {
            // An empty text stands for nothing.
            if resource.is_some() || text(&details, name).is_none() {
                details.remove(name);
            }
        }
        details.extend(workspace.map(|workspace| ("workspace_id".to_owned(), workspace)));
        self.cut.fit(&mut details);
        let timestamp = moment(&self.members, "timestamp");
        Event {
            id: self.message_id(),
            timestamp: self.timestamp(timestamp),
            r#type,
            actor,
            resource,
            outcome: None,
            context: None,
            changes: Vec::new(),
            details: Some(details),
        }
    }

    /// `userId` may be the system where `details.subject` names a person: Segment's own helper believes the latter.
    fn segments_actor(&mut self, details: &Members, faults: &mut Faults) -> Option<Actor> {
        let subject = text(details, audit::SUBJECT);
        let mut actor = self.user(faults)?;
        if let Some((ActorType::User, person)) = subject.and_then(audit::actor) {
            actor.id = self.cut.text("actor.id", person, IDENTITY_MAX_CHARS);
            actor.r#type = ActorType::User;
        } else if subject.is_some() && actor.r#type == ActorType::User {
            // Whoever is no user and yet not the system is an access token.
            actor.r#type = ActorType::AccessToken;
        }
        Some(actor)
    }
}
