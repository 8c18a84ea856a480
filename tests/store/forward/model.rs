//! Random histories of a forwarding whose process is killed between any two steps, against a source that misbehaves at
//! random. What must hold is in [`oracle`], what may happen in [`plan`].
//!
//! `AUDITTRAIL_MODEL_CASES` is the number of histories, `AUDITTRAIL_MODEL_SEED` the seed of the first (the next ones
//! follow it). A seed fixes what is chosen and not how long things take: where a failure does not come again at once, it
//! does after some repetitions.

mod failpoints;
mod oracle;
mod plan;

use crate::fixture::{Failpoint, NAME, Process, Setup};
use audittrail_collector::store::parked::Wanted;
use audittrail_crds::document::{Compression, Delivery, Format, Forwarding};
use audittrail_source::script::{Poison, PoisonAnswer, Standing};
use audittrail_tests::postgres::Postgres;
use failpoints::{FAILPOINTS, Killed, PARKING, RELEASE, REPLAY};
use futures::{FutureExt, StreamExt, stream};
use oracle::{Oracle, Row};
use plan::{Action, Choice, KINDS};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use sqlx::{Connection, PgConnection};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::process::ExitStatus;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// Histories of one run, where nothing else is asked for: about half a minute.
const CASES: u64 = 24;

/// Histories at a time. They wait most of the time.
const AT_A_TIME: usize = 12;

/// What so many histories need of Postgres, each with a store of its own and one of its process.
const CONNECTIONS: &str = "300";

/// Things that happen in a history before it comes to its end.
const ACTIONS: usize = 80;

/// Kills at failpoints in one history.
const KILLS_MAX: u32 = 20;

/// Longest pause between two things that happen.
const PAUSE_MAX_MILLISECONDS: u64 = 100;

/// Pause between two looks when a history comes to its end.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// How long the end may take: some waits between attempts, and a request that is not answered.
const END_WITHIN: Duration = Duration::from_mins(1);

/// States in which a forwarding waits half a minute, unless somebody mends something.
const MENDED_BY_HAND: [&str; 5] = ["KeyRefused", "EndpointRefused", "EventRefused", "Loop", "FilterInvalid"];

/// Changes of the resource before the source is mended too: three poison events in a row look like a wrong endpoint.
const MENDED_MAX: u32 = 3;

/// Part of the events that is poison.
const POISONOUS: f64 = 0.06;

const SIGKILL: i32 = 9;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_every_event_arrives_or_is_parked_in_order_and_the_cursor_passes_none() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let cases = number("AUDITTRAIL_MODEL_CASES").unwrap_or(CASES);
    let first = number("AUDITTRAIL_MODEL_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let killed = Killed::default();
    let postgres = Postgres::start_with(&[("max_connections", CONNECTIONS), ("fsync", "off")]);
    let histories = stream::iter(first..first + cases).map(|seed| history(seed, &postgres, &killed));
    histories.buffer_unordered(AT_A_TIME).count().await;
    println!("{cases} histories from seed {first}; kills at {killed:?}");
    if cases >= CASES {
        let spared = killed.spared();
        assert!(spared.is_empty(), "seeds from {first}: nothing was killed at {spared:?}");
    }
}

/// One history, from its seed. One that fails says what happened.
async fn history(seed: u64, postgres: &Postgres, killed: &Killed) {
    let mut model = Model::new(seed, postgres, killed).await;
    if let Err(panic) = AssertUnwindSafe(model.happens()).catch_unwind().await {
        eprintln!("AUDITTRAIL_MODEL_SEED={seed} AUDITTRAIL_MODEL_CASES=1: {}", model.notes.join("; "));
        resume_unwind(panic);
    }
}

/// What a history is made of.
struct Model<'a> {
    random: SmallRng,
    setup: Setup,
    oracle: Oracle,
    connection: PgConnection,
    entry: Forwarding,
    standing: Standing,
    /// There is one at any time, but for a moment.
    process: Option<Process>,
    /// Where the process kills itself.
    failpoint: Option<&'static str>,
    kills_left: u32,
    killed: &'a Killed,
    /// What happened, for whoever looks into a failure.
    notes: Vec<String>,
}

impl<'a> Model<'a> {
    async fn new(seed: u64, postgres: &Postgres, killed: &'a Killed) -> Self {
        let setup = Setup::without_source(postgres).await;
        setup.start_source().await;
        let mut connection = PgConnection::connect(setup.uri()).await.expect("the database answers");
        let log_id: Uuid =
            sqlx::query_scalar("SELECT log_id FROM head").fetch_one(&mut connection).await.expect("a head row");
        let mut oracle = Oracle::new(log_id);
        let entry = setup.entry();
        oracle.in_format(format!("{:?}", entry.format));
        setup.apply(entry.clone()).await;
        let mut random = SmallRng::seed_from_u64(seed);
        let answer = *[PoisonAnswer::Refuse, PoisonAnswer::OkFalse].choose(&mut random).expect("two");
        let standing = Standing { poison: Poison { answer, ..Poison::default() }, ..Standing::default() };
        let mut model = Self {
            random,
            setup,
            oracle,
            connection,
            entry,
            standing,
            process: None,
            failpoint: None,
            kills_left: KILLS_MAX,
            killed,
            notes: Vec::new(),
        };
        model.start(&FAILPOINTS);
        model
    }

