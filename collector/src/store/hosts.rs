//! Which of the database's hosts is written to, and which connections are still good.
//!
//! sqlx's pool knows one host and no time-outs of its own, so both are added here: every connection is checked when it is
//! made, taken and given back, and whatever is odd about one wakes a search over all hosts. Each session is told which host
//! it was made for ([`HOST_SETTING`]): one that was begun before a search may be there only after it. Which host is chosen:
//! [`probe`].

mod probe;

use super::uri;
use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use probe::{CONNECT_TIMEOUT, Chosen, HOST_SETTING, Probe, choose, patience, probe, session};
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout, timeout_at};

/// How long a connection may take to say that it is good; half of what a request waits for one. A network that drops
/// packets ends no connection by itself, TCP's own time-out is a quarter of an hour, and sqlx cannot shorten it.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause between two searches.
const SEARCH_PAUSE: Duration = Duration::from_millis(250);

/// The hosts of one pool.
#[derive(Debug)]
pub(super) struct Hosts {
    all: Vec<PgConnectOptions>,
    chosen: Mutex<Chosen>,
    /// Somebody has a reason to look for the primary.
    suspected: Notify,
    /// While several hosts are searched no connection is handed out: an old primary may answer before the new one.
    searching: watch::Sender<bool>,
    /// When connections were last given up as a whole: what was made before is closed.
    lost: watch::Sender<Option<Instant>>,
    /// When a connection last failed to answer: what has been idle since before is closed unasked.
    silence: Mutex<Option<Instant>>,
}

impl Hosts {
    pub(super) fn new(all: Vec<PgConnectOptions>) -> Self {
        let told = |(index, host): (usize, PgConnectOptions)| host.options([(HOST_SETTING, index)]);
        let hosts = Self {
            all: all.into_iter().enumerate().map(told).collect(),
            chosen: Mutex::default(),
            suspected: Notify::new(),
            searching: watch::Sender::new(false),
            lost: watch::Sender::new(None),
            silence: Mutex::new(None),
        };
        // The first in the list may be a standby.
        hosts.suspect();
        hosts
    }

    fn chosen(&self) -> Chosen {
        *self.chosen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How to connect to the host in use.
    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.all[self.chosen().index]
    }

    /// Asks for a search: something about the host in use is odd.
    pub(super) fn suspect(&self) {
        self.searching.send_replace(self.all.len() > 1);
        self.suspected.notify_one();
    }

    /// Waits until it is known which host takes writes. True when it was known.
    async fn settled(&self) -> bool {
        if !*self.searching.borrow() {
            return true;
        }
        // The sender lives as long as we do.
        let mut searching = self.searching.subscribe();
        let _settled = searching.wait_for(|searching| !searching).await.is_ok();
        false
    }

    /// Completes when what is under way on a connection should be given up: its host is gone, or no longer the primary.
    pub(super) async fn lost(&self) -> sqlx::Error {
        // The sender lives as long as we do.
        let _changed = self.lost.subscribe().changed().await;
        odd("the host of the database is gone, or no longer the primary")
    }

    /// Sets the checks of a pool's connections.
    pub(super) fn checking(self: &Arc<Self>, options: PgPoolOptions) -> PgPoolOptions {
        let [made, taken, given_back] = [Arc::clone(self), Arc::clone(self), Arc::clone(self)];
        options
            // Ours has a time-out.
            .test_before_acquire(false)
            .after_connect(move |connection, _| {
                let hosts = Arc::clone(&made);
                Box::pin(async move {
                    if !hosts.settled().await {
                        return Err(odd("the connection was made before it was known which host takes writes"));
                    }
                    hosts.check_writable(connection).await
                })
            })
            .before_acquire(move |connection, seen| {
                let hosts = Arc::clone(&taken);
                Box::pin(async move {
                    hosts.settled().await;
                    hosts.require_trusted(seen.age, Some(seen.idle_for))?;
                    hosts.check_writable(connection).await.map(|()| true)
                })
            })
            // Here come connections whose statement failed or was given up: without a time-out they would keep their
            // place in the pool for as long as TCP tries.
            .after_release(move |connection, seen| {
                let hosts = Arc::clone(&given_back);
                Box::pin(async move {
                    hosts.require_trusted(seen.age, None)?;
                    // No silence: the server may be busy with a statement that was given up, and others do not suffer for it.
                    let answered = timeout(CHECK_TIMEOUT, connection.ping()).await;
                    answered.unwrap_or_else(unanswered).inspect_err(|_| hosts.suspect()).map(|()| true)
                })
            })
    }

