//! `GET /v1/status`: how the trail is, tried for this very answer.

use crate::access::{self, Verb};
use crate::database::{self, State as Log};
use crate::openapi;
use crate::problem::Problem;
use crate::server::App;
use audittrail_crds::document::{self, Document};
use audittrail_crds::report::{self, Report};
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::timeout;

/// How long the database may take for a report; 2 s with [`database::CAUSE_TIMEOUT`]. The operator asks
/// every five seconds.
const DATABASE_TIMEOUT: Duration = Duration::from_millis(1500);

/// What the database says, all of it or nothing.
struct Facts {
    database: report::Database,
    log: report::Log,
    replicas: Vec<report::Replica>,
    forwardings: Vec<report::Forwarding>,
}

/// The state of the trail. Needs `get` on `audittrails/health`. 200 also when the database is away: that is
/// what the report tells.
#[utoipa::path(
    get, path = "/v1/status", tag = openapi::STATE,
    summary = "How the trail is",
    description = "Tried for this very answer: a row is written and read back. 200 also when the database is away, which is what the report tells.",
    responses(
        (status = 200, description = "The report.", body = ref("#/components/schemas/Report")),
        openapi::answers::Asking
    )
)]
pub async fn get_status(State(app): State<App>, headers: HeaderMap) -> Result<Json<Report>, Problem> {
    access::authorize(&app, &headers, Verb::Health).await?;
    let document = app.document();
    Ok(Json(report(&app, &document).await))
}

async fn report(app: &App, document: &Document) -> Report {
    let log = app.database.borrow().clone();
    let facts = match log {
        Log::InUse(claim) => Err(report::Database::InUse { claim }),
        Log::Opening(message) | Log::TooOld(message) => Err(report::Database::Unreachable { message }),
        Log::Open(_) => match timeout(DATABASE_TIMEOUT, facts(app, document)).await {
            Ok(facts) => facts.map_err(|error| report::Database::Unreachable { message: error.to_string() }),
            Err(_) => Err(report::Database::Unreachable { message: database::cause(&app.store).await }),
        },
    };
    let (database, log, replicas, forwardings) = match facts {
        Ok(facts) => (facts.database, Some(facts.log), facts.replicas, facts.forwardings),
        Err(database) => (database, None, Vec::new(), document.forwardings.iter().map(unknown).collect()),
    };
    Report {
        replica: app.replica.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generation: document.generation,
        database,
        log,
        replicas,
        forwardings,
    }
}

/// The heartbeat comes first: it must go through a COMMIT, whatever else is asked.
async fn facts(app: &App, document: &Document) -> Result<Facts, sqlx::Error> {
    let heartbeat = database::heartbeat(&app.store, &app.replica, document.generation).await?;
    let head = app.store.head().await?;
    Ok(Facts {
        database: report::Database::Verified { at: Time(heartbeat.at), durability: heartbeat.durability },
        log: report::Log {
            id: head.log_id.to_string(),
            epoch: head.epoch,
            next_sequence: head.next_sequence,
            first_sequence: app.store.oldest_sequence().await?,
            raised: app.store.raised().await?,
            retention_held: app.store.retention_held(document).await?,
            undelivered_dropped: app.store.undelivered_dropped().await?,
        },
        replicas: app.store.replicas().await?,
        forwardings: forwardings(document, app.store.forwarding_facts().await?),
    })
}

/// One for each forwarding of the document, with the facts that speak of this configuration.
pub(crate) fn forwardings(document: &Document, facts: Vec<report::Forwarding>) -> Vec<report::Forwarding> {
    let mut facts: HashMap<String, report::Forwarding> =
        facts.into_iter().map(|fact| (fact.name.clone(), fact)).collect();
    document
        .forwardings
        .iter()
        .map(|entry| facts.remove(&entry.name).map_or_else(|| unknown(entry), |fact| current(entry, fact)))
        .collect()
}

/// Facts of an older configuration say nothing of the source in this one; what was delivered stays
/// delivered. A newer one is known to another replica, and right.
fn current(entry: &document::Forwarding, fact: report::Forwarding) -> report::Forwarding {
    if fact.generation > entry.generation || (entry.enabled && fact.generation == entry.generation) {
        return fact;
    }
    report::Forwarding {
        state: state_without_facts(entry),
        last_error: None,
        last_error_code: None,
        retrying_since: None,
        configuration_hash: fact.configuration_hash.filter(|_| fact.generation == entry.generation),
        generation: entry.generation,
        ..fact
    }
}

fn unknown(entry: &document::Forwarding) -> report::Forwarding {
    report::Forwarding {
        name: entry.name.clone(),
        generation: entry.generation,
        state: state_without_facts(entry),
        ..report::Forwarding::default()
    }
}

fn state_without_facts(entry: &document::Forwarding) -> report::State {
    if entry.is_wanted() { report::State::Pending } else { report::State::Disabled }
}

#[cfg(test)]
mod tests {
    use super::*;
    use audittrail_crds::document::Sensitive;
    use report::State as Delivery;

    fn entry(generation: i64, enabled: bool) -> document::Forwarding {
        let entry = document::Forwarding::new("to-segment", "https://api.segment.io", Sensitive::new("key"));
        document::Forwarding { generation, enabled, ..entry }
    }

    fn fact(generation: i64, state: Delivery) -> report::Forwarding {
        report::Forwarding {
            last_error: Some("refused".to_owned()),
            delivered: 7,
            generation,
            state,
            ..unknown(&entry(1, true))
        }
    }

    fn state(entry: document::Forwarding, facts: Vec<report::Forwarding>) -> (Delivery, i64, i64) {
        let document = Document { forwardings: vec![entry], ..crate::document::tests::document(9) };
        let forwarding = forwardings(&document, facts).remove(0);
        (forwarding.state, forwarding.generation, forwarding.delivered)
    }

    #[test]
    fn facts_of_this_configuration_count() {
        assert_eq!(state(entry(5, true), vec![fact(5, Delivery::KeyRefused)]), (Delivery::KeyRefused, 5, 7));
    }

    #[test]
    fn facts_of_an_older_configuration_leave_the_state_open() {
        assert_eq!(state(entry(5, true), vec![fact(4, Delivery::KeyRefused)]), (Delivery::Pending, 5, 7));
    }

    #[test]
    fn a_newer_configuration_of_another_replica_is_right() {
        assert_eq!(state(entry(5, false), vec![fact(6, Delivery::Accepting)]), (Delivery::Accepting, 6, 7));
    }

    #[test]
    fn off_is_off_whatever_was_seen_before() {
        assert_eq!(state(entry(5, false), vec![fact(5, Delivery::Retrying)]), (Delivery::Disabled, 5, 7));
        assert_eq!(state(entry(5, false), Vec::new()), (Delivery::Disabled, 5, 0));
    }

    #[test]
    fn a_forwarding_that_nobody_has_tried_is_pending() {
        assert_eq!(state(entry(5, true), Vec::new()), (Delivery::Pending, 5, 0));
    }
}