    async fn happens(&mut self) {
        for _ in 0..ACTIONS {
            let action = plan::action(&mut self.random);
            self.note(format!("{action:?}"));
            self.perform(action).await;
            sleep(Duration::from_millis(self.random.random_range(0..PAUSE_MAX_MILLISECONDS))).await;
            self.look().await;
        }
        self.come_to_an_end().await;
    }

    fn note(&mut self, what: impl Into<String>) {
        self.notes.push(what.into());
    }

    async fn perform(&mut self, action: Action) {
        match action {
            Action::Append => {
                let events = self.random.random_range(1..25);
                self.append(events, POISONOUS).await;
            }
            Action::Script => {
                let steps = self.random.random_range(1..4);
                let script: Vec<_> = (0..steps).map(|_| plan::step(&mut self.random)).collect();
                self.note(format!("{script:?}"));
                self.setup.script(script);
            }
            Action::Toggle => self.change(|entry| entry.enabled = !entry.enabled).await,
            Action::Filter => {
                let choice = Choice::any(&mut self.random);
                self.note(format!("{choice:?}"));
                self.oracle.in_force(choice);
                self.change(|entry| entry.filter = choice.filter()).await;
            }
            Action::Format => {
                let format = *[Format::Named, Format::SegmentAudit].choose(&mut self.random).expect("two");
                self.oracle.in_format(format!("{format:?}"));
                self.change(|entry| entry.format = format).await;
            }
            Action::Delivery => {
                let max_batch_events = self.random.random_bool(0.8).then(|| self.random.random_range(1..40));
                let compression = *[Compression::None, Compression::Gzip].choose(&mut self.random).expect("two");
                let delivery = Delivery { max_batch_events, compression, ..Delivery::default() };
                self.change(|entry| entry.delivery = delivery).await;
            }
            Action::Touch => self.change(|_| {}).await,
            Action::RemoveAndMakeAgain => {
                self.setup.apply(None).await;
                self.tell();
                sleep(Duration::from_millis(self.random.random_range(0..PAUSE_MAX_MILLISECONDS))).await;
                self.change(|_| {}).await;
            }
            Action::Kill => {
                // From now on, it is no failpoint that did it.
                self.failpoint = None;
                self.process().signal("KILL");
            }
            Action::Stop => {
                self.stop().await;
                self.aim(&FAILPOINTS).await;
            }
            Action::Replay => self.replay().await,
            Action::HealAndReplay => {
                self.heal();
                self.replay().await;
            }
            Action::TakeNothing => {
                self.standing.always = Some(plan::REFUSAL);
                self.stand();
            }
            Action::TakeSmallBodies => {
                self.standing.body_max_bytes = Some(self.random.random_range(3_000..50_000));
                self.stand();
            }
            Action::Behave => self.behave(),
            Action::Wait => {}
        }
    }

    /// Appends so many events in one request, a part of which is poison.
    async fn append(&mut self, count: usize, poisonous: f64) {
        let mut events = Vec::new();
        for _ in 0..count {
            let (number, kind) = (self.oracle.events(), self.random.random_range(0..KINDS.len()));
            self.oracle.appended(kind);
            let event = plan::model_event(&mut self.random, number, kind);
            if self.random.random_bool(poisonous) {
                self.standing.poison.event_ids.insert(event.id.clone());
            }
            events.push(event);
        }
        self.stand();
        self.setup.append_events(events).await;
    }

    async fn change(&mut self, change: impl FnOnce(&mut Forwarding)) {
        change(&mut self.entry);
        self.setup.apply(self.entry.clone()).await;
        self.tell();
    }

    /// The source takes whole batches again, poison excepted.
    fn behave(&mut self) {
        self.standing = Standing { poison: self.standing.poison.clone(), ..Standing::default() };
        self.stand();
        self.setup.script([]);
    }

    fn stand(&self) {
        self.setup.source.set_standing(self.standing.clone());
    }

    async fn replay(&mut self) {
        let asked = self.setup.store.ask_for_replay(NAME, &Wanted::All).await.expect("the database answers");
        self.note(format!("{asked} asked for"));
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("there is one at any time")
    }

    fn tell(&mut self) {
        self.setup.tell(self.process.as_mut().expect("there is one at any time"));
    }

