//! An audit event: what the collector accepts, keeps and gives back.

pub mod json;
pub mod leaf;

use jiff::{RoundMode, Timestamp, TimestampRound, Unit, civil::Date, tz::TimeZone};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

/// A valid event as a client gave it. Only `ingest` makes these, after checking every limit, so
/// that storing one cannot fail for what it contains.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(description = "An event, as a client gave it.")]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Identity: the same id again is the same event.
    pub id: String,
    /// When it happened, in whole microseconds; `receivedAt` stands in when the client gave none.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// What happened, for example `Warehouse Disabled`.
    pub r#type: String,
    /// Who did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<Actor>,
    /// What it was done to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<Resource>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Where it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Context>,
    /// What changed, field by field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// Anything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub details: Option<Map<String, Value>>,
}

/// Who did it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Actor {
    /// Kind of actor.
    pub r#type: ActorType,
    /// Identity of the actor in its own system.
    pub id: String,
    /// Name, as people read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// E-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

/// Declares an enum whose variants have one wire name each, read and written in one place.
macro_rules! wire_names {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $wire:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum $name { $($(#[$variant_meta])* $variant),+ }

        impl $name {
            /// Every name, in the order of declaration.
            pub const NAMES: &'static [&'static str] = &[$($wire),+];

            /// The name in JSON, CSV and the database.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $wire),+ }
            }

            /// The variant of this name.
            pub fn parse(name: &str) -> Option<Self> {
                match name { $($wire => Some(Self::$variant),)+ _ => None }
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                Object::builder().schema_type(Type::String).enum_values(Some(Self::NAMES.iter().copied())).into()
            }
        }

        impl ToSchema for $name {}
    };
}

wire_names! {
    /// Kind of actor.
    ActorType {
        /// A logged-in person.
        User = "user",
        /// A token that acts for itself: an API token, a service account.
        AccessToken = "accessToken",
        /// The system itself.
        System = "system",
    }
}

wire_names! {
    /// How an action ended.
    Outcome {
        /// It was done.
        Success = "success",
        /// It failed.
        Failure = "failure",
        /// It was not allowed.
        Denied = "denied",
    }
}

wire_names! {
    /// What kind of credential an event was written with.
    SubmitterKind {
        /// A write key.
        WriteKey = "writeKey",
        /// A Kubernetes service account.
        ServiceAccount = "serviceAccount",
        /// A person, with a token of the cluster.
        User = "user",
        /// A fixed token of a collector without Kubernetes.
        Token = "token",
        /// None: the collector itself, which records who looked.
        Collector = "collector",
    }
}

/// What it was done to.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Resource {
    /// Kind of resource, for example `warehouse`.
    pub r#type: String,
    /// Identity of the resource in its own system.
    pub id: String,
    /// Name, as people read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Where it came from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, serde::Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Context {
    /// Address of the client, IPv4 or IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Its user agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// Identity of the request that caused the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// One changed field.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize, ToSchema)]
pub struct Change {
    /// Name or path of the field.
    pub field: String,
    /// Value before; absent when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// Value after; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// Who wrote an event, as the collector found out. No client can set it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, ToSchema)]
pub struct SubmittedBy {
    /// Kind of credential.
    pub kind: SubmitterKind,
    /// Its name: of the write key, of the service account (`namespace/name`), of the person.
    pub name: String,
}

/// An event of the log. Its JSON is what every endpoint answers.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoredEvent {
    /// Place in the log.
    pub sequence: i64,
    /// Epoch of the log in which it was stored.
    pub epoch: i64,
    /// When the database stored it.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "microseconds")]
    pub received_at: Timestamp,
    /// When it happened.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "microseconds")]
    pub timestamp: Timestamp,
    /// Who wrote it.
    pub submitted_by: SubmittedBy,
    /// Logs of the trails that it passed before this one, oldest first; empty for an event that began here. It serves
    /// delivery, like a cursor, and is no part of the event: not of its JSON, its CSV or its leaf.
    #[serde(skip)]
    pub passed: Vec<Uuid>,
    /// The event as the client gave it, but for its `timestamp`, which is the field above.
    #[serde(flatten)]
    pub event: Event,
}

