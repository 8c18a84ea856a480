//! The same questions to Postgres, by hand.

use crate::cases::Question;
use crate::queries::{Measured, Order, PAGE_EVENTS};
use audittrail_tests::bench::collector::Collector;
use audittrail_tests::bench::times::Times;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use std::time::{Duration, Instant};

/// The queries, each after a line with the name of its case.
const QUERIES: &str = include_str!("baseline.sql");

/// Begins such a line.
const NAME: &str = "-- case: ";

/// What an event is answered from.
const COLUMNS: &str = r#"sequence, epoch, received_at, id, "timestamp", type, actor_type, actor_id, actor_name, actor_email,
    resource_type, resource_id, resource_name, outcome, submitted_by_kind, submitted_by_name, context, changes, details"#;

/// How prepared statements may be planned. Neither is best for all queries.
const PLANS: [&str; 2] = ["SET plan_cache_mode = force_generic_plan", "SET plan_cache_mode = force_custom_plan"];

/// How long one query is tried with one kind of plan: the slow ones of several are not waited for.
const TRIED: Duration = Duration::from_secs(10);

/// How long the first one may be tried, until every question was asked: there is nothing faster to compare with.
const FIRST_TRIED: Duration = Duration::from_mins(2);

/// How long one statement may take, and where views are recorded.
const SESSION: &str = "SET statement_timeout = '30s';
    CREATE TABLE IF NOT EXISTS bench_view (at timestamptz NOT NULL, what text NOT NULL)";

/// Records a view, durably.
const RECORD: &str = "INSERT INTO bench_view (at, what) VALUES (now(), 'a view of the trail')";

/// One connection.
#[derive(Debug)]
pub struct Baseline {
    connection: PgConnection,
    /// The end of the log when the collector was measured.
    end: i64,
}

impl Baseline {
    /// Connects, and indexes the log. By Postgres' socket: sqlx does not set `TCP_NODELAY`.
    pub async fn prepare(collector: &Collector, end: i64) -> Self {
        collector.run(include_str!("indexes.sql")).await;
        let mut connection = PgConnection::connect(collector.database()).await.expect("the server answers");
        let directory: String =
            sqlx::query_scalar("SHOW unix_socket_directories").fetch_one(&mut connection).await.expect("a setting");
        let uri = format!("{}?host={directory}", collector.database());
        let mut connection = PgConnection::connect(&uri).await.expect("the server answers");
        connection.execute(SESSION).await.expect("a setting");
        Self { connection, end }
    }

    /// The fastest of the case's queries, alone and after a COMMIT. Each must answer the same events as the collector did.
    pub async fn measure(&mut self, measured: &Measured, runs: usize) -> (Times, Times) {
        let mut best: Option<(Times, &str, String)> = None;
        for statement in statements(measured.case.section(), measured.order) {
            for plan in PLANS {
                self.connection.execute(plan).await.expect("a setting");
                let limit = if best.is_some() { TRIED } else { FIRST_TRIED };
                let tried = self.try_one(&statement, measured, runs, limit).await;
                let tried = tried.map(|times| (times, plan, statement.clone()));
                best = [best, tried].into_iter().flatten().min_by_key(|(times, ..)| times.p99());
            }
        }
        let Some((times, plan, statement)) = best else {
            println!("{}: no hand-written query answered in time", measured.case.name);
            return Default::default();
        };
        self.connection.execute(plan).await.expect("a setting");
        let recorded = self.times(&statement, measured, runs, Some(RECORD)).await;
        (times, recorded.unwrap_or_default())
    }

    /// None when it is so slow that not every question was asked.
    async fn try_one(&mut self, statement: &str, measured: &Measured, runs: usize, limit: Duration) -> Option<Times> {
        let begun = Instant::now();
        for (question, answer) in measured.case.questions.iter().zip(&measured.answers) {
            let rows = self.ask(statement, question).await?;
            if begun.elapsed() > limit {
                return None;
            }
            self.check(&rows, answer, question);
        }
        self.times(statement, measured, runs, None).await
    }

    /// The questions in turn, each after a statement that is part of it. As many as there is time for, each at least once.
    async fn times(
        &mut self,
        statement: &str,
        measured: &Measured,
        runs: usize,
        before: Option<&'static str>,
    ) -> Option<Times> {
        let (begun, questions) = (Instant::now(), &measured.case.questions);
        let mut times = Vec::new();
        for question in questions.iter().cycle().take(runs) {
            if begun.elapsed() > TRIED && times.len() >= questions.len() {
                break;
            }
            let begun = Instant::now();
            if let Some(before) = before {
                sqlx::query(before).execute(&mut self.connection).await.expect("a statement of ours");
            }
            self.ask(statement, question).await?;
            times.push(begun.elapsed());
        }
        Some(Times::of(times))
    }

    /// None when Postgres gives up.
    async fn ask(&mut self, statement: &str, question: &Question) -> Option<Vec<PgRow>> {
        let mut query = sqlx::query(AssertSqlSafe(statement.to_owned()));
        for value in &question.values {
            query = query.bind(value);
        }
        match query.bind(self.end).fetch_all(&mut self.connection).await {
            Ok(rows) => Some(rows),
            // SQLSTATE query_canceled.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("57014") => None,
            Err(error) => panic!("{error}: {statement}"),
        }
    }

    /// The collector's events but for those that came later: its own records of views.
    fn check(&self, rows: &[PgRow], answer: &[i64], question: &Question) {
        let here: Vec<i64> = rows.iter().map(|row| row.get("sequence")).collect();
        let collected: Vec<i64> = answer.iter().copied().filter(|sequence| *sequence < self.end).collect();
        let full = answer.len() == PAGE_EVENTS;
        let same = here.starts_with(&collected) && (full || here.len() == collected.len());
        assert!(same, "{}: the collector answered {collected:?}, Postgres {here:?}", question.query);
    }
}

/// The queries of a case, in this order.
fn statements(case: &str, order: Order) -> Vec<String> {
    let sections = QUERIES.split(NAME).skip(1).filter_map(|section| section.split_once('\n'));
    let own = format!("{case}, {order}");
    sections
        .filter(|(name, _)| *name == case || *name == own)
        .map(|(name, text)| statement(text, name == case, order))
        .collect()
}

/// Comments that belong to the next section stand at the end.
fn statement(text: &str, either_order: bool, order: Order) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("--")).collect();
    let statement = lines.join("\n").replace("{columns}", COLUMNS);
    if either_order && order == Order::Asc { statement.replace("DESC", "ASC") } else { statement }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases;
    use crate::trail::Trail;

    #[test]
    fn every_case_has_a_query_in_both_orders_with_its_parameters() {
        let trail = Trail::new(10_000);
        for case in [cases::first_pages(&trail), cases::words()].concat() {
            let parameters = case.questions[0].values.len() + 1;
            for (order, other) in [(Order::Desc, "ASC"), (Order::Asc, "DESC")] {
                let statements = statements(case.section(), order);
                assert!(!statements.is_empty(), "{}", case.name);
                for statement in statements {
                    assert!(statement.contains(&format!("${parameters}")), "{statement}");
                    assert!(!statement.contains(&format!("${}", parameters + 1)), "{statement}");
                    let outer = statement.rsplit("ORDER BY").next().expect("an order");
                    assert!(!outer.contains(other), "{statement}");
                }
            }
        }
    }
}
