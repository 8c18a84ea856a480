//! A source that is not wanted any more: deleted where `deletionPolicy` says so. It hangs nothing: what cannot be deleted
//! within a minute is left, and an Event says which it is.

use super::answer::Failure;
use super::api::PublicApi;
use super::{known, secret, slug, tie, token};
use crate::api::status as api_status;
use crate::api::write::{self, Error};
use crate::board::Facts;
use crate::context::{Context, RECHECK};
use crate::forwarding::read::Inputs;
use crate::forwarding::trail_key;
use crate::forwarding::validate::CERTIFICATES_KEY;
use crate::secret_text::Text;
use audittrail_crds::{AuditForwarding, AuditForwardingStatus};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use kube::api::Api;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use std::time::Duration;
use tie::Tie;
use tokio::time::{Instant, timeout};

/// How long a deletion is tried, from the moment when it was asked for.
const GIVE_UP_AFTER: Duration = Duration::from_mins(1);

/// Shortest and longest pause between two tries; half of the time since the first lies between.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// The least that a try may take, also where the time is up: after a restart of the operator there is one more.
const TRY_LEAST: Duration = Duration::from_secs(5);

/// Reason of the Event.
const LEFT: &str = "SourceNotDeleted";

/// What follows a try.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Next {
    /// The source is gone.
    Done,
    /// The source stays; the words say why.
    GiveUp(String),
    /// Another try, after this.
    Again(Duration),
}

/// One round for a forwarding that is being deleted.
pub async fn clean_up(context: &Context, forwarding: &AuditForwarding) -> Result<Action, Error> {
    let api = Api::<AuditForwarding>::namespaced(context.client.clone(), &forwarding.namespace().unwrap_or_default());
    let live = write::read(&api, &forwarding.name_any()).await?.filter(|live| live.uid() == forwarding.uid());
    let Some(live) = live.filter(tie::is_tied) else { return Ok(forget(context, forwarding)) };
    let retained = live.spec.source.http_api.create.is_some() && tie::wanted(&live).is_none();
    if !retained {
        let deleted = live.metadata.deletion_timestamp.as_ref().map_or_else(Timestamp::now, |time| time.0);
        // A clock that is behind the API server's makes no deletion longer.
        let elapsed = Duration::try_from(Timestamp::now().duration_since(deleted)).unwrap_or_default();
        let needs = tie::wanted(&live).or_else(|| tie::present(&live));
        if let Some(pause) = step(context, &live, needs.as_ref(), elapsed).await {
            return Ok(Action::requeue(pause));
        }
    }
    tie::settle(&context.client, live, None).await?;
    Ok(forget(context, forwarding))
}

/// Deletes the source of a forwarding which asks for none any more, if it is tied to one, and if no collector sends to it.
/// Returns the forwarding as it is then, and when to come again.
pub async fn leave(context: &Context, inputs: &Inputs) -> Result<(AuditForwarding, Duration), Error> {
    let forwarding = inputs.forwarding.clone();
    if !tie::is_tied(&forwarding) {
        return Ok((forwarding, RECHECK));
    }
    let (uid, namespace) = (forwarding.uid().unwrap_or_default(), forwarding.namespace().unwrap_or_default());
    let secrets = Api::<Secret>::namespaced(context.client.clone(), &namespace);
    let secret = write::read(&secrets, &forwarding.created_key_secret()).await?;
    let key = secret::present(secret.as_ref());
    if inputs.trail_exists && in_use(&forwarding.name_any(), key, context.board.facts(&trail_key(&forwarding)).as_ref())
    {
        return Ok((forwarding, PAUSES.1));
    }
    let elapsed = context.sources.left_since(&uid, Instant::now()).elapsed();
    if let Some(pause) = step(context, &forwarding, tie::present(&forwarding).as_ref(), elapsed).await {
        return Ok((forwarding, pause));
    }
    write::delete_owned(&secrets, &forwarding.created_key_secret(), &uid).await?;
    let mut left = tie::settle(&context.client, forwarding, None).await?;
    if let Some(status) = left.status.take_if(|status| status.created_source.is_some()) {
        let status = AuditForwardingStatus { created_source: None, ..status };
        let api = Api::<AuditForwarding>::namespaced(context.client.clone(), &namespace);
        api_status::write(&api, &left.name_any(), &status).await?;
        left.status = Some(status);
    }
    context.sources.forget(&uid);
    Ok((left, RECHECK))
}

