//! What hosts say when they are asked, and which of them is written to.
//!
//! Only a host that takes writes is ever chosen; of several, the one with the highest timeline, since a promotion starts a new one.
//! What is below the timeline that was followed is an old primary, and is not used even where nobody else answers.

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Row};
use std::cmp::Reverse;
use std::time::Duration;
use tokio::time::timeout;

/// How long a host may take to let us in. A machine that is gone answers nothing, and all hosts are asked at once.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the other hosts are waited for after one has answered as it did before, or does not take writes.
pub(super) const SEARCH_GRACE: Duration = Duration::from_secs(1);

/// Setting of a session: place of its host in the connection URI. A pooler in between may drop it.
pub(super) const HOST_SETTING: &str = "audittrail.host";

/// The host in use.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chosen {
    pub(super) index: usize,
    /// What it wrote. None before the first search, and where it is the only host: there is nothing else to wait for, whatever it
    /// was restored to.
    pub(super) history: Option<History>,
}

/// Which history of which cluster a server writes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct History {
    /// The cluster's `system_identifier`; none where the role may not see it.
    system: Option<i64>,
    /// 0 where the server does not say.
    pub(super) timeline: u32,
}

/// What a host said when it was asked.
#[derive(Debug)]
pub(super) enum Probe {
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

impl History {
    /// Whether a server of the same cluster was promoted between this and `other`. Timelines of different clusters tell nothing of
    /// each other: a dump restored into a new server begins with the first.
    fn is_before(self, other: Self) -> bool {
        self.system == other.system && self.timeline != 0 && self.timeline < other.timeline
    }
}

impl Chosen {
    /// The answer of a host, in the light of what was followed until now.
    pub(super) fn judge(self, probe: Probe) -> Probe {
        match (probe, self.history) {
            (Probe::Writable(history), Some(known)) if history.is_before(known) => Probe::OldPrimary(history),
            (probe, _) => probe,
        }
    }
}

/// How long the other hosts are waited for after this answer. Two may take writes when an old primary came back.
pub(super) fn patience(chosen: Chosen, index: usize, probe: &Probe) -> Duration {
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
pub(super) fn choose(current: usize, probes: &[Option<Probe>]) -> Option<(usize, History)> {
    let writable = probes.iter().enumerate().filter_map(|(index, probe)| match probe {
        Some(Probe::Writable(history)) => Some((index, *history)),
        _ => None,
    });
    writable.max_by_key(|(index, history)| (history.timeline, *index == current, Reverse(*index)))
}

pub(super) async fn probe(host: &PgConnectOptions, limit: Duration) -> Probe {
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
pub(super) struct Session {
    /// False on a standby, and where writes were switched off.
    pub(super) writable: bool,
    /// [`HOST_SETTING`].
    pub(super) host: Option<usize>,
    /// Somebody began a transaction and went away before the answer: sqlx does not know of it, and would neither end it nor
    /// commit what is written in it.
    pub(super) in_transaction: bool,
}

/// Asks by the simple protocol: no prepared statement is left behind.
pub(super) async fn session(connection: &mut PgConnection) -> Result<Session, sqlx::Error> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn choose_of<const N: usize>(current: usize, probes: [Probe; N]) -> Option<usize> {
        choose(current, &probes.map(Some)).map(|(index, _)| index)
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
}