    /// A checked connection that is not the pool's.
    pub(super) async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let silent = |_| sqlx::Error::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
        let connected = timeout(CONNECT_TIMEOUT, async {
            self.settled().await;
            PgConnection::connect_with(self.options()).await
        });
        let mut connection = connected.await.map_err(silent).flatten().inspect_err(|_| self.suspect())?;
        self.check_writable(&mut connection).await?;
        Ok(connection)
    }

    /// Whether no host was lost since, and none is searched.
    pub(super) fn trusts(&self, since: Instant) -> bool {
        !*self.searching.borrow() && self.lost.borrow().is_none_or(|lost| lost < since)
    }

    /// Refuses a connection that was made before its host was lost, or idle while another fell silent.
    fn require_trusted(&self, age: Duration, idle: Option<Duration>) -> Result<(), sqlx::Error> {
        let lost = *self.lost.borrow();
        let silence = *self.silence.lock().unwrap_or_else(PoisonError::into_inner);
        let before = |since: Option<Instant>, age: Duration| since.is_some_and(|since| age > since.elapsed());
        if before(lost, age) || idle.is_some_and(|idle| before(silence, idle)) {
            return Err(odd("the connection is from before the database was lost"));
        }
        Ok(())
    }

    /// One round trip: the connection is alive, and its session takes writes on the host in use, statement by statement.
    async fn check_writable(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let session = self.answered(timeout(CHECK_TIMEOUT, session(connection)).await)?;
        if !session.writable {
            self.suspect();
            return Err(odd("the server is a standby or read-only, and the collector writes"));
        }
        if session.host.is_some_and(|host| host != self.chosen().index) {
            return Err(odd("the connection is to a host that is no longer in use"));
        }
        if session.in_transaction {
            return Err(odd("the connection is within a transaction whose begin was given up"));
        }
        Ok(())
    }

    /// Notes what a connection did not answer.
    fn answered<T>(&self, outcome: Result<Result<T, sqlx::Error>, Elapsed>) -> Result<T, sqlx::Error> {
        let outcome = outcome.unwrap_or_else(|elapsed| {
            *self.silence.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            unanswered(elapsed)
        });
        outcome.inspect_err(|_| self.suspect())
    }

    /// Sends the pool to the host that takes writes, whenever there is a reason to look. Never ends.
    pub(super) async fn follow(self: Arc<Self>, pool: PgPool) {
        loop {
            self.suspected.notified().await;
            let mut all_failed = false;
            while let Err(why) = self.search(&pool).await {
                if !all_failed {
                    tracing::warn!(why, "no host of the database takes writes; they are asked again and again");
                }
                all_failed = true;
                sleep(SEARCH_PAUSE).await;
            }
            self.searching.send_replace(false);
            if all_failed {
                tracing::info!(host = uri::name(self.options()), "the database takes writes again");
            }
            sleep(SEARCH_PAUSE).await;
        }
    }

    /// Asks all hosts and goes to the one that takes writes. The error says what each host said.
    async fn search(&self, pool: &PgPool) -> Result<(), String> {
        let chosen = self.chosen();
        let probes = self.probe_until_sure(chosen).await;
        let Some((next, history)) = choose(chosen.index, &probes) else {
            let left =
                matches!(probes[chosen.index], Some(Probe::Silent(_) | Probe::ReadOnly | Probe::OldPrimary(_)) | None);
            if left {
                self.lose();
            }
            return Err(self.describe(&probes));
        };
        let moved = next != chosen.index;
        let was_silent = self.silence.lock().unwrap_or_else(PoisonError::into_inner).take().is_some();
        let history = (self.all.len() > 1).then_some(history);
        *self.chosen.lock().unwrap_or_else(PoisonError::into_inner) = Chosen { index: next, history };
        if moved {
            tracing::warn!(host = uri::name(&self.all[next]), "this host of the database takes the writes from now on");
            pool.set_connect_options(self.all[next].clone());
        }
        // A new connection was answered and an old one was not: a firewall on the way has forgotten those.
        if moved || was_silent {
            self.lose();
        }
        Ok(())
    }

    fn lose(&self) {
        self.lost.send_replace(Some(Instant::now()));
    }

    /// What the hosts said until it is clear which one takes writes.
    async fn probe_until_sure(&self, chosen: Chosen) -> Vec<Option<Probe>> {
        let mut probes: Vec<Option<Probe>> = self.all.iter().map(|_| None).collect();
        let mut asked: FuturesUnordered<_> = self
            .all
            .iter()
            .enumerate()
            .map(|(index, host)| async move { (index, probe(host, CONNECT_TIMEOUT).await) })
            .collect();
        let mut until = tokio::time::Instant::now() + CONNECT_TIMEOUT;
        let mut one_is_writable = false;
        while let Ok(Some((index, probe))) = timeout_at(until, asked.next()).await {
            let probe = chosen.judge(probe);
            let wait = tokio::time::Instant::now() + patience(chosen, index, &probe);
            if matches!(probe, Probe::Writable(_)) {
                (one_is_writable, until) = (true, wait);
            } else if !one_is_writable {
                until = until.min(wait);
            }
            probes[index] = Some(probe);
        }
        probes
    }

    /// Why nothing can be written, host by host; none when a host takes writes.
    pub(super) async fn trouble(&self, limit: Duration) -> Option<String> {
        let chosen = self.chosen();
        let probes = join_all(self.all.iter().map(|host| probe(host, limit))).await;
        let probes: Vec<_> = probes.into_iter().map(|probe| Some(chosen.judge(probe))).collect();
        choose(chosen.index, &probes).is_none().then(|| self.describe(&probes))
    }

    fn describe(&self, probes: &[Option<Probe>]) -> String {
        let said = |(host, probe): (&PgConnectOptions, &Option<Probe>)| {
            let said = match probe {
                Some(Probe::Writable(_)) => "takes writes".to_owned(),
                Some(Probe::OldPrimary(history)) => {
                    format!("is an old primary on timeline {}, and another was promoted since", history.timeline)
                }
                Some(Probe::ReadOnly) => "is a standby or read-only".to_owned(),
                Some(Probe::Refused(error)) => error.to_string(),
                Some(Probe::Silent(why)) => why.clone(),
                None => "does not answer".to_owned(),
            };
            format!("{}: {said}", uri::name(host))
        };
        self.all.iter().zip(probes).map(said).collect::<Vec<_>>().join("; ")
    }
}

