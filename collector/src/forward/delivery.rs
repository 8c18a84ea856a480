//! Delivery under one lease: send, decide, move the cursor.

use super::batch::{Batch, BodyLimit};
use super::bisect::{self, Lone, Parts, REFUSED_IN_A_ROW_MAX};
use super::encode::{Bounds, Item};
use super::lease::{Lease, Stop};
use super::pace::Pace;
use super::schedule;
use super::send::{Fault, Sender};
use super::verdict::Verdict;
use crate::store::Store;
use crate::store::forwarding::{Delivered, Fact, Passed};
use crate::store::parked::{PARKED_MAX, Place};
use crate::store::parking::Refused;
use crate::tail::feed::Encoding;
use audittrail_crds::report::State;
use jiff::Timestamp;
use std::ops::Range;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// How often a source that there is nothing to send to is probed.
const PROBE_EVERY: Duration = Duration::from_mins(1);

/// When it is first probed: events that are there already say more than a probe, and are read and sent by then.
const FIRST_PROBE_AFTER: Duration = Duration::from_millis(400);

/// How long a forwarding that has nothing to send looks at nothing else: the lease may have brought news.
const IDLE_MAX: Duration = Duration::from_millis(500);

/// From which log to which source.
#[derive(Clone, Copy)]
pub struct Route<'a> {
    /// The log.
    pub store: &'a Store,
    /// Name of the forwarding.
    pub name: &'a str,
    /// What events look like.
    pub encoding: &'a Encoding,
    /// The source.
    pub sender: &'a Sender,
}

/// Delivery under one lease.
pub struct Delivery<'a> {
    pub(super) route: Route<'a>,
    pub(super) lease: Lease,
    pace: Pace,
    pub(super) body: BodyLimit,
    /// Failed attempts since the source last answered as one that is well.
    failures: u32,
    /// The next batch has to wait, since the last one was refused for a reason that somebody has to mend.
    waits: bool,
    /// State and error as last written.
    written: Option<(State, Option<String>)>,
    failed_probes: u32,
    /// The source refused the key or the endpoint, so that it may be the wrong place: no event is shown to it before a probe
    /// has passed.
    barred: bool,
    /// When to probe, if there is nothing to send until then.
    probe_at: Instant,
}

/// How to go on after a batch.
enum Flow {
    /// With the next.
    On,
    /// From the cursor, which is not where the batch ends.
    Back,
}

impl<'a> Delivery<'a> {
    /// Delivery to a source, nothing of which is known yet.
    pub fn new(route: Route<'a>, lease: Lease, pace: Pace, bounds: Bounds) -> Self {
        Self {
            route,
            lease,
            pace,
            body: BodyLimit::new(bounds),
            failures: 0,
            waits: false,
            written: None,
            failed_probes: 0,
            barred: false,
            probe_at: Instant::now() + FIRST_PROBE_AFTER,
        }
    }

    /// The lease.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Delivers batches, until they have to come from the cursor anew.
    pub async fn run(&mut self, batches: &mut mpsc::Receiver<Batch>) -> Result<(), Stop> {
        loop {
            // Where the source is not well, they would only be in the way.
            if self.lease.standing().replays && self.failed_probes == 0 {
                self.replay().await?;
            }
            let Some(batch) = self.next(batches).await? else { continue };
            if let Flow::Back = self.deliver(&batch).await? {
                return Ok(());
            }
        }
    }

    /// Waits for the next batch. None: there may be something else to do.
    async fn next(&mut self, batches: &mut mpsc::Receiver<Batch>) -> Result<Option<Batch>, Stop> {
        // Where the source refuses events, an empty batch shows nothing.
        let probes = !self.waits && self.lease.standing().refused_in_a_row < REFUSED_IN_A_ROW_MAX;
        let wake = Instant::now() + IDLE_MAX;
        let wake = if probes { wake.min(self.probe_at) } else { wake };
        let batch = async { if self.barred { std::future::pending().await } else { batches.recv().await } };
        match self.lease.keep(timeout_at(wake, batch)).await? {
            Ok(Some(batch)) => return Ok(Some(batch)),
            Ok(None) => return Err(Stop::Lost),
            Err(_) => {}
        }
        if probes && Instant::now() >= self.probe_at {
            self.probe().await?;
        }
        Ok(None)
    }

