//! Which of the database's hosts is written to, and which connections are still good.
//!
//! sqlx's pool knows one host and no time-outs of its own, so both are added here: every connection is checked when it is
//! made, taken and given back, and whatever is odd about one wakes a search over all hosts. Each session is told which host
//! it was made for ([`HOST_SETTING`]): one that was begun before a search may be there only after it. Only a host that takes writes is
//! ever chosen; of several, the one with the highest timeline, since a promotion starts a new one. What is below the timeline that
//! was followed is an old primary, and is not used even where nobody else answers.

use super::uri;
use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{Connection, Row};
use std::cmp::Reverse;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout, timeout_at};

/// How long a host may take to let us in. A machine that is gone answers nothing, and all hosts are asked at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may take to say that it is good; half of what a request waits for one. A network that drops
/// packets ends no connection by itself, TCP's own time-out is a quarter of an hour, and sqlx cannot shorten it.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause between two searches.
const SEARCH_PAUSE: Duration = Duration::from_millis(250);

/// How long the other hosts are waited for after one has answered as it did before, or does not take writes.
const SEARCH_GRACE: Duration = Duration::from_secs(1);

/// Setting of a session: place of its host in the connection URI. A pooler in between may drop it.
const HOST_SETTING: &str = "audittrail.host";

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

/// The host in use.
#[derive(Clone, Copy, Debug, Default)]
struct Chosen {
    index: usize,
    /// What it wrote. None before the first search, and where it is the only host: there is nothing else to wait for, whatever it
    /// was restored to.
    history: Option<History>,
}

/// Which history of which cluster a server writes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct History {
    /// The cluster's `system_identifier`; none where the role may not see it.
    system: Option<i64>,
    /// 0 where the server does not say.
    timeline: u32,
}