/// Whether a collector may send to the source with this `key` still. Segment answers 200 for one that is deleted, so what is
/// sent to it then would count as delivered.
fn in_use(name: &str, key: Option<&str>, facts: Option<&Facts>) -> bool {
    let Some(facts) = facts else { return true };
    let Some(applied) = &facts.applied else { return true };
    let document = &applied.document;
    if document.forwardings.iter().any(|one| one.name == name && Some(one.write_key.reveal()) == key) {
        return true;
    }
    let applied_by_all = match &facts.observation {
        Some(Ok(report)) => report.replicas.iter().all(|replica| replica.generation >= document.generation),
        _ => false,
    };
    !applied_by_all && applied.running.collector.ready > 0
}

fn forget(context: &Context, forwarding: &AuditForwarding) -> Action {
    context.sources.forget(&forwarding.uid().unwrap_or_default());
    context.failures.clear(&ObjectRef::from_obj(forwarding).erase());
    Action::await_change()
}

/// One try, this long after the first; the pause before another, if there is to be one.
async fn step(
    context: &Context,
    forwarding: &AuditForwarding,
    tie: Option<&Tie>,
    elapsed: Duration,
) -> Option<Duration> {
    let begun = Instant::now();
    let within = GIVE_UP_AFTER.saturating_sub(elapsed).max(TRY_LEAST);
    let late = || Err(Failure::unavailable(format!("no answer within {} s", within.as_secs())));
    let outcome = timeout(within, delete(context, forwarding, tie)).await.unwrap_or_else(|_| late());
    match next(outcome, elapsed + begun.elapsed()) {
        Next::Again(pause) => return Some(pause),
        Next::Done => tracing::info!(name = forwarding.name_any(), slug = slug(forwarding), "the source is deleted"),
        Next::GiveUp(words) => {
            let (slug, id) = (slug(forwarding), known(forwarding).unwrap_or("unknown"));
            let note = format!(
                "the source {slug} (id {id}) was not deleted, and stays in its workspace: delete it there ({words})"
            );
            context.warn(forwarding, LEFT, "Delete", &note).await;
        }
    }
    None
}

async fn delete(context: &Context, forwarding: &AuditForwarding, tie: Option<&Tie>) -> Result<(), Failure> {
    let tie = tie.ok_or_else(|| Failure::refused("what its deletion needs is not known any more"))?;
    let namespace = forwarding.namespace().unwrap_or_default();
    let secrets = Api::<Secret>::namespaced(context.client.clone(), &namespace);
    let secret = write::read(&secrets, &tie.token_secret_ref.name).await.map_err(|error| unread(&error))?;
    let token = token(secret.as_ref(), &tie.token_secret_ref).map_err(|error| Failure::refused(error.to_string()))?;
    let authorities = authorities(context, &namespace, tie).await?;
    let allowed = &context.settings.allowed_source_networks;
    let api = PublicApi::new(&tie.api_endpoint, token, authorities.as_deref(), allowed)?;
    api.remove(known(forwarding), &slug(forwarding)).await?;
    let kept = write::read(&secrets, &forwarding.created_key_secret()).await.map_err(|error| unread(&error))?;
    match secret::api(kept.as_ref()).filter(|made_with| *made_with != tie.api_endpoint) {
        Some(made_with) => Err(Failure::refused(format!("it was made with {made_with}, which is asked no more"))),
        None => Ok(()),
    }
}

async fn authorities(context: &Context, namespace: &str, tie: &Tie) -> Result<Option<String>, Failure> {
    let Some(reference) = &tie.ca_config_map_ref else { return Ok(None) };
    let config_maps = Api::<ConfigMap>::namespaced(context.client.clone(), namespace);
    let config_map = write::read(&config_maps, &reference.name).await.map_err(|error| unread(&error))?;
    let text = Text::of_config_map(config_map.as_ref(), &reference.name, reference.key_or(CERTIFICATES_KEY));
    text.map(|text| Some(text.public().to_owned())).map_err(|error| Failure::refused(error.to_string()))
}

