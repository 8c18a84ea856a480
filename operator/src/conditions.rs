//! Conditions, by the Kubernetes API conventions ("Typical status properties"). Pure.

use audittrail_crds::condition::{Reason, Type};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Longest message that is written, in characters: an API server's refusal may quote a whole object.
const MESSAGE_MAX_CHARS: usize = 1000;

/// Status of a condition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nothing is known.
    Unknown,
}

/// What is to be said of one thing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// The condition's type.
    pub type_: Type,
    /// The condition's status.
    pub status: Status,
    /// Why.
    pub reason: Reason,
    /// Why, in words, and what to do.
    pub message: String,
}

impl Verdict {
    /// A verdict.
    pub fn new(type_: Type, status: Status, reason: Reason, message: impl Into<String>) -> Self {
        Self { type_, status, reason, message: message.into() }
    }

    /// What `previous` said of `type_`, once more; `None` where it said nothing that is known here.
    pub fn again(previous: &[Condition], type_: Type) -> Option<Self> {
        let said = find(previous, type_)?;
        let status = [Status::True, Status::False, Status::Unknown];
        let status = status.into_iter().find(|status| format!("{status:?}") == said.status)?;
        let reason = Reason::ALL.iter().find(|reason| reason.to_string() == said.reason)?;
        Some(Self::new(type_, status, *reason, said.message.clone()))
    }
}

/// What a resource that is not ready waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outlook {
    /// Nothing: it is ready.
    Settled,
    /// It gets there by itself.
    Underway,
    /// Somebody has to do something.
    NeedsHelp,
}

impl Outlook {
    /// What usually follows from a reason of `Ready=False`.
    pub fn of(reason: Reason) -> Self {
        match reason {
            Reason::Verified | Reason::SourceAccepts | Reason::Disabled | Reason::Resolved | Reason::AsExpected => {
                Self::Settled
            }
            Reason::StorageNotReady
            | Reason::CollectorNotReady
            | Reason::CollectorUnreachable
            | Reason::DatabaseUnreachable
            | Reason::ConfigurationPending
            | Reason::TrailNotReady
            | Reason::SourcePending
            | Reason::SourceNotCreated
            | Reason::SourceUnavailable => Self::Underway,
            Reason::WorkspaceNotUnique
            | Reason::SecretMissing
            | Reason::SecretInvalid
            | Reason::ConfigMapMissing
            | Reason::ConfigMapInvalid
            | Reason::ApplyFailed
            | Reason::ConfigurationTooLarge
            | Reason::DatabaseInUse
            | Reason::NotDurable
            | Reason::CatalogueInvalid
            | Reason::DatabaseRewound
            | Reason::DatabaseReplaced
            | Reason::ForwardingsBehind
            | Reason::TrailMissing
            | Reason::SourceRefusesKey
            | Reason::SourceRefusesRequest
            | Reason::SourceRefusesEvents
            | Reason::RefusedForGood
            | Reason::ForwardingLoop
            | Reason::FilterInvalid
            | Reason::TokenRefused
            | Reason::SourceRefused
            | Reason::SourceSwitchedOff => Self::NeedsHelp,
        }
    }
}

/// `Ready`, and with it `Reconciling` and `Stalled`.
pub fn summary(ready: Verdict, outlook: Outlook) -> Vec<Verdict> {
    let flag = |type_, raised: bool| {
        if raised {
            Verdict::new(type_, Status::True, ready.reason, ready.message.clone())
        } else {
            Verdict::new(type_, Status::False, Reason::AsExpected, "")
        }
    };
    let reconciling = flag(Type::Reconciling, outlook == Outlook::Underway);
    let stalled = flag(Type::Stalled, outlook == Outlook::NeedsHelp);
    vec![ready, reconciling, stalled]
}

/// Conditions as they are written: the time of transition moves only when the status does.
pub fn conditions(
    previous: &[Condition],
    verdicts: Vec<Verdict>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let condition = |verdict: Verdict| {
        let (type_, status) = (verdict.type_.to_string(), format!("{:?}", verdict.status));
        let before = previous.iter().find(|before| before.type_ == type_ && before.status == status);
        Condition {
            last_transition_time: before.map_or_else(|| Time(now), |before| before.last_transition_time.clone()),
            observed_generation: generation,
            reason: verdict.reason.to_string(),
            message: shortened(&verdict.message),
            type_,
            status,
        }
    };
    verdicts.into_iter().map(condition).collect()
}

