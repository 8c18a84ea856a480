//! Parameters that several handlers share. Their limits are those of [`Parameters`](crate::query::parameters::Parameters).

use super::native::ID_PATTERN;
use crate::event::{ActorType, Outcome};
use crate::ingest::limits::ID_MAX_CHARS;
use crate::query::list::{LIMIT_DEFAULT, LIMITS};
use crate::query::parameters::{VALUE_MAX_BYTES, VALUES_MAX};
use crate::query::words::WORDS_MAX;
use serde_json::{Value, json};
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn, ParameterStyle};
use utoipa::openapi::schema::{ArrayBuilder, Object, ObjectBuilder, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{KnownFormat, RefOr, Required, Schema};

/// How a place in the log is written.
const PLACE_PATTERN: &str = r"^(0|[1-9][0-9]{0,18})\.(0|[1-9][0-9]{0,18})$";

/// Name of a forwarding: that of an object of Kubernetes (RFC 1123, section 2.1).
const NAME_PATTERN: &str = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$";

/// Its length: what the CRD allows.
const NAME_MAX_CHARS: usize = 63;

/// Those of [`Filter`](crate::query::filter::Filter).
pub struct FilterParameters;

impl IntoParams for FilterParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let areas = "Product areas of the catalogue, in any case; one that it does not have is a 400.";
        vec![
            set("type", "Names of events, as given or as the catalogue spells them.", text(), "Warehouse Disabled"),
            set("area", areas, text(), "Warehouses"),
            set("actor", "Identities of actors.", text(), "usr_1"),
            set("actorType", "Kinds of actors.", one_of(ActorType::NAMES), "user"),
            set("resource", "Identities of resources.", text(), "wh_1"),
            set("resourceType", "Kinds of resources.", text(), "warehouse"),
            set("outcome", "How it ended.", one_of(Outcome::NAMES), "success"),
            set(
                "submittedBy",
                "Names of the write keys, service accounts and people that wrote the events.",
                text(),
                "acme/writeKey",
            ),
            once("from", "Happened at this moment or later.", moment(), json!("2026-03-02T09:14:05Z")),
            once(
                "to",
                "Happened before this moment, which is later than `from`.",
                moment(),
                json!("2126-01-01T00:00:00Z"),
            ),
            once(
                "q",
                &format!(
                    "Words that all occur in the event, in any case: {WORDS_MAX} at most, separated by white space."
                ),
                text(),
                json!("jane main"),
            ),
        ]
    }
}

/// `order`.
pub struct OrderParameter;

impl IntoParams for OrderParameter {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let order = one_of(&["desc", "asc"]);
        vec![once("order", "Newest first, or oldest first.", with_default(order, json!("desc")), json!("asc"))]
    }
}

/// Those of pages: `order`, `limit` and `cursor`.
pub struct PageParameters;

impl IntoParams for PageParameters {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let limit = with_default(number(*LIMITS.start(), *LIMITS.end()), json!(LIMIT_DEFAULT));
        let mut parameters = OrderParameter::into_params(place);
        parameters.extend([
            once("limit", "Events of the page, at most.", limit, json!(10)),
            cursor("cursor", "`nextCursor` of the page before, sent with the parameters that it was asked with."),
        ]);
        parameters
    }
}

/// `after`: a place in the log.
pub struct AfterParameter;

impl IntoParams for AfterParameter {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let what = "Goes on after this event: its epoch and its sequence, as `epoch.sequence`.";
        vec![without_example("after", ParameterIn::Query, what, place())]
    }
}

/// `Last-Event-ID`, which goes before `after`.
pub struct LastEventId;

impl IntoParams for LastEventId {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let what = "Where a client that reconnects goes on: the last `id` that it got. Goes before `after`.";
        vec![without_example("Last-Event-ID", ParameterIn::Header, what, place())]
    }
}

/// `id` in the path.
pub struct IdOfPath;

impl IntoParams for IdOfPath {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let id = of(Type::String).min_length(Some(1)).max_length(Some(ID_MAX_CHARS)).pattern(Some(ID_PATTERN));
        let what = "Identity of the event, percent-encoded. Nothing in it is invisible.";
        let parameter = parameter("id", ParameterIn::Path, what, Schema::Object(id.build()));
        vec![parameter.required(Required::True).example(Some(json!("evt_1"))).build()]
    }
}

/// `name` in the path.
pub struct NameOfPath;

impl IntoParams for NameOfPath {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let name = of(Type::String).min_length(Some(1)).max_length(Some(NAME_MAX_CHARS)).pattern(Some(NAME_PATTERN));
        let parameter = parameter("name", ParameterIn::Path, "Name of a forwarding.", Schema::Object(name.build()));
        vec![parameter.required(Required::True).example(Some(json!("to-segment"))).build()]
    }
}

/// A parameter that may be given several times: OR over its values.
pub fn set(name: &str, what: &str, item: ObjectBuilder, example: &str) -> Parameter {
    let values = ArrayBuilder::new().items(item).max_items(Some(VALUES_MAX)).build();
    parameter(name, ParameterIn::Query, what, Schema::Array(values))
        .style(Some(ParameterStyle::Form))
        .explode(Some(true))
        .example(Some(json!([example])))
        .build()
}

/// A parameter that may be given once.
pub fn once(name: &str, what: &str, schema: ObjectBuilder, example: Value) -> Parameter {
    parameter(name, ParameterIn::Query, what, Schema::Object(schema.build())).example(Some(example)).build()
}

/// A cursor. There is no example that would be one.
pub fn cursor(name: &str, what: &str) -> Parameter {
    without_example(name, ParameterIn::Query, what, text())
}

fn without_example(name: &str, place: ParameterIn, what: &str, schema: ObjectBuilder) -> Parameter {
    parameter(name, place, what, Schema::Object(schema.build())).build()
}

fn parameter(name: &str, place: ParameterIn, what: &str, schema: Schema) -> ParameterBuilder {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(Required::False)
        .description(Some(what))
        .schema(Some(RefOr::T(schema)))
}

/// Text of a parameter. Its length is limited in bytes, which are never fewer than characters.
pub fn text() -> ObjectBuilder {
    of(Type::String).min_length(Some(1)).max_length(Some(VALUE_MAX_BYTES))
}

/// One of a closed list.
pub fn one_of(names: &[&str]) -> ObjectBuilder {
    of(Type::String).enum_values(Some(names.iter().copied()))
}

/// A moment (RFC 3339).
pub fn moment() -> ObjectBuilder {
    of(Type::String).format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
}

/// A whole number within these bounds.
#[expect(clippy::cast_precision_loss, reason = "bounds of parameters are small")]
pub fn number(from: i64, to: i64) -> ObjectBuilder {
    of(Type::Integer).minimum(Some(from as f64)).maximum(Some(to as f64))
}

/// The same with what stands in where it is absent.
pub fn with_default(schema: ObjectBuilder, value: Value) -> ObjectBuilder {
    schema.default(Some(value))
}

fn place() -> ObjectBuilder {
    of(Type::String).pattern(Some(PLACE_PATTERN))
}

fn of(kind: Type) -> ObjectBuilder {
    Object::builder().schema_type(SchemaType::Type(kind))
}