/// What the API server does not tell now, it may tell later; what it refuses to tell, it does not.
fn unread(error: &Error) -> Failure {
    if error.needs_help() { Failure::refused(error.to_string()) } else { Failure::unavailable(error.to_string()) }
}

fn next(outcome: Result<(), Failure>, elapsed: Duration) -> Next {
    let left = GIVE_UP_AFTER.saturating_sub(elapsed);
    match outcome {
        Ok(()) => Next::Done,
        Err(Failure::Unavailable { after, .. }) if !left.is_zero() => {
            let pause = (elapsed / 2).clamp(PAUSES.0, PAUSES.1).max(after.unwrap_or_default());
            // The last try is when the time is up.
            Next::Again(pause.min(left))
        }
        Err(failure) => Next::GiveUp(failure.words().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use audittrail_crds::document::{Forwarding, Sensitive};
    use std::sync::Arc;

    fn later(after: Option<u64>) -> Result<(), Failure> {
        Err(Failure::Unavailable { words: "no answer".to_owned(), after: after.map(Duration::from_secs) })
    }

    fn at(outcome: Result<(), Failure>, seconds: u64) -> Next {
        next(outcome, Duration::from_secs(seconds))
    }

    fn again(seconds: u64) -> Next {
        Next::Again(Duration::from_secs(seconds))
    }

    #[test]
    fn a_source_that_is_gone_needs_no_second_try() {
        assert_eq!(at(Ok(()), 0), Next::Done);
        assert_eq!(at(Ok(()), 3600), Next::Done);
    }

    #[test]
    fn a_refusal_is_the_end_at_once() {
        let refused = Failure::Token { words: "it answered 401".to_owned() };
        assert_eq!(at(Err(refused), 0), Next::GiveUp("it answered 401".to_owned()));
        assert_eq!(at(Err(Failure::refused("no token")), 0), Next::GiveUp("no token".to_owned()));
    }

    #[test]
    fn what_may_pass_is_tried_for_a_minute_and_not_longer() {
        assert_eq!(at(later(None), 0), again(1));
        assert_eq!(at(later(None), 4), again(2));
        assert_eq!(at(later(None), 30), again(10));
        assert_eq!(at(later(None), 55), again(5));
        assert_eq!(at(later(None), 59), again(1));
        assert_eq!(at(later(None), 60), Next::GiveUp("no answer".to_owned()));
    }

    #[test]
    fn a_wait_that_is_asked_for_ends_with_the_minute() {
        assert_eq!(at(later(Some(20)), 0), again(20));
        assert_eq!(at(later(Some(300)), 10), again(50));
    }

    fn facts(generation: i64, key: &str) -> Facts {
        let mut facts = crate::testing::facts();
        let mut applied = facts.applied.as_deref().expect("applied").clone();
        applied.document.generation = generation;
        let entry = Forwarding::new("to-source", "https://source.example", Sensitive::new(key));
        applied.document.forwardings = vec![entry];
        facts.applied = Some(Arc::new(applied));
        facts
    }

    #[test]
    fn a_source_is_in_use_until_every_collector_has_let_go_of_it() {
        let in_use = |facts: Option<&Facts>| in_use("to-source", Some("key"), facts);
        // The report is of generation 100.
        assert!(!in_use(Some(&facts(100, "named"))));
        assert!(in_use(Some(&facts(101, "named"))));
        assert!(in_use(Some(&facts(100, "key"))));
        // Nothing is known yet: this process has just started.
        assert!(in_use(None));
        assert!(in_use(Some(&Facts { applied: None, ..facts(100, "named") })));
        let mut silent = Facts { observation: None, ..facts(100, "named") };
        assert!(in_use(Some(&silent)));
        let mut applied = silent.applied.as_deref().expect("applied").clone();
        applied.running.collector.ready = 0;
        silent.applied = Some(Arc::new(applied));
        assert!(!in_use(Some(&silent)));
    }

    #[test]
    fn tries_in_a_row_are_few() {
        let (mut elapsed, mut tries) = (Duration::ZERO, 1);
        while let Next::Again(pause) = next(later(None), elapsed) {
            assert!(!pause.is_zero());
            elapsed += pause;
            tries += 1;
        }
        assert_eq!((elapsed, tries), (GIVE_UP_AFTER, 13));
    }
}