impl StoredEvent {
    /// Whether this is `event`, stored.
    pub fn holds(&self, event: &Event) -> bool {
        self.timestamp == event.timestamp.unwrap_or(self.received_at) && self.event.is_but_for_timestamp(event)
    }
}

/// The moment without what Postgres does not keep: cut to whole microseconds.
pub fn whole_microseconds(moment: Timestamp) -> Timestamp {
    let round = TimestampRound::new().smallest(Unit::Microsecond).mode(RoundMode::Trunc);
    moment.round(round).expect("truncation stays in range")
}

/// RFC 3339, UTC, always six digits of fraction: one moment has one form, in answers and in leaves.
pub fn rfc3339_microseconds(moment: Timestamp) -> String {
    format!("{moment:.6}")
}

/// A moment in JSON: [`rfc3339_microseconds`].
pub fn microseconds<S: serde::Serializer>(moment: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339_microseconds(*moment))
}

/// Where the identity of an event comes from, which decides how long a duplicate is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IdentityDay {
    /// The event itself names its day: a duplicate is known for as long as the event is kept.
    Own(Date),
    /// Only `receivedAt` does: a duplicate is known for seven days.
    Received,
}

impl Event {
    /// Whether the two are the same, whatever their timestamps are.
    pub fn is_but_for_timestamp(&self, other: &Self) -> bool {
        let Self { id, timestamp: _, r#type, actor, resource, outcome, context, changes, details } = self;
        id == &other.id
            && r#type == &other.r#type
            && actor == &other.actor
            && resource == &other.resource
            && outcome == &other.outcome
            && context == &other.context
            && changes == &other.changes
            && details == &other.details
    }

    /// The day under which the id is kept: of a UUIDv7's time, else of the client's timestamp.
    pub fn identity_day(&self) -> IdentityDay {
        let moment = uuid_v7_time(&self.id).or(self.timestamp);
        moment.map_or(IdentityDay::Received, |moment| IdentityDay::Own(utc_day(moment)))
    }
}

/// The identity day that an id names by itself, as a UUIDv7 does: an event of this id has no other.
pub fn day_of_id(id: &str) -> Option<Date> {
    uuid_v7_time(id).map(utc_day)
}

/// The day of a moment, in UTC.
pub fn utc_day(moment: Timestamp) -> Date {
    moment.to_zoned(TimeZone::UTC).date()
}

fn uuid_v7_time(id: &str) -> Option<Timestamp> {
    let uuid = Uuid::try_parse(id).ok().filter(|uuid| uuid.get_version_num() == 7)?;
    let (seconds, nanoseconds) = uuid.get_timestamp()?.to_unix();
    Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanoseconds).ok()?).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The smallest event, to be changed by tests.
    pub fn event(id: &str) -> Event {
        Event {
            id: id.to_owned(),
            timestamp: None,
            r#type: "Warehouse Disabled".to_owned(),
            actor: Some(Actor { r#type: ActorType::User, id: "usr_1".to_owned(), name: None, email: None }),
            resource: None,
            outcome: None,
            context: None,
            changes: Vec::new(),
            details: None,
        }
    }

    #[test]
    fn a_uuid_v7_names_the_day_before_the_timestamp_does() {
        // 0x018bcfe56800 milliseconds are 2023-11-14T22:13:20Z.
        let event = Event {
            timestamp: Some("2020-01-01T00:00:00Z".parse().expect("valid")),
            ..event("018bcfe5-6800-7000-8000-000000000000")
        };
        assert_eq!(event.identity_day(), IdentityDay::Own(jiff::civil::date(2023, 11, 14)));
    }

    #[test]
    fn a_timestamp_names_the_day_in_utc() {
        let timestamp = Some("2020-01-01T01:00:00+02:00".parse().expect("valid"));
        let event = Event { timestamp, ..event("a") };
        assert_eq!(event.identity_day(), IdentityDay::Own(jiff::civil::date(2019, 12, 31)));
    }

    #[test]
    fn an_id_without_a_time_is_known_by_the_day_it_was_received() {
        assert_eq!(event("a").identity_day(), IdentityDay::Received);
    }

    #[test]
    fn moments_have_six_digits_of_fraction() {
        assert_eq!(
            rfc3339_microseconds("2026-03-02T09:14:05.12Z".parse().expect("valid")),
            "2026-03-02T09:14:05.120000Z"
        );
    }
}