fn unanswered<T>(_: Elapsed) -> Result<T, sqlx::Error> {
    Err(odd("the connection does not answer"))
}

/// An error of ours in sqlx's type, which is what its hooks return.
fn odd(what: &'static str) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::other(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(uri: &str) -> Hosts {
        Hosts::new(uri::parse(uri).expect("valid"))
    }

    #[test]
    fn connections_from_before_the_loss_are_closed() {
        let hosts = hosts("postgresql://db/log");
        let young = Duration::ZERO;
        let old = Duration::from_mins(1);
        assert!(hosts.require_trusted(old, Some(old)).is_ok());
        hosts.lose();
        assert!(hosts.require_trusted(old, None).is_err());
        assert!(hosts.require_trusted(young, None).is_ok());
    }

    #[test]
    fn after_a_silence_only_what_was_idle_is_closed() {
        let hosts = hosts("postgresql://db/log");
        let old = Duration::from_mins(1);
        *hosts.silence.lock().expect("nobody panicked") = Some(Instant::now());
        assert!(hosts.require_trusted(old, Some(old)).is_err());
        assert!(hosts.require_trusted(old, Some(Duration::ZERO)).is_ok());
        assert!(hosts.require_trusted(old, None).is_ok());
    }

    #[tokio::test]
    async fn trouble_names_each_host_and_no_password() {
        // Nobody listens on the ports 1 and 2.
        let hosts = hosts("postgresql://u:secret@127.0.0.1:1,127.0.0.1:2/log");
        let trouble = hosts.trouble(CHECK_TIMEOUT).await.expect("nobody is there");
        assert!(trouble.contains("127.0.0.1:1: ") && trouble.contains("127.0.0.1:2: "), "{trouble}");
        assert!(!trouble.contains("secret"), "{trouble}");
    }
}