    /// Starts the forwarder. It kills itself at one of these failpoints: that which did so least, or any.
    fn start(&mut self, failpoints: &[&'static str]) {
        let failpoint = if self.random.random_bool(0.5) {
            failpoints.iter().min_by_key(|failpoint| self.killed.times(failpoint))
        } else {
            failpoints.choose(&mut self.random)
        };
        self.failpoint = failpoint.copied().filter(|_| self.kills_left > 0);
        let count = if self.random.random_bool(0.7) { 1 } else { self.random.random_range(2..5) };
        self.note(format!("started, to be killed at {:?} #{count}", self.failpoint));
        self.process = Some(self.setup.process_with(self.failpoint.map(|name| Failpoint::Kill(name, count))));
    }

    /// Kills the forwarder, and starts it again with one of these failpoints.
    async fn aim(&mut self, failpoints: &[&'static str]) {
        self.process = None;
        self.setup.end_lease().await;
        self.start(failpoints);
    }

    /// Takes note of how a forwarder ended: by a kill, or because it was told to.
    fn ended(&mut self, status: ExitStatus) {
        match (status.signal(), self.failpoint) {
            (Some(SIGKILL), Some(failpoint)) => {
                self.note(format!("killed at {failpoint}"));
                self.killed.at(failpoint);
                self.kills_left -= 1;
            }
            (Some(SIGKILL), None) => {}
            (None, _) if status.success() => {}
            _ => panic!("the forwarder ended: {status}"),
        }
    }

    /// Tells the forwarder to stop.
    async fn stop(&mut self) {
        let process = self.process.take().expect("there is one at any time");
        let status = process.stop().await;
        self.ended(status);
    }

    /// Starts the forwarder where it was killed, and checks everything.
    async fn look(&mut self) -> Option<Row> {
        if let Some(status) = self.process().ended() {
            self.ended(status);
            // Nobody waits for its lease.
            self.aim(&FAILPOINTS).await;
        }
        let row: Option<Row> = sqlx::query_as(
            "SELECT next_sequence, delivered, filtered, generation, state,
                    ARRAY(SELECT sequence FROM parked WHERE forwarding = $1 ORDER BY sequence) AS parked,
                    ARRAY(SELECT sequence FROM parked WHERE forwarding = $1 AND replay_asked_at IS NOT NULL) AS asked
             FROM forwarding WHERE name = $1",
        )
        .bind(NAME)
        .fetch_optional(&mut self.connection)
        .await
        .expect("the database answers");
        self.oracle.look(row.as_ref(), &self.setup.source.received());
        row
    }

    /// Everything that has a failpoint comes once more: a source that takes nothing, so that events are parked and taken
    /// back, a replay, and a stop. In between all that is wrong is mended, and everything arrives that a filter takes.
    async fn come_to_an_end(&mut self) {
        self.note("the end");
        self.behave();
        self.oracle.in_force(Choice::Everything);
        self.change(|entry| (entry.enabled, entry.filter) = (true, Choice::Everything.filter())).await;
        self.until("the cursor at the head", |row, events| row.next_sequence == events && row.asked.is_empty()).await;

        self.note("takes nothing");
        self.aim(&PARKING).await;
        self.standing.always = Some(plan::REFUSAL);
        self.append(20, 0.0).await;
        self.append(1, 1.0).await;
        self.until("that it takes nothing", |row, _| row.state == "EventRefused").await;
        self.behave();
        self.until("the cursor at the head", |row, events| row.next_sequence == events && row.asked.is_empty()).await;

        self.note("replays");
        self.aim(&REPLAY).await;
        self.heal();
        self.replay().await;
        self.until("nothing parked", |row, events| row.next_sequence == events && row.parked.is_empty()).await;
        self.aim(&RELEASE).await;
        self.until("a look", |_, _| true).await;
        self.stop().await;
    }

    /// Looks until it is so. What waits for somebody to mend something is mended: by a change of the resource, and when that
    /// is not enough, at the source.
    async fn until(&mut self, what: &str, so: impl Fn(&Row, i64) -> bool) {
        let deadline = Instant::now() + END_WITHIN;
        let mut mended = 0;
        loop {
            let row = self.look().await.unwrap_or_default();
            let events = i64::try_from(self.oracle.events()).expect("few");
            if so(&row, events) {
                return;
            }
            assert!(Instant::now() < deadline, "waited in vain for {what}, of {events} events: {row:?}");
            if row.generation == self.setup.generation() && MENDED_BY_HAND.contains(&&*row.state) {
                mended += 1;
                self.note(format!("mended {row:?}"));
                if mended > MENDED_MAX {
                    self.heal();
                }
                self.change(|_| {}).await;
            }
            sleep(LOOK_PAUSE).await;
        }
    }

    fn heal(&mut self) {
        self.standing.poison.event_ids.clear();
        self.stand();
    }
}
