//! Sends batches to one source, and says of each attempt what came of it.
//!
//! | module | what |
//! |---|---|
//! | `target` | the URL, the key, whom to trust; one request |
//! | `connections` | which connections are used, and for how long |
//! | `addresses` | which addresses are connected to |
//! | `answer` | reads an answer and tells what it says |
//! | `presentable` | an error as people see it: short, and without the key |

mod addresses;
mod answer;
mod connections;
mod presentable;
mod target;

use super::encode::{self, Item};
use super::verdict::{self, Answer, Verdict};
use addresses::RefusedAddress;
use answer::{AnswerError, Answered, words};
use audittrail_crds::document::{Forwarding, Sensitive};
use audittrail_crds::report::State;
use connections::REQUEST_TIMEOUT;
use ipnet::IpNet;
use jiff::Timestamp;
use presentable::presentable;
use std::error::Error;
use std::iter::successors;
use std::sync::atomic::{AtomicU32, Ordering};
use target::{Target, TargetError};

/// Longest text of an error, in characters.
pub const ERROR_MAX_CHARS: usize = 300;

/// Sends to one source with one key, one request at a time.
pub struct Sender {
    write_key: Sensitive,
    target: Result<Target, TargetError>,
    /// Attempts in a row that are worth another one.
    retries: AtomicU32,
}

/// Why nothing was delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What follows.
    pub verdict: Verdict,
    /// Status code of the answer, where there was one.
    pub code: Option<u16>,
    /// What happened, for people: one line of at most [`ERROR_MAX_CHARS`] characters, without secrets.
    pub error: String,
}

impl Fault {
    /// How delivery stands with this fault.
    pub fn state(&self) -> State {
        match self.verdict {
            Verdict::Done => State::Accepting,
            Verdict::Retry { .. } => State::Retrying,
            Verdict::KeyRefused => State::KeyRefused,
            Verdict::EndpointRefused => State::EndpointRefused,
            Verdict::TooLarge | Verdict::Refused => State::EventRefused,
            Verdict::Loop => State::Loop,
        }
    }
}

impl Sender {
    /// A sender to the source of `entry`, which may be in the networks `allowed` whatever their addresses are. An entry
    /// that nothing can be sent to makes one whose every attempt ends with a fault that says so.
    pub fn new(entry: &Forwarding, allowed: &[IpNet]) -> Self {
        Self { write_key: entry.write_key.clone(), target: Target::new(entry, allowed), retries: AtomicU32::new(0) }
    }

    /// Sends a batch, once.
    pub async fn batch(&self, items: &[Item], now: Timestamp) -> Result<(), Fault> {
        let outcome = self.post(items, now, verdict::batch, self.retries.load(Ordering::Relaxed)).await;
        match &outcome {
            Err(Fault { verdict: Verdict::Retry { .. }, .. }) => {
                self.retries.fetch_add(1, Ordering::Relaxed);
            }
            _ => self.retries.store(0, Ordering::Relaxed),
        }
        outcome
    }

    /// Sends an empty batch, to see whether the source is there and takes the key.
    pub async fn probe(&self, now: Timestamp) -> Result<(), Fault> {
        self.post(&[], now, verdict::probe, 0).await
    }

    async fn post(
        &self,
        items: &[Item],
        now: Timestamp,
        verdict: fn(Answer<'_>, Timestamp) -> Verdict,
        retries: u32,
    ) -> Result<(), Fault> {
        let target =
            self.target.as_ref().map_err(|error| self.fault(Verdict::EndpointRefused, None, &error.to_string()))?;
        let body = encode::body(items, self.write_key.reveal(), now);
        let answered = target.post(body, retries).await.map_err(|error| self.unanswered(&error))?;
        let Answered { status, retry_after, body } = &answered;
        match verdict(Answer { status: *status, retry_after: retry_after.as_deref(), body }, now) {
            Verdict::Done => Ok(()),
            verdict => {
                let text = format!("the source answered {status}: {}", words(body).trim());
                Err(self.fault(verdict, Some(*status), text.trim_end_matches([':', ' '])))
            }
        }
    }

    /// An address that is refused is a fault of the configuration. It may be mended by the configuration or by the name,
    /// which is looked up anew with each attempt.
    fn unanswered(&self, error: &AnswerError) -> Fault {
        let refused = causes(error).find_map(<dyn Error>::downcast_ref::<RefusedAddress>);
        if let Some(refused) = refused {
            return self.fault(Verdict::EndpointRefused, None, &refused.to_string());
        }
        let text = format!("no answer from the source: {}", in_full(error));
        self.fault(Verdict::Retry { after: None }, None, &text)
    }

    fn fault(&self, verdict: Verdict, code: Option<u16>, error: &str) -> Fault {
        Fault { verdict, code, error: presentable(error, self.write_key.reveal()) }
    }
}

/// The causes of an error, without itself.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(error.source(), |&error| error.source())
}

/// An error with all its causes. Those of `reqwest` are told without the URL, which is in the resource already.
fn in_full(error: &AnswerError) -> String {
    let text = match error {
        AnswerError::Http(error) if error.is_timeout() && !error.is_connect() => {
            format!("it took longer than {} s", REQUEST_TIMEOUT.as_secs())
        }
        AnswerError::Http(_) => String::new(),
        AnswerError::TooLarge => error.to_string(),
    };
    causes(error).map(ToString::to_string).fold(text, |text, words| match () {
        () if text.contains(&words) => text,
        () if text.is_empty() => words,
        () => format!("{text}: {words}"),
    })
}

#[cfg(test)]
mod tests;