    /// Asks the source whether it is there, since there is nothing to send that would show it. True if it is.
    pub(super) async fn probe(&mut self) -> Result<bool, Stop> {
        match self.ask().await? {
            Ok(()) => {
                self.failed_probes = 0;
                self.probe_at = Instant::now() + PROBE_EVERY;
                self.record(State::Accepting, None).await?;
                Ok(true)
            }
            Err(fault) => {
                self.probe_at = Instant::now() + schedule::wait(fault.verdict, self.failed_probes, rand::random());
                self.failed_probes = self.failed_probes.saturating_add(1);
                self.record(fault.state(), Some(&fault)).await?;
                Ok(false)
            }
        }
    }

    /// Sends an empty batch.
    async fn ask(&mut self) -> Result<Result<(), Fault>, Stop> {
        let answer = self.lease.keep(self.route.sender.probe(Timestamp::now())).await?;
        self.barred = match &answer {
            Ok(()) => false,
            Err(fault) => self.barred || refuses_place(fault),
        };
        Ok(answer)
    }

    /// Delivers a batch, part by part where the source does not take it as a whole.
    async fn deliver(&mut self, batch: &Batch) -> Result<Flow, Stop> {
        if self.waits && !batch.items.is_empty() {
            let wait = schedule::wait(Verdict::Refused, 0, rand::random());
            self.lease.keep(sleep(wait)).await?;
        }
        let mut parts = Parts::of(self.body.parts(&batch.items));
        while let Some(part) = parts.next() {
            let items = &batch.items[part.clone()];
            match self.attempt(items).await? {
                None => self.accepted(batch, &part).await?,
                Some(fault) if items.len() > 1 => {
                    if fault.verdict == Verdict::TooLarge {
                        self.body.refused(items);
                    }
                    parts.halve(&part);
                }
                Some(fault) => {
                    if let Flow::Back = self.refused(batch, &items[0], &fault).await? {
                        self.waits = true;
                        return Ok(Flow::Back);
                    }
                }
            }
        }
        self.pass_rest(batch).await?;
        Ok(Flow::On)
    }

    /// Moves the cursor past what the filter left out at the end of a batch, where no accepted event took it along.
    async fn pass_rest(&mut self, batch: &Batch) -> Result<(), Stop> {
        let cursor = self.lease.cursor().next_sequence;
        let next_sequence = batch.end_of(batch.items.len());
        if cursor < next_sequence {
            let filtered = batch.filtered(cursor, next_sequence, 0);
            self.lease.pass_filtered(Passed { next_sequence, epoch: batch.epoch, filtered }).await?;
        }
        Ok(())
    }

    /// Sends once.
    pub(super) async fn send(&mut self, items: &[Item]) -> Result<Result<(), Fault>, Stop> {
        self.lease.keep(sleep_until(self.pace.free_at())).await?;
        self.pace.sends(items.len(), Instant::now());
        fail::fail_point!("forward::before-send");
        let answer = self.lease.keep(self.route.sender.batch(items, Timestamp::now())).await?;
        fail::fail_point!("forward::after-send");
        self.barred |= answer.as_ref().is_err_and(refuses_place);
        Ok(answer)
    }

    /// Sends until the source accepts, or refuses for what is in the batch: then with why.
    async fn attempt(&mut self, items: &[Item]) -> Result<Option<Fault>, Stop> {
        loop {
            match self.send(items).await? {
                Err(fault) if !matches!(fault.verdict, Verdict::TooLarge | Verdict::Refused) => {
                    self.wait_out(fault).await?;
                }
                answered => {
                    self.failures = 0;
                    return Ok(answered.err());
                }
            }
        }
    }

    /// Waits until there is reason to send again.
    async fn wait_out(&mut self, mut fault: Fault) -> Result<(), Stop> {
        loop {
            self.failed(&fault, self.failures).await?;
            self.failures = self.failures.saturating_add(1);
            if !self.barred {
                return Ok(());
            }
            match self.ask().await? {
                Ok(()) => return Ok(()),
                Err(next) => fault = next,
            }
        }
    }

    /// Says that an attempt failed, and waits until the next one, which follows so many that failed.
    pub(super) async fn failed(&mut self, fault: &Fault, before: u32) -> Result<(), Stop> {
        let wait = schedule::wait(fault.verdict, before, rand::random());
        self.record(fault.state(), Some(fault)).await?;
        self.lease.keep(sleep(wait)).await
    }

