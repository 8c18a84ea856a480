//! `GET /openapi.json`: what the interface is, as OpenAPI 3.1 describes it.
//!
//! Paths, parameters and answers stand at the handlers (`#[utoipa::path]`), and a handler without them cannot be put into
//! [`server::routes`](crate::server::routes): so every route is described. What requests may hold is checked by readers
//! member by member, and is described beside their limits in [`bodies`].
//!
//! | module | what |
//! |---|---|
//! | [`parameters`] | parameters that several handlers share |
//! | [`answers`] | answers that several handlers share: errors, and headers |
//! | [`bodies`] | bodies of requests, with examples |
//! | [`native`] | schemas of native events |
//! | [`foreign`] | schemas of CloudEvents, Kubernetes audit events and calls of Segment's Tracking API |

pub mod answers;
pub mod bodies;
pub mod foreign;
pub mod native;
pub mod parameters;

use crate::access::{self, Verb};
use crate::forwardings::list::Forwardings;
use crate::ingest::segment::RefusedBody;
use crate::problem::Problem;
use crate::public_api::refused::Envelope;
use crate::server::{self, App};
use audittrail_crds::report::Report;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;
use utoipa::ToSchema;
use utoipa::openapi::path::Paths;
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{Components, InfoBuilder, License, OpenApi, OpenApiBuilder, RefOr, Schema};

/// Writing events.
pub const WRITING: &str = "Writing";
/// Asking for events.
pub const READING: &str = "Reading";
/// The shapes of Segment's APIs.
pub const SEGMENT: &str = "Segment";
/// How forwardings are.
pub const FORWARDING: &str = "Forwarding";
/// How the collector is.
pub const STATE: &str = "State";

/// Groups of operations, and what they are for.
const TAGS: [(&str, &str); 5] = [
    (WRITING, "Adds events to the trail. Every answer comes after the events are durable."),
    (READING, "Asks for events. Each query is itself recorded in the trail before it is answered, once."),
    (SEGMENT, "The shapes of Segment's Tracking API and Public API, so that their SDKs work unchanged."),
    (FORWARDING, "How forwardings are, and what their sources refused for good."),
    (STATE, "How the collector is, and what it offers."),
];

/// What holds for every operation.
const DESCRIPTION: &str = "Audit events of one workspace: accepted, kept as a log, and given back.

- A path that is not listed is answered 404, a method that is not listed 405 with `Allow`, both as `Problem`. `HEAD` is answered as `GET`, without the content. \
What is no HTTP, or has headers past the server's limits, is answered before it is looked at: 400 or 431, without a body.
- An unknown parameter is a 400, as is an unknown field of an object that has `additionalProperties: false`.
- Content may be sent with `Content-Encoding: gzip` or `zstd`.
- Members of answers may be added; none is removed or changes its meaning.";

/// The document as it is served. Made once: it is the same for every trail.
static TEXT: LazyLock<String> = LazyLock::new(|| document().to_string());

/// The description of this interface.
#[utoipa::path(
    get, path = "/openapi.json", tag = STATE,
    summary = "This description",
    description = "OpenAPI 3.1. Needs a credential that may read.",
    responses((status = 200, description = "The description.", content_type = "application/json", body = Value), answers::Asking)
)]
pub async fn get_openapi(State(app): State<App>, headers: HeaderMap) -> Result<impl IntoResponse, Problem> {
    access::authorize(&app, &headers, Verb::Read).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], TEXT.as_str()))
}

/// The document.
pub fn document() -> Value {
    let (paths, schemas) = described();
    let mut document = serde_json::to_value(outline(paths, schemas)).expect("a document is JSON");
    let components = member(&mut document, "components");
    let schemas = member_of(components, "schemas");
    schemas.values_mut().for_each(absent_is_not_null);
    schemas.extend(report());
    schemas.values_mut().for_each(without_links);
    schemas.extend(native::schemas());
    schemas.extend(foreign::schemas());
    components.insert("responses".to_owned(), answers::responses());
    components.insert("headers".to_owned(), answers::headers());
    components.insert("securitySchemes".to_owned(), security_schemes());
    for (path, item) in member(&mut document, "paths") {
        for (method, operation) in item.as_object_mut().expect("a path item is an object") {
            let operation = operation.as_object_mut().expect("an operation is an object");
            finish(path, method, operation);
        }
    }
    document
}

/// All that the handlers say of themselves.
fn described() -> (Paths, Components) {
    let mut paths = Paths::new();
    let mut components = Components::new();
    components.schemas.extend(told::<Problem>());
    components.schemas.extend(told::<RefusedBody>());
    components.schemas.extend(told::<Envelope>());
    for (schemas, of_route, _) in server::described() {
        components.schemas.extend(schemas);
        paths.merge(of_route);
    }
    (paths, components)
}

