//! `GET /v1/event-types`, `/v1/actors`, `/v1/resources`: the lists behind the filters, with counts
//! ([`docs/queries.md`](../../../../docs/queries.md)).
//!
//! Nothing of this is recorded in the trail: no event is shown, and a list is asked for again with each letter that
//! somebody types.

pub mod areas;
pub mod prefix;

use super::filter::Filter;
use super::list::{LIMIT_DEFAULT, LIMITS};
use super::parameters::Parameters;
use crate::access::{self, Verb};
use crate::event::ActorType;
use crate::openapi;
use crate::openapi::parameters::{number, once, text, with_default};
use crate::problem::{Problem, RETRY_AFTER_SECONDS};
use crate::server::App;
use crate::store::counts::{CountError, Counted, Who};
use areas::EventTypes;
use audittrail_crds::catalogue::Catalogue;
use axum::Json;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use prefix::Prefix;
use serde::Serialize;
use serde_json::json;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::{IntoParams, ToSchema};

/// The pairs of a query string.
type Pairs = Query<Vec<(String, String)>>;

/// What a list is asked with.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Parts {
    filter: Filter,
    prefix: Option<Prefix>,
    limit: usize,
}

/// `prefix` and `limit`.
pub struct ListParameters;

impl IntoParams for ListParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let limit = with_default(number(*LIMITS.start(), *LIMITS.end()), json!(LIMIT_DEFAULT));
        let prefix = "What is listed begins with it, in any case: a type; an actor's id, name or e-mail address; a resource's id or name.";
        let most = "Entries, at most; among event types, of those that the catalogue does not have.";
        vec![once("prefix", prefix, text(), json!("w")), once("limit", most, limit, json!(10))]
    }
}

/// Actors, those with the most events first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Actors {
    /// At most as many as asked for.
    pub actors: Vec<ActorCount>,
    /// Whether there are more.
    pub more: bool,
}

/// An actor, as events told of it last.
#[derive(Debug, Serialize, ToSchema)]
pub struct ActorCount {
    /// Kind of actor. Absent when several are asked for, and what was told last is none of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
    /// Its id: what `actor` asks for.
    pub id: String,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its e-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Its events.
    pub count: i64,
}

/// Resources, those with the most events first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Resources {
    /// At most as many as asked for.
    pub resources: Vec<ResourceCount>,
    /// Whether there are more.
    pub more: bool,
}

/// A resource, as events told of it last.
#[derive(Debug, Serialize, ToSchema)]
pub struct ResourceCount {
    /// Kind of resource. Absent when several are asked for, and what was told last is none of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
    /// Its id: what `resource` asks for.
    pub id: String,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Events about it.
    pub count: i64,
}

/// All types of the catalogue by area, and others that events have. Parameters: those of [`Filter`], `prefix`, and `limit` for the
/// others.
#[utoipa::path(
    get, path = "/v1/event-types", tag = openapi::READING,
    summary = "Types of events",
    description = "All types of the catalogue by area, with the number of events that match, and others that events have. Not recorded in the trail.",
    params(openapi::parameters::FilterParameters, ListParameters),
    responses((status = 200, description = "The types.", body = EventTypes), openapi::answers::Reading)
)]
pub async fn list_event_types(
    State(app): State<App>,
    headers: HeaderMap,
    Query(pairs): Pairs,
) -> Result<Json<EventTypes>, Problem> {
    access::authorize(&app, &headers, Verb::Read).await?;
    let catalogue = app.catalogue();
    let parts = Parts::parse(pairs, &catalogue)?;
    let _turn = app.read_turn().await?;
    let store = app.store().await?;
    let window = store.window(&parts.filter).await?.sequences;
    let tally = store.survey(Counted::Type, &parts.filter, &window).await?.count(parts.prefix.as_ref()).await?;
    Ok(Json(EventTypes::of(&catalogue, parts.prefix.as_ref(), tally, parts.limit)))
}

/// The actors of events. Parameters: those of [`Filter`], `prefix` (of id, name or e-mail address) and `limit`.
#[utoipa::path(
    get, path = "/v1/actors", tag = openapi::READING,
    summary = "Actors",
    description = "The actors of the events that match, those with the most events first. Not recorded in the trail.",
    params(openapi::parameters::FilterParameters, ListParameters),
    responses((status = 200, description = "The actors.", body = Actors), openapi::answers::Reading)
)]
pub async fn list_actors(
    State(app): State<App>,
    headers: HeaderMap,
    Query(pairs): Pairs,
) -> Result<Json<Actors>, Problem> {
    access::authorize(&app, &headers, Verb::Read).await?;
    let parts = Parts::parse(pairs, &app.catalogue())?;
    let (top, more) = top(&app, Counted::Actor, &parts).await?;
    let asked: Vec<&str> = parts.filter.actor_types.iter().copied().map(ActorType::as_str).collect();
    let actor = |(id, count, who): (String, i64, Who)| ActorCount {
        r#type: kind(who.kind, &asked),
        id,
        name: who.name,
        email: who.email,
        count,
    };
    Ok(Json(Actors { actors: top.into_iter().map(actor).collect(), more }))
}

