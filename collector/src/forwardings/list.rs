//! `GET /v1/forwardings`: how every forwarding of the trail is.

use super::words;
use crate::access::{self, Verb};
use crate::openapi;
use crate::problem::Problem;
use crate::query::parameters::Parameters;
use crate::server::App;
use crate::status;
use audittrail_crds::document::{Document, Forwarding};
use audittrail_crds::report;
use axum::Json;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use schemars::JsonSchema;
use serde::Serialize;

/// The forwardings of the trail.
#[derive(Debug, JsonSchema, Serialize)]
pub struct Forwardings {
    /// In the order of the configuration.
    pub forwardings: Vec<ForwardingStatus>,
}

/// How a forwarding is: what the status of its resource says.
#[derive(Debug, JsonSchema, Serialize)]
pub struct ForwardingStatus {
    /// The facts.
    #[serde(flatten)]
    pub facts: report::Forwarding,
    /// The toggle.
    pub enabled: bool,
    /// The same in words: what is wrong, and what to do about it.
    pub message: String,
}

/// The forwardings, from the same facts as the report of `GET /v1/status`. Not recorded: no event is shown. Problem: 503 while
/// the database is away, which holds the facts.
#[utoipa::path(
    get, path = "/v1/forwardings", tag = openapi::FORWARDING,
    summary = "How forwardings are",
    description = "Each forwarding of the trail, in the order of the configuration. Not recorded in the trail.",
    responses(
        (status = 200, description = "The forwardings.", body = ref("#/components/schemas/Forwardings")),
        openapi::answers::Reading
    )
)]
pub async fn list_forwardings(
    State(app): State<App>,
    headers: HeaderMap,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Forwardings>, Problem> {
    access::authorize(&app, &headers, Verb::Read).await?;
    Parameters::new(pairs).finish()?;
    let facts = {
        let _turn = app.read_turn().await?;
        app.store().await?.forwarding_facts().await?
    };
    Ok(Json(forwardings(&app.document(), facts)))
}

fn forwardings(document: &Document, facts: Vec<report::Forwarding>) -> Forwardings {
    let shown = |(entry, facts): (&Forwarding, report::Forwarding)| ForwardingStatus {
        enabled: entry.is_wanted(),
        message: words::message(&facts),
        facts,
    };
    let facts = status::forwardings(document, facts);
    Forwardings { forwardings: document.forwardings.iter().zip(facts).map(shown).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::tests::document;
    use audittrail_crds::document::Sensitive;
    use serde_json::json;

    #[test]
    fn facts_toggle_and_words_stand_side_by_side_and_nothing_of_the_configuration_does() {
        let entry = |name: &str, enabled| {
            let entry = Forwarding::new(name, "https://segment.example", Sensitive::new("secret"));
            Forwarding { enabled, ..entry }
        };
        let document = Document { forwardings: vec![entry("on", true), entry("off", false)], ..document(1) };
        let accepting = report::Forwarding {
            name: "on".to_owned(),
            state: report::State::Accepting,
            delivered: 7,
            filtered: 2,
            parked: 1,
            ..report::Forwarding::default()
        };
        let shown = serde_json::to_value(forwardings(&document, vec![accepting])).expect("JSON");
        assert_eq!(
            shown,
            json!({"forwardings": [
                {
                    "name": "on", "generation": 0, "state": "Accepting", "delivered": 7, "filtered": 2, "parked": 1,
                    "lagEvents": 0, "lagSeconds": 0, "enabled": true, "message": "the source accepts",
                },
                {
                    "name": "off", "generation": 0, "state": "Disabled", "delivered": 0, "filtered": 0, "parked": 0,
                    "lagEvents": 0, "lagSeconds": 0, "enabled": false,
                    "message": "Off: nothing is sent, and its place in the trail is kept. No event waits",
                },
            ]})
        );
    }
}
