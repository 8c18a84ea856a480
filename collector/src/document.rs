//! The configuration document: read from a file or from its Secret, and followed as it changes.
//!
//! Whatever goes wrong while following it, the last good document stays in force: a typo or an API
//! server that is away must not stop a trail.

use audittrail_crds::address::{self, NotANetwork};
use audittrail_crds::catalogue::{Catalogue, CatalogueError};
use audittrail_crds::document::{DOCUMENT_MAX_BYTES, Document, SECRET_KEY, VERSION};
use backon::ExponentialBuilder;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often the file is read. Half of the time in which a change must have taken effect.
const FILE_POLL: Duration = Duration::from_secs(1);

/// How long one watch call lasts, in seconds. A connection that died silently is noticed 5 s later.
const WATCH_SECONDS: u32 = 20;

/// Shortest and longest pause before a watch that failed is tried again.
const WATCH_PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));

/// Where the document is.
#[derive(Clone)]
pub enum Source {
    /// A file, for a collector without Kubernetes.
    File(PathBuf),
    /// A Secret, under [`SECRET_KEY`].
    Secret {
        /// Client that may get, list and watch this one Secret.
        client: kube::Client,
        /// Namespace of the Secret.
        namespace: String,
        /// Name of the Secret.
        name: String,
    },
}