/// The schema of a type that only shared answers name, with those that it refers to.
fn told<T: ToSchema>() -> Vec<(String, RefOr<Schema>)> {
    let mut schemas = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut schemas);
    schemas
}

fn outline(paths: Paths, components: Components) -> OpenApi {
    let info = InfoBuilder::new()
        .title("audittrail collector")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(License::new(env!("CARGO_PKG_LICENSE"))));
    let tags = TAGS.map(|(name, what)| TagBuilder::new().name(name).description(Some(what)).build());
    OpenApiBuilder::new().info(info).tags(Some(tags)).paths(paths).components(Some(components)).build()
}

/// What every operation has, and the bodies of those that take one.
fn finish(path: &str, method: &str, operation: &mut Map<String, Value>) {
    if let Some(body) = bodies::of(path).filter(|_| method == "post") {
        operation.insert("requestBody".to_owned(), body);
    }
    operation.insert("security".to_owned(), security(path));
    for answer in member_of(operation, "responses").values_mut().filter(|answer| answer.get("$ref").is_none()) {
        answers::finish(path, answer);
    }
}

/// Which credentials an operation takes: any one of them. Probes take none.
fn security(path: &str) -> Value {
    match path {
        "/livez" | "/readyz" => json!([]),
        // A write key adds events, and nothing else.
        bodies::REPLAY => json!([{"token": []}]),
        // Without a header, the write key may stand in the body.
        _ if bodies::is_tracking(path) => json!([{"token": []}, {"writeKey": []}, {}]),
        _ if bodies::of(path).is_some() => json!([{"token": []}, {"writeKey": []}]),
        _ => json!([{"token": []}]),
    }
}

fn security_schemes() -> Value {
    json!({
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "A token of the cluster made for this trail, an owner's token of a collector without Kubernetes, or (to write) a write key.",
        },
        "writeKey": {
            "type": "http",
            "scheme": "basic",
            "description": "A write key as the user, as HTTP API clients of Segment send it. The password is not looked at.",
        },
    })
}

/// The report is a type of another crate, which describes itself as custom resources do; and so does what holds parts of it.
fn report() -> Map<String, Value> {
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    generator.subschema_for::<Report>();
    generator.subschema_for::<Forwardings>();
    let mut schemas = generator.take_definitions(false);
    schemas.values_mut().for_each(absent_is_not_null);
    schemas
}

/// Answers leave out what is absent, and have no `null` in its place. Only a member that is always there may be `null`.
fn absent_is_not_null(schema: &mut Value) {
    match schema {
        Value::Array(all) => all.iter_mut().for_each(absent_is_not_null),
        Value::Object(members) => {
            let required = members.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
            if let Some(Value::Object(properties)) = members.get_mut("properties") {
                let optional = properties.iter_mut().filter(|(name, _)| !required.iter().any(|one| one == *name));
                optional.for_each(|(_, property)| without_null(property));
            }
            members.values_mut().for_each(absent_is_not_null);
        }
        _ => {}
    }
}

/// Descriptions come from our own documentation, whose links lead nowhere else.
fn without_links(schema: &mut Value) {
    match schema {
        Value::Array(all) => all.iter_mut().for_each(without_links),
        Value::Object(members) => {
            if let Some(Value::String(text)) = members.get_mut("description") {
                *text = text.replace("[`", "`").replace("`]", "`");
            }
            members.values_mut().for_each(without_links);
        }
        _ => {}
    }
}

/// Drops `null` out of a type, or out of the choice between a schema and `null`.
fn without_null(property: &mut Value) {
    let null = json!({"type": "null"});
    if let Some(types) = property.get_mut("type").filter(|types| types.is_array()) {
        types.as_array_mut().expect("just seen").retain(|one| one != "null");
        if let [only] = types.as_array().expect("just seen").as_slice() {
            *types = only.clone();
        }
    }
    for choice in ["oneOf", "anyOf"] {
        if let Some(choices) = property.get_mut(choice).and_then(Value::as_array_mut) {
            choices.retain(|one| *one != null);
        }
    }
}

fn member<'a>(document: &'a mut Value, name: &str) -> &'a mut Map<String, Value> {
    member_of(document.as_object_mut().expect("an object"), name)
}

/// The object that is this member; an empty one is made where there is none.
fn member_of<'a>(object: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    object.entry(name).or_insert_with(|| json!({})).as_object_mut().expect("an object")
}

#[cfg(test)]
mod tests;