/// What a host said when it was asked.
#[derive(Debug)]
enum Probe {
    /// It takes writes.
    Writable(History),
    /// It takes writes, though another server of its cluster was promoted since.
    OldPrimary(History),
    /// It is a standby, or was made read-only.
    ReadOnly,
    /// It is there, and did not let us in.
    Refused(sqlx::Error),
    /// It did not answer.
    Silent(String),
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

impl History {
    /// Whether a server of the same cluster was promoted between this and `other`. Timelines of different clusters tell nothing of
    /// each other: a dump restored into a new server begins with the first.
    fn is_before(self, other: Self) -> bool {
        self.system == other.system && self.timeline != 0 && self.timeline < other.timeline
    }
}

impl Chosen {
    /// The answer of a host, in the light of what was followed until now.
    fn judge(self, probe: Probe) -> Probe {
        match (probe, self.history) {
            (Probe::Writable(history), Some(known)) if history.is_before(known) => Probe::OldPrimary(history),
            (probe, _) => probe,
        }
    }
}

/// How long the other hosts are waited for after this answer. Two may take writes when an old primary came back.
fn patience(chosen: Chosen, index: usize, probe: &Probe) -> Duration {
    match (probe, chosen.history) {
        // It was promoted since: nobody else is ahead of it.
        (Probe::Writable(history), Some(known)) if known.is_before(*history) => Duration::ZERO,
        (Probe::Writable(history), Some(known)) if index == chosen.index && *history == known => SEARCH_GRACE,
        (Probe::Writable(_), _) => CONNECT_TIMEOUT,
        // The search is repeated: nothing is missed.
        _ => SEARCH_GRACE,
    }
}

/// The host to write to and what it writes: the highest timeline of those that take writes, and the one in use rather than its
/// equal.
fn choose(current: usize, probes: &[Option<Probe>]) -> Option<(usize, History)> {
    let writable = probes.iter().enumerate().filter_map(|(index, probe)| match probe {
        Some(Probe::Writable(history)) => Some((index, *history)),
        _ => None,
    });
    writable.max_by_key(|(index, history)| (history.timeline, *index == current, Reverse(*index)))
}

async fn probe(host: &PgConnectOptions, limit: Duration) -> Probe {
    let asked = async {
        let mut connection = PgConnection::connect_with(host).await?;
        let writable = session(&mut connection).await?.writable;
        let probe = if writable { Probe::Writable(history(&mut connection).await?) } else { Probe::ReadOnly };
        // It was asked, that is all: how it ends makes no difference.
        let _closed = connection.close().await;
        Ok(probe)
    };
    match timeout(limit, asked).await {
        Ok(Ok(probe)) => probe,
        Ok(Err(error @ (sqlx::Error::Database(_) | sqlx::Error::Tls(_)))) => Probe::Refused(error),
        Ok(Err(error)) => Probe::Silent(error.to_string()),
        Err(_) => Probe::Silent("does not answer".to_owned()),
    }
}

/// What a session says of itself.
struct Session {
    /// False on a standby, and where writes were switched off.
    writable: bool,
    /// [`HOST_SETTING`].
    host: Option<usize>,
    /// Somebody began a transaction and went away before the answer: sqlx does not know of it, and would neither end it nor
    /// commit what is written in it.
    in_transaction: bool,
}

/// Asks by the simple protocol: no prepared statement is left behind.
async fn session(connection: &mut PgConnection) -> Result<Session, sqlx::Error> {
    // A statement that stands alone is its transaction, and begins with it.
    let statement = "SELECT current_setting('transaction_read_only'), current_setting('audittrail.host', true),
                            now() <> statement_timestamp()";
    let row = sqlx::raw_sql(statement).fetch_one(connection).await?;
    let host: Option<String> = row.try_get(1)?;
    Ok(Session {
        writable: row.try_get::<String, _>(0)? == "off",
        host: host.and_then(|host| host.parse().ok()),
        in_transaction: row.try_get(2)?,
    })
}

/// The first eight digits of a WAL file's name are the timeline.
async fn history(connection: &mut PgConnection) -> Result<History, sqlx::Error> {
    let name = told(connection, "SELECT pg_walfile_name(pg_current_wal_lsn())").await?;
    let timeline = name.and_then(|name| u32::from_str_radix(name.get(..8)?, 16).ok()).unwrap_or(0);
    let system = told(connection, "SELECT system_identifier::text FROM pg_control_system()").await?;
    Ok(History { system: system.and_then(|system| system.parse().ok()), timeline })
}

/// What a server says; none where the role may not ask, or the server has no such thing to tell.
async fn told(connection: &mut PgConnection, statement: &'static str) -> Result<Option<String>, sqlx::Error> {
    match sqlx::raw_sql(statement).fetch_one(connection).await {
        Ok(row) => row.try_get(0),
        Err(sqlx::Error::Database(_)) => Ok(None),
        Err(error) => Err(error),
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

    fn choose_of<const N: usize>(current: usize, probes: [Probe; N]) -> Option<usize> {
        choose(current, &probes.map(Some)).map(|(index, _)| index)
    }

    fn hosts(uri: &str) -> Hosts {
        Hosts::new(uri::parse(uri).expect("valid"))
    }

    fn history(timeline: u32) -> History {
        History { system: Some(1), timeline }
    }

    fn writable(timeline: u32) -> Probe {
        Probe::Writable(history(timeline))
    }

    #[test]
    fn only_a_host_that_takes_writes_is_chosen() {
        assert_eq!(choose_of(0, [Probe::ReadOnly, writable(1)]), Some(1));
        assert_eq!(choose_of(0, [Probe::ReadOnly, Probe::Silent("gone".to_owned())]), None);
        assert_eq!(choose_of(0, [Probe::ReadOnly, Probe::OldPrimary(history(1))]), None);
        assert_eq!(choose(0, &[None, Some(writable(1))]), Some((1, history(1))));
    }

    #[test]
    fn the_highest_timeline_wins_and_else_the_host_in_use() {
        assert_eq!(choose_of(0, [writable(1), writable(2)]), Some(1));
        assert_eq!(choose_of(1, [writable(2), writable(2)]), Some(1));
        assert_eq!(choose_of(2, [writable(2), writable(2), Probe::ReadOnly]), Some(0));
    }

    #[test]
    fn the_others_are_waited_for_unless_nobody_can_be_ahead() {
        let new = Chosen::default();
        let known = Chosen { index: 0, history: Some(history(2)) };
        assert_eq!(patience(new, 0, &writable(1)), CONNECT_TIMEOUT);
        assert_eq!(patience(known, 1, &writable(3)), Duration::ZERO);
        assert_eq!(patience(known, 0, &writable(2)), SEARCH_GRACE);
        assert_eq!(patience(known, 1, &writable(2)), CONNECT_TIMEOUT);
        assert_eq!(patience(known, 0, &Probe::Writable(History { system: Some(2), timeline: 2 })), CONNECT_TIMEOUT);
        assert_eq!(patience(known, 1, &Probe::ReadOnly), SEARCH_GRACE);
        assert_eq!(patience(known, 1, &Probe::OldPrimary(history(1))), SEARCH_GRACE);
    }

    #[test]
    fn an_old_primary_is_told_by_a_lower_timeline_of_the_same_cluster() {
        let is_old =
            |of: Option<History>, probe| matches!(Chosen { index: 1, history: of }.judge(probe), Probe::OldPrimary(_));
        assert!(is_old(Some(history(2)), writable(1)));
        assert!(!is_old(Some(history(2)), writable(2)));
        assert!(!is_old(Some(history(2)), writable(3)));
        // Restored from a dump; does not say; nothing to compare with.
        assert!(!is_old(Some(history(2)), Probe::Writable(History { system: Some(2), timeline: 1 })));
        assert!(!is_old(Some(history(2)), writable(0)));
        assert!(!is_old(None, writable(1)));
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