/// Why a document does not come into force.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    File(#[from] std::io::Error),
    /// The Secret has no document.
    #[error("the Secret lacks the key {SECRET_KEY}")]
    KeyMissing,
    /// More than [`DOCUMENT_MAX_BYTES`].
    #[error("it has {0} bytes, and may have {DOCUMENT_MAX_BYTES}")]
    TooLarge(usize),
    /// Not a document. Only the place is told: the text around it may be a key.
    #[error("line {line}, column {column}: not the JSON of a document ({kind})")]
    Unreadable {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What kind of error it is.
        kind: &'static str,
    },
    /// A version that this collector does not know.
    #[error("it has version {0}, and this collector knows {VERSION}: use an image that knows it")]
    Version(u32),
    /// The generation went back.
    #[error("its generation went back from {from} to {to}: generations only grow")]
    WentBack {
        /// Generation in force.
        from: i64,
        /// Generation refused.
        to: i64,
    },
    /// Other content under the same generation.
    #[error("it changed and its generation is still {0}: raise it, so that all replicas can tell which is newer")]
    SameGeneration(i64),
    /// Its catalogue cannot be used.
    #[error("its catalogue cannot be used: {0}")]
    Catalogue(#[from] CatalogueError),
    /// Not all of its `allowedSourceNetworks` are networks.
    #[error("its allowedSourceNetworks cannot be used: {0}")]
    Network(#[from] NotANetwork),
}

/// The only part of a document that says how to read the rest.
#[derive(serde::Deserialize)]
struct Versioned {
    version: u32,
}

/// The document in `bytes`, to come into force after `current`. None when it is the same.
pub fn accept(current: Option<&Document>, bytes: &[u8]) -> Result<Option<Document>, Refused> {
    if bytes.len() > DOCUMENT_MAX_BYTES {
        return Err(Refused::TooLarge(bytes.len()));
    }
    let Versioned { version } = serde_json::from_slice(bytes).map_err(|error| unreadable(&error))?;
    if version != VERSION {
        return Err(Refused::Version(version));
    }
    let next: Document = serde_json::from_slice(bytes).map_err(|error| unreadable(&error))?;
    match current {
        Some(current) if *current == next => Ok(None),
        Some(current) if next.generation < current.generation => {
            Err(Refused::WentBack { from: current.generation, to: next.generation })
        }
        Some(current) if next.generation == current.generation => Err(Refused::SameGeneration(next.generation)),
        // Whole or not at all: a catalogue must not come into force by half.
        _ => {
            Catalogue::of(&next.catalogue)?;
            address::networks(&next.allowed_source_networks)?;
            Ok(Some(next))
        }
    }
}

fn unreadable(error: &serde_json::Error) -> Refused {
    let kind = match error.classify() {
        serde_json::error::Category::Data => "a member is missing or of the wrong type",
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "wrong syntax",
    };
    Refused::Unreadable { line: error.line(), column: error.column(), kind }
}

/// What the source holds, each time it may have changed.
type Contents = Pin<Box<dyn Stream<Item = Result<Vec<u8>, Refused>> + Send>>;

/// Follows a document.
pub struct Follower {
    contents: Contents,
    /// Last refusal that was logged: a source that is read each second must not log each second.
    refused: Option<String>,
}

impl Follower {
    /// Begins to follow `source`.
    pub fn new(source: Source) -> Self {
        let contents = match source {
            Source::File(path) => file(path),
            Source::Secret { client, namespace, name } => secret(client, &namespace, &name),
        };
        Self { contents, refused: None }
    }

    /// Waits for the first document.
    pub async fn first(&mut self) -> Document {
        loop {
            if let Some(document) = self.next(None).await {
                return document;
            }
        }
    }

    /// Sends every later document. Never ends.
    pub async fn run(mut self, documents: watch::Sender<Arc<Document>>) {
        loop {
            let current = Arc::clone(&documents.borrow());
            if let Some(document) = self.next(Some(&current)).await {
                tracing::info!(generation = document.generation, "a new document is in force");
                documents.send_replace(Arc::new(document));
            }
        }
    }

    async fn next(&mut self, current: Option<&Document>) -> Option<Document> {
        let contents = self.contents.next().await?;
        match contents.and_then(|bytes| accept(current, &bytes)) {
            Ok(document) => {
                self.refused = None;
                document
            }
            Err(refused) => {
                self.log_once(&refused, current);
                None
            }
        }
    }

    fn log_once(&mut self, refused: &Refused, current: Option<&Document>) {
        let text = refused.to_string();
        if self.refused.as_ref() != Some(&text) {
            let in_force = current.map(|current| current.generation);
            tracing::error!(reason = text, in_force, "the document is refused; what is in force stays in force");
            self.refused = Some(text);
        }
    }
}

/// Reads the file each second: a change of its content counts, not of its time.
fn file(path: PathBuf) -> Contents {
    let interval = tokio::time::interval(FILE_POLL);
    Box::pin(futures::stream::unfold((interval, path), |(mut interval, path)| async move {
        interval.tick().await;
        let contents = tokio::fs::read(&path).await.map_err(Refused::File);
        Some((contents, (interval, path)))
    }))
}

/// Pauses of a watch that failed: short, since a toggle waits for it once the API server is back.
fn pauses() -> watcher::ExponentialBackoff {
    let (min, max) = WATCH_PAUSES;
    ExponentialBuilder::default().with_min_delay(min).with_max_delay(max).with_jitter().without_max_times().into()
}

/// Watches the Secret by name, which is all that the collector's Role allows. Errors of the watch are
/// logged and tried again without end.
fn secret(client: kube::Client, namespace: &str, name: &str) -> Contents {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}")).timeout(WATCH_SECONDS);
    let events = watch_objects(kube::Api::<Secret>::namespaced(client, namespace), config).backoff(pauses());
    Box::pin(events.filter_map(|event| async move {
        match event {
            Ok(Event::Apply(secret) | Event::InitApply(secret)) => Some(content(secret)),
            Ok(Event::Delete(_)) => {
                tracing::warn!("the document's Secret was deleted; the last document stays in force");
                None
            }
            Ok(Event::Init | Event::InitDone) => None,
            Err(error) => {
                tracing::warn!(%error, "the document's Secret cannot be watched at the moment");
                None
            }
        }
    }))
}