/// The resources of events. Parameters: those of [`Filter`], `prefix` (of id or name) and `limit`.
#[utoipa::path(
    get, path = "/v1/resources", tag = openapi::READING,
    summary = "Resources",
    description = "The resources of the events that match, those with the most events first. Not recorded in the trail.",
    params(openapi::parameters::FilterParameters, ListParameters),
    responses((status = 200, description = "The resources.", body = Resources), openapi::answers::Reading)
)]
pub async fn list_resources(
    State(app): State<App>,
    headers: HeaderMap,
    Query(pairs): Pairs,
) -> Result<Json<Resources>, Problem> {
    access::authorize(&app, &headers, Verb::Read).await?;
    let parts = Parts::parse(pairs, &app.catalogue())?;
    let (top, more) = top(&app, Counted::Resource, &parts).await?;
    let asked: Vec<&str> = parts.filter.resource_types.iter().map(String::as_str).collect();
    let resource = |(id, count, who): (String, i64, Who)| ResourceCount {
        r#type: kind(who.kind, &asked),
        id,
        name: who.name,
        count,
    };
    Ok(Json(Resources { resources: top.into_iter().map(resource).collect(), more }))
}

impl Parts {
    fn parse(pairs: Vec<(String, String)>, catalogue: &Catalogue) -> Result<Self, Problem> {
        let mut parameters = Parameters::new(pairs);
        let parts = Self {
            filter: Filter::take(&mut parameters, catalogue),
            prefix: Prefix::take(&mut parameters),
            limit: usize::try_from(parameters.number("limit", &LIMITS).unwrap_or(LIMIT_DEFAULT)).unwrap_or_default(),
        };
        parameters.finish().map(|()| parts)
    }
}

/// What has the most events, and who or what that is; and whether there are more.
async fn top(app: &App, of: Counted, parts: &Parts) -> Result<(Vec<(String, i64, Who)>, bool), Problem> {
    let _turn = app.read_turn().await?;
    let store = app.store().await?;
    let window = store.window(&parts.filter).await?.sequences;
    let survey = store.survey(of, &parts.filter, &window).await?;
    let (top, more) = survey.count(parts.prefix.as_ref()).await?.into_top(parts.limit);
    let ids: Vec<String> = top.iter().map(|(id, _)| id.clone()).collect();
    let mut known = survey.describe(&ids).await?;
    let described = top.into_iter().map(|(id, count)| {
        let who = known.remove(&id).unwrap_or_default();
        (id, count, who)
    });
    Ok((described.collect(), more))
}

/// What is told of an id is its newest kind, while events of another may have been asked for.
fn kind(newest: Option<String>, asked: &[&str]) -> Option<String> {
    match asked {
        [] => newest,
        [only] => Some((*only).to_owned()),
        several => newest.filter(|newest| several.contains(&newest.as_str())),
    }
}

impl From<CountError> for Problem {
    fn from(error: CountError) -> Self {
        match error {
            CountError::Read(error) => error.into(),
            CountError::TooManyValues => {
                tracing::warn!(%error, "a list of counts is too long");
                let hint = "there are too many different values: ask for less, with prefix, or with from and to";
                Self::unavailable(RETRY_AFTER_SECONDS, hint)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &[(&str, &str)]) -> Result<Parts, String> {
        let pairs = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Parts::parse(pairs, &Catalogue::default()).map_err(|problem| problem.detail().to_owned())
    }

    #[test]
    fn a_list_has_a_hundred_entries_unless_asked_otherwise() {
        assert_eq!(parse(&[]).expect("valid").limit, 100);
        assert_eq!(parse(&[("limit", "1")]).expect("valid").limit, 1);
        assert_eq!(parse(&[("limit", "1000")]).expect("valid").limit, 1000);
        assert_eq!(parse(&[("limit", "1001")]), Err("limit must be a number from 1 to 1000".to_owned()));
        assert_eq!(parse(&[("limit", "0")]), Err("limit must be a number from 1 to 1000".to_owned()));
    }

    #[test]
    fn the_known_parameters_are_listed_to_who_sends_another() {
        assert_eq!(
            parse(&[("cursor", "x")]),
            Err("cursor is unknown here: known are type, area, actor, actorType, resource, resourceType, \
                 outcome, submittedBy, from, to, q, prefix, limit"
                .to_owned())
        );
    }

    #[test]
    fn a_bad_prefix_is_named() {
        assert_eq!(parse(&[("prefix", "")]), Err("prefix must not be empty".to_owned()));
        assert_eq!(parse(&[("prefix", "a"), ("prefix", "b")]), Err("prefix may be given once".to_owned()));
    }

    #[test]
    fn the_kind_that_was_asked_for_is_told() {
        let newest = || Some("user".to_owned());
        assert_eq!(kind(newest(), &[]), newest());
        assert_eq!(kind(newest(), &["accessToken"]).as_deref(), Some("accessToken"));
        assert_eq!(kind(newest(), &["system", "user"]), newest());
        assert_eq!(kind(newest(), &["system", "accessToken"]), None);
    }
}