    /// Moves the cursor past a part that the source accepted.
    async fn accepted(&mut self, batch: &Batch, part: &Range<usize>) -> Result<(), Stop> {
        let newest = &batch.items[part.end - 1];
        let next_sequence = batch.end_of(part.end);
        let epoch = if part.end == batch.items.len() { batch.epoch } else { newest.epoch };
        let filtered = batch.filtered(self.lease.cursor().next_sequence, next_sequence, part.len());
        let events = i64::try_from(part.len()).unwrap_or(i64::MAX);
        fail::fail_point!("forward::before-move");
        let delivered = Delivered { last_sequence: newest.sequence, events };
        let parked = self.lease.standing().parked_ahead;
        let sent: Vec<Place> =
            if parked { batch.items[part.clone()].iter().map(Item::place).collect() } else { Vec::new() };
        self.lease.advance(Passed { next_sequence, epoch, filtered }, delivered, &sent).await?;
        fail::fail_point!("forward::after-move");
        self.body.accepted();
        self.accepts();
        Ok(())
    }

    /// The source has accepted events, and that is written.
    pub(super) fn accepts(&mut self) {
        self.turn(State::Accepting, None);
        self.waits = false;
        self.failed_probes = 0;
        self.probe_at = Instant::now() + PROBE_EVERY;
    }

    /// Decides about a lone event that the source refused.
    async fn refused(&mut self, batch: &Batch, item: &Item, fault: &Fault) -> Result<Flow, Stop> {
        match bisect::lone(self.lease.standing().refused_in_a_row) {
            Lone::Park => self.park(batch, item, fault).await,
            Lone::Unpark => {
                fail::fail_point!("forward::before-unpark");
                self.lease.unpark(refusal(item, fault)).await?;
                fail::fail_point!("forward::after-unpark");
                self.turn(State::EventRefused, Some(fault.error.clone()));
                Ok(Flow::Back)
            }
            Lone::Wait => {
                self.record(State::EventRefused, Some(fault)).await?;
                Ok(Flow::Back)
            }
        }
    }

    async fn park(&mut self, batch: &Batch, item: &Item, fault: &Fault) -> Result<Flow, Stop> {
        let filtered = batch.filtered(self.lease.cursor().next_sequence, item.sequence, 0);
        fail::fail_point!("forward::before-park");
        let parked = self.lease.park(filtered, refusal(item, fault)).await?;
        fail::fail_point!("forward::after-park");
        if parked {
            tracing::warn!(
                forwarding = self.route.name,
                sequence = item.sequence,
                error = fault.error,
                "an event is parked: the source refuses it"
            );
            // The source is there; how it stands otherwise, the next batch or a probe will tell.
            self.probe_at = Instant::now() + FIRST_PROBE_AFTER;
            return Ok(Flow::On);
        }
        let error = format!("{PARKED_MAX} events are parked, and no more can be: {}", fault.error);
        self.record(State::EventRefused, Some(&Fault { error, ..fault.clone() })).await?;
        Ok(Flow::Back)
    }

    /// Writes how delivery stands, if that is news. A success always is: it has a time.
    async fn record(&mut self, state: State, fault: Option<&Fault>) -> Result<(), Stop> {
        let error = fault.map(|fault| fault.error.clone());
        if state == State::Accepting || self.written.as_ref() != Some(&(state, error.clone())) {
            let code = fault.and_then(|fault| fault.code);
            self.lease.record(Fact { state, error: error.as_deref(), code }).await?;
            self.turn(state, error);
        }
        Ok(())
    }

    /// Remembers what was written, and logs a turn.
    fn turn(&mut self, state: State, error: Option<String>) {
        let forwarding = self.route.name;
        let turned = self.written.as_ref().is_none_or(|(written, _)| *written != state);
        match (&error, turned) {
            (None, true) => tracing::info!(forwarding, "the source accepts"),
            (Some(error), true) => tracing::warn!(forwarding, ?state, error, "the source does not accept"),
            (_, false) => {}
        }
        self.written = Some((state, error));
    }
}

/// Whether a fault says that this may be the wrong place to show events to.
fn refuses_place(fault: &Fault) -> bool {
    matches!(fault.verdict, Verdict::KeyRefused | Verdict::EndpointRefused)
}

/// What is written of a refused event.
pub(super) fn refusal<'a>(item: &Item, fault: &'a Fault) -> Refused<'a> {
    Refused { place: item.place(), code: fault.code, reason: &fault.error }
}