fn content(secret: Secret) -> Result<Vec<u8>, Refused> {
    let document = secret.data.and_then(|mut data| data.remove(SECRET_KEY));
    document.map(|bytes| bytes.0).ok_or(Refused::KeyMissing)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use audittrail_crds::document::{Access, Catalogue, Database, EventType, Ingest, Sensitive, Trail};

    /// The smallest document, to be changed by tests.
    pub fn document(generation: i64) -> Document {
        Document {
            version: VERSION,
            generation,
            trail: Trail {
                namespace: "team-a".to_owned(),
                name: "acme".to_owned(),
                workspace: "Acme".to_owned(),
                claim: "team-a/acme".to_owned(),
            },
            database: Database { uri: Sensitive::new("postgresql://localhost/acme"), ca: None },
            access: Access::Tokens(Vec::new()),
            ingest: Ingest::default(),
            catalogue: Catalogue::default(),
            retention_seconds: None,
            known_log: None,
            tls: None,
            allowed_source_networks: Vec::new(),
            forwardings: Vec::new(),
        }
    }

    fn bytes(document: &Document) -> Vec<u8> {
        serde_json::to_vec(document).expect("serializable")
    }

    fn refusal(current: Option<&Document>, bytes: &[u8]) -> String {
        accept(current, bytes).expect_err("refused").to_string()
    }

    #[test]
    fn a_higher_generation_comes_into_force() {
        assert_eq!(accept(None, &bytes(&document(1))).expect("valid"), Some(document(1)));
        assert_eq!(accept(Some(&document(1)), &bytes(&document(2))).expect("valid"), Some(document(2)));
    }

    #[test]
    fn the_same_document_again_is_no_change() {
        assert_eq!(accept(Some(&document(1)), &bytes(&document(1))).expect("valid"), None);
    }

    #[test]
    fn a_generation_that_goes_back_is_refused() {
        assert!(refusal(Some(&document(2)), &bytes(&document(1))).contains("went back from 2 to 1"));
    }

    #[test]
    fn other_content_under_the_same_generation_is_refused() {
        let mut changed = document(1);
        changed.trail.workspace = "Other".to_owned();
        assert!(refusal(Some(&document(1)), &bytes(&changed)).contains("still 1"));
    }

    #[test]
    fn a_catalogue_that_cannot_be_used_is_refused_with_the_type_and_the_reason() {
        let mut next = document(2);
        let (name, area) = ("Space Deleted".to_owned(), "Billing".to_owned());
        next.catalogue.event_types.push(EventType { name, area, aliases: Vec::new(), schema: None });
        let refusal = refusal(Some(&document(1)), &bytes(&next));
        assert!(refusal.contains("catalogue") && refusal.contains("\"Space Deleted\" is built in"), "{refusal}");
    }

    #[test]
    fn an_unknown_version_is_refused_whatever_the_rest_looks_like() {
        assert!(refusal(None, br#"{"version":2,"generation":"new"}"#).contains("version 2"));
    }

    #[test]
    fn a_refusal_tells_the_place_and_not_the_text() {
        let text = String::from_utf8(bytes(&document(1)))
            .expect("UTF-8")
            .replace(r#""generation":1"#, r#""generation":"secret""#);
        let refusal = refusal(None, text.as_bytes());
        assert!(refusal.contains("line 1") && !refusal.contains("secret"), "{refusal}");
    }

    #[test]
    fn a_source_network_that_is_none_is_refused_and_named() {
        let allowing =
            |network: &str| bytes(&Document { allowed_source_networks: vec![network.to_owned()], ..document(1) });
        accept(None, &allowing("127.0.0.0/8")).expect("a network");
        let refusal = refusal(None, &allowing("127.0.0.1"));
        assert!(
            refusal.contains("allowedSourceNetworks") && refusal.contains("\"127.0.0.1\" is not a network"),
            "{refusal}"
        );
    }

    #[test]
    fn documents_are_accepted_up_to_their_size() {
        let mut padded = bytes(&document(1));
        padded.resize(DOCUMENT_MAX_BYTES, b' ');
        accept(None, &padded).expect("at the bound");
        padded.push(b' ');
        assert!(refusal(None, &padded).contains("bytes"));
    }

    #[tokio::test]
    async fn a_file_is_followed_and_a_bad_one_changes_nothing() {
        let path = std::env::temp_dir().join(format!("audittrail-document-{}.json", std::process::id()));
        tokio::fs::write(&path, bytes(&document(1))).await.expect("written");
        let mut follower = Follower::new(Source::File(path.clone()));
        let documents = watch::Sender::new(Arc::new(follower.first().await));
        let mut seen = documents.subscribe();
        let running = tokio::spawn(follower.run(documents));
        tokio::fs::write(&path, b"{").await.expect("written");
        tokio::time::sleep(2 * FILE_POLL).await;
        assert_eq!(seen.borrow().generation, 1);
        tokio::fs::write(&path, bytes(&document(2))).await.expect("written");
        tokio::time::timeout(Duration::from_secs(10), seen.changed()).await.expect("in time").expect("running");
        assert_eq!(seen.borrow().generation, 2);
        running.abort();
        tokio::fs::remove_file(&path).await.expect("removed");
    }
}