/// The condition of this type.
pub fn find(conditions: &[Condition], type_: Type) -> Option<&Condition> {
    let name = type_.to_string();
    conditions.iter().find(|condition| condition.type_ == name)
}

/// Whether anything but words differs: a turn, which is written at once.
pub fn turned(before: &[Condition], after: &[Condition]) -> bool {
    let facts = |conditions: &[Condition]| -> Vec<(String, String, String, Option<i64>)> {
        let fact =
            |one: &Condition| (one.type_.clone(), one.status.clone(), one.reason.clone(), one.observed_generation);
        conditions.iter().map(fact).collect()
    };
    facts(before) != facts(after)
}

fn shortened(message: &str) -> String {
    match message.char_indices().nth(MESSAGE_MAX_CHARS) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn ready(status: Status, reason: Reason, message: &str) -> Vec<Verdict> {
        vec![Verdict::new(Type::Ready, status, reason, message)]
    }

    #[test]
    fn the_time_of_transition_moves_only_when_the_status_does() {
        let first = conditions(&[], ready(Status::False, Reason::CollectorNotReady, "a"), Some(1), at(1));
        let second = conditions(&first, ready(Status::False, Reason::DatabaseUnreachable, "b"), Some(2), at(2));
        let third = conditions(&second, ready(Status::True, Reason::Verified, "c"), Some(2), at(3));
        let times: Vec<i64> =
            [first, second, third].iter().map(|all| all[0].last_transition_time.0.as_second()).collect();
        assert_eq!(times, [1, 1, 3]);
    }

    #[test]
    fn every_reason_is_documented_with_what_to_do() {
        let page = include_str!("../../docs/conditions.md");
        let told = |reason: &Reason| {
            let row = page.lines().find(|line| line.starts_with(&format!("| `{reason}` |")));
            row.is_some_and(|row| row.split(" | ").count() == 3 && !row.contains("|  |"))
        };
        let missing: Vec<&Reason> = Reason::ALL.iter().filter(|reason| !told(reason)).collect();
        assert!(missing.is_empty(), "docs/conditions.md lacks {missing:?}");
    }

    #[test]
    fn other_words_are_no_turn_and_another_reason_is() {
        let first = conditions(&[], ready(Status::False, Reason::CollectorNotReady, "0 of 1"), Some(1), at(1));
        let words = conditions(&first, ready(Status::False, Reason::CollectorNotReady, "0 of 2"), Some(1), at(2));
        let reason = conditions(&first, ready(Status::False, Reason::DatabaseUnreachable, "0 of 1"), Some(1), at(2));
        assert!(!turned(&first, &words));
        assert!(turned(&first, &reason));
    }

    #[test]
    fn what_was_said_can_be_said_again_if_it_is_known_here() {
        let said = ready(Status::False, Reason::DatabaseRewound, "m");
        let mut written = conditions(&[], said.clone(), Some(1), at(1));
        assert_eq!(Verdict::again(&written, Type::Ready).as_slice(), said);
        assert_eq!(Verdict::again(&written, Type::Continuous), None);
        written[0].reason = "OfALaterVersion".to_owned();
        assert_eq!(Verdict::again(&written, Type::Ready), None);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let long = "ä".repeat(MESSAGE_MAX_CHARS + 1);
        assert_eq!(shortened(&long).chars().count(), MESSAGE_MAX_CHARS + 1);
        assert_eq!(shortened(&long[2..]), long[2..]);
    }

    #[test]
    fn at_most_one_of_reconciling_and_stalled_is_true() {
        for (outlook, expected) in [
            (Outlook::Settled, [Status::False, Status::False]),
            (Outlook::Underway, [Status::True, Status::False]),
            (Outlook::NeedsHelp, [Status::False, Status::True]),
        ] {
            let ready = Verdict::new(Type::Ready, Status::False, Reason::ApplyFailed, "m");
            let statuses: Vec<Status> = summary(ready, outlook)[1..].iter().map(|verdict| verdict.status).collect();
            assert_eq!(statuses, expected);
        }
    }
}
