//! A trail with one forwarding to a fake source.

use audittrail_collector::event::{Actor, ActorType, Event, SubmittedBy, SubmitterKind};
use audittrail_collector::forward;
use audittrail_collector::ingest::room::Room;
use audittrail_collector::store::Store;
use audittrail_collector::store::writer::Writer;
use audittrail_collector::tail::feed::Feed;
use audittrail_crds::document::{
    self, Access, Catalogue, Database, Document, Forwarding, Ingest, Sensitive, StartFrom, Trail,
};
use audittrail_crds::report::{self, State};
use audittrail_source::script::Step;
use audittrail_source::{Settings, Source};
use audittrail_tests::postgres::Postgres;
use sqlx::{Connection, Executor, PgConnection};
use std::io::Write;
use std::net::SocketAddr;
use std::ops::Range;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub const NAME: &str = "to-segment";
pub const KEY: &str = "right-key";
const CLAIM: &str = "cluster/acme/acme";

/// What no wait in these tests should need; a lease has ended long before.
const DEADLINE: Duration = Duration::from_secs(90);

/// How often a replica looks at its database.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// A trail, a source, and the document that connects them.
pub struct Setup {
    uri: String,
    pub store: Store,
    pub writer: Writer,
    pub source: Source,
    address: SocketAddr,
    documents: watch::Sender<Arc<Document>>,
}

/// A forwarder in this process. Stops at once when dropped, as if it had been cut off.
pub struct Forwarder {
    running: JoinHandle<()>,
    shutdown: CancellationToken,
}

/// A forwarder in a process of its own, which can be killed and paused.
pub struct Process {
    child: Child,
    documents: Option<ChildStdin>,
}

/// What a process does to itself, at which failpoint, and at which time that it comes there.
#[derive(Clone, Copy, Debug)]
pub enum Failpoint {
    Kill(&'static str, u32),
    Pause(&'static str, u32),
}

impl Setup {
    /// A trail without events, on the shared server, and a source that serves.
    pub async fn new() -> Self {
        let setup = Self::without_source(Postgres::shared()).await;
        setup.start_source().await;
        setup
    }

    /// Nothing listens at the source's address until [`Setup::start_source`].
    pub async fn without_source(postgres: &Postgres) -> Self {
        let uri = postgres.create_database().await;
        let store = store(&uri);
        store.open(CLAIM).await.expect("migrated");
        let writer = Writer::start(store.clone(), CLAIM.to_owned());
        let settings = Settings { write_key: Some(KEY.to_owned()), ..Settings::default() };
        let source = Source::open(settings).expect("no file");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("bound");
        let documents = watch::Sender::new(Arc::new(document(0, Vec::new())));
        Self { uri, store, writer, source, address, documents }
    }

    pub async fn start_source(&self) {
        let listener = TcpListener::bind(self.address).await.expect("the port is still free");
        let source = self.source.clone();
        tokio::spawn(async move { source.serve(listener, std::future::pending()).await });
    }

    /// The forwarding as it is at first: on, from the beginning, with the right key.
    pub fn entry(&self) -> Forwarding {
        let endpoint = format!("http://{}", self.address);
        let entry = Forwarding::new(NAME, endpoint, Sensitive::new(KEY));
        Forwarding { generation: 1, start_from: StartFrom::Beginning, ..entry }
    }

    /// Puts a document with this entry, or with none, into force, as a replica does.
    pub async fn apply(&self, entry: impl Into<Option<Forwarding>>) {
        self.apply_all(entry.into()).await;
    }

    /// The same with several.
    pub async fn apply_all(&self, entries: impl IntoIterator<Item = Forwarding>) {
        let generation = self.documents.borrow().generation + 1;
        let forwardings = entries.into_iter().map(|entry| Forwarding { generation, ..entry }).collect();
        self.store.apply_generation(generation).await.expect("the database answers");
        self.documents.send_replace(Arc::new(document(generation, forwardings)));
    }

    /// Puts a document into force in which something else has changed.
    pub async fn apply_elsewhere(&self) {
        let newest = self.documents.borrow().as_ref().clone();
        let generation = newest.generation + 1;
        self.store.apply_generation(generation).await.expect("the database answers");
        self.documents.send_replace(Arc::new(Document { generation, ..newest }));
    }

    pub fn generation(&self) -> i64 {
        self.documents.borrow().generation
    }

    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Starts a replica's forwarder.
    pub fn forwarder(&self) -> Forwarder {
        self.forwarder_at(&self.uri)
    }

    /// The same, whose way to the database is another.
    pub fn forwarder_at(&self, uri: &str) -> Forwarder {
        let shutdown = CancellationToken::new();
        let store = store(uri);
        let heartbeat = store.clone();
        let feed = Feed::new(store.clone());
        let (documents, stopping) = (self.documents.subscribe(), shutdown.clone());
        let running = tokio::spawn(async move {
            tokio::select! {
                () = forward::run(store, feed.clone(), documents, Uuid::new_v4(), stopping) => {}
                () = feed.run() => unreachable!("it never ends"),
                () = look_at_the_database(&heartbeat) => unreachable!("it never ends"),
            }
        });
        Forwarder { running, shutdown }
    }

    /// Starts a replica's forwarder as a process, with the newest document.
    pub fn process(&self) -> Process {
        self.process_with(None)
    }

    /// The same, which kills or pauses itself at a failpoint.
    pub fn process_with(&self, failpoint: Option<Failpoint>) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forwarder"));
        match failpoint {
            Some(Failpoint::Kill(name, count)) => command.env("KILL_AT", format!("{name}#{count}")),
            Some(Failpoint::Pause(name, count)) => command.env("PAUSE_AT", format!("{name}#{count}")),
            None => &mut command,
        };
        let mut child = command.stdin(Stdio::piped()).spawn().expect("the forwarder can be run");
        let documents = child.stdin.take();
        let mut process = Process { child, documents };
        self.tell(&mut process);
        process
    }

    /// Gives the newest document to a process. One that is dead does not mind.
    pub fn tell(&self, process: &mut Process) {
        let database = Database { uri: Sensitive::new(&self.uri), ca: None };
        let document = Document { database, ..self.documents.borrow().as_ref().clone() };
        let line = serde_json::to_string(&document).expect("plain data") + "\n";
        let documents = process.documents.as_mut().expect("nobody closed it");
        let _dead = documents.write_all(line.as_bytes());
    }

    /// Ends a lease now, as time would.
    pub async fn end_lease(&self) {
        let mut connection = PgConnection::connect(&self.uri).await.expect("the database answers");
        connection
            .execute("UPDATE forwarding SET lease_until = clock_timestamp() - interval '1 second'")
            .await
            .expect("the statement is valid");
    }

    /// Appends events with these numbers, a request each ten.
    pub async fn append(&self, numbers: Range<usize>) {
        for chunk in numbers.collect::<Vec<_>>().chunks(10) {
            self.append_events(chunk.iter().map(|number| event(*number)).collect()).await;
        }
    }

    /// Appends events in one request.
    pub async fn append_events(&self, events: Vec<Event>) {
        let by = SubmittedBy { kind: SubmitterKind::WriteKey, name: "acme-write-key/writeKey".to_owned() };
        self.writer.append(events, by, Room::default().enter()).await.expect("stored");
    }

    pub fn script(&self, steps: impl IntoIterator<Item = Step>) {
        self.source.set_script(steps);
    }

    /// The forwarding's row.
    pub async fn facts(&self) -> report::Forwarding {
        let facts = self.store.forwarding_facts().await.expect("the database answers");
        facts.into_iter().next().expect("the forwarding has a row")
    }

    pub async fn has_row(&self) -> bool {
        self.store.forwarding_facts().await.is_ok_and(|facts| !facts.is_empty())
    }

    /// Waits until the forwarding is in this state, and returns its row then.
    pub async fn until_state(&self, state: State) -> report::Forwarding {
        eventually(&format!("the state {state:?}"), async || {
            let facts = self.store.forwarding_facts().await.ok()?;
            facts.into_iter().next().filter(|facts| facts.state == state)
        })
        .await
    }

    /// Waits until the source has received so many events, and returns their numbers in order of first arrival.
    pub async fn until_received(&self, events: usize) -> Vec<usize> {
        eventually(&format!("{events} events at the source"), async || {
            (self.source.received().messages().len() >= events).then_some(())
        })
        .await;
        self.received()
    }

    /// Waits until the cursor has passed everything.
    pub async fn until_delivered(&self) -> report::Forwarding {
        eventually("the cursor at the head", async || {
            let facts = self.store.forwarding_facts().await.ok()?;
            facts.into_iter().next().filter(|facts| facts.lag_events == 0)
        })
        .await
    }

    /// Waits until so many requests reached the source.
    pub async fn until_requests(&self, requests: u64) {
        eventually(&format!("{requests} requests"), async || (self.requests() >= requests).then_some(())).await;
    }

    pub fn requests(&self) -> u64 {
        self.source.received().counts().requests
    }

    /// Numbers of the events that the source has, in order of first arrival.
    pub fn received(&self) -> Vec<usize> {
        let received = self.source.received();
        assert!(received.messages().iter().all(|message| !message.content_changed), "an event changed on the way");
        received.messages().iter().map(|message| number(message.event_id.as_deref())).collect()
    }

    /// How often each event came, in order of first arrival.
    pub fn deliveries(&self) -> Vec<u64> {
        self.source.received().messages().iter().map(|message| message.deliveries).collect()
    }
}

impl Forwarder {
    /// Stops as a replica does that is told to.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        timeout(DEADLINE, &mut self.running).await.expect("it stops").expect("it does not panic");
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Process {
    /// Tells it to stop, as a replica is told to, and waits until it has.
    pub async fn stop(mut self) -> ExitStatus {
        drop(self.documents.take());
        eventually("the end of the forwarder", async || self.ended()).await
    }

    /// How it ended, once it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    /// Waits until it is paused.
    pub async fn until_paused(&self) {
        let stat = format!("/proc/{}/stat", self.child.id());
        eventually("the pause of the forwarder", async || {
            let stat = std::fs::read_to_string(&stat).expect("it is our child");
            // The state comes after the name, which is in parentheses (proc_pid_stat(5)).
            stat.rsplit_once(") ").filter(|(_, state)| state.starts_with('T')).map(|_| ())
        })
        .await;
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -$0 $1", name, &pid]).status().expect("sh is there");
        assert!(sent.success(), "SIG{name} was not sent");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = (self.child.kill(), self.child.wait());
    }
}

/// As a replica's heartbeat does, which finds out about connections that do not answer.
async fn look_at_the_database(store: &Store) {
    loop {
        let _whatever = timeout(HEARTBEAT, store.check_epoch(None)).await;
        sleep(HEARTBEAT).await;
    }
}

/// Looks again and again until `check` finds something.
pub async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

pub fn store(uri: &str) -> Store {
    Store::lazy(&Database { uri: Sensitive::new(uri), ca: None }).expect("the URI is valid")
}

fn document(generation: i64, forwardings: Vec<Forwarding>) -> Document {
    Document {
        version: document::VERSION,
        generation,
        trail: Trail {
            namespace: "acme".to_owned(),
            name: "acme".to_owned(),
            workspace: "Acme".to_owned(),
            claim: CLAIM.to_owned(),
        },
        database: Database { uri: Sensitive::new(""), ca: None },
        access: Access::Tokens(Vec::new()),
        ingest: Ingest::default(),
        catalogue: Catalogue::default(),
        retention_seconds: None,
        known_log: None,
        tls: None,
        allowed_source_networks: vec!["127.0.0.0/8".to_owned()],
        forwardings,
    }
}

pub fn event(number: usize) -> Event {
    Event {
        id: format!("evt_{number}"),
        timestamp: None,
        r#type: "Warehouse Disabled".to_owned(),
        actor: Some(Actor { r#type: ActorType::User, id: "usr_1".to_owned(), name: None, email: None }),
        resource: None,
        outcome: None,
        context: None,
        changes: Vec::new(),
        details: None,
    }
}

pub fn number(event_id: Option<&str>) -> usize {
    event_id.and_then(|id| id.strip_prefix("evt_")).and_then(|number| number.parse().ok()).expect("one of our events")
}
