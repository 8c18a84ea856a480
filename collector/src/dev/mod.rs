//! `collector dev`: a collector to try, with a Postgres of its own, in one command and without Kubernetes.

pub mod directory;
pub mod postgres;
pub mod programs;
mod welcome;

use crate::serve::{self, ServeError};
use crate::settings::{Dev, DocumentPlace, Serve};
use audittrail_crds::document::{
    Access, Catalogue, Database, Document, Ingest, OwnerToken, Sensitive, Trail, VERSION, WriteKey,
};
use directory::{Directory, DirectoryError};
use jiff::Timestamp;
use postgres::{Authentication, Postgres, PostgresError};
use programs::Programs;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tokio::task::{JoinError, spawn_blocking};

/// The trail's name, its namespace, and with them its claim on the database.
const NAME: &str = "dev";

/// Name of the owner, as the trail shows it.
const OWNER: &str = "you";

/// Where the keys of a directory that is kept stand.
const CREDENTIALS_FILE: &str = "credentials.json";

/// Where the document stands while the collector runs.
const DOCUMENT_FILE: &str = "document.json";

/// Why there is nothing to try.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// The address is not free.
    #[error("cannot listen on {address}: {source}; name another address with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// There is no place for files.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// There is no Postgres.
    #[error("{0}; or name a database that is there with --database postgresql://user:password@host/database")]
    Postgres(#[from] PostgresError),
    /// A file cannot be used.
    #[error("cannot use {}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The collector ended by itself.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A thread that starts or ends Postgres panicked.
    #[error("a thread ended before its work was done: {0}")]
    Thread(#[from] JoinError),
}

/// What one has to know to use the collector.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Credentials {
    postgres_password: Sensitive,
    write_key: Sensitive,
    owner_token: Sensitive,
}

/// The database and the directory, in either case.
enum Place {
    Own(Postgres),
    Given { uri: String, directory: Directory },
}

/// Runs until told to stop. What was made is gone then, except for a directory that is to be kept and what was written to
/// a database that was given.
pub async fn run(settings: Dev) -> Result<(), DevError> {
    let Dev { database, listen, keep } = settings;
    // Before the work of making a database. Somebody may still come in between; the collector says so then.
    drop(TcpListener::bind(listen).map_err(|source| DevError::Listen { address: listen, source })?);
    let directory = match &keep {
        Some(path) => Directory::kept(path)?,
        None => Directory::temporary("audittrail-dev")?,
    };
    let credentials = credentials(directory.path())?;
    let place = place(database, directory, credentials.postgres_password.clone()).await?;
    let document = document(&place.uri(), &credentials);
    let path = place.directory().join(DOCUMENT_FILE);
    write(&path, &document)?;

    let serve = serve::run(Serve {
        document: DocumentPlace { config: Some(path), document_secret: None },
        namespace: None,
        listen,
        replica: Some(NAME.to_owned()),
    });
    tokio::pin!(serve);
    let ended = tokio::select! {
        ended = &mut serve => ended,
        () = welcome::when_ready(listen, &credentials, keep.as_deref()) => serve.await,
    };
    // Ends the server, and waits for that.
    spawn_blocking(move || drop(place)).await?;
    ended.map_err(DevError::Serve)
}

async fn place(database: Option<String>, directory: Directory, password: Sensitive) -> Result<Place, DevError> {
    if let Some(uri) = database {
        return Ok(Place::Given { uri, directory });
    }
    let start = move || {
        let programs = Programs::find().map_err(PostgresError::Programs)?;
        tracing::info!(programs = %programs.directory().display(), "starting Postgres");
        Postgres::start(programs, directory, Authentication::Password(password), Vec::new())
    };
    Ok(Place::Own(spawn_blocking(start).await??))
}

impl Place {
    fn uri(&self) -> String {
        match self {
            Self::Own(postgres) => postgres.uri("postgres"),
            Self::Given { uri, .. } => uri.clone(),
        }
    }

    fn directory(&self) -> &Path {
        match self {
            Self::Own(postgres) => postgres.directory(),
            Self::Given { directory, .. } => directory.path(),
        }
    }
}

/// Those of a directory that was kept, else new ones.
fn credentials(directory: &Path) -> Result<Credentials, DevError> {
    let path = directory.join(CREDENTIALS_FILE);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| DevError::File { path, source: error.into() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let credentials = Credentials::random();
            write(&path, &credentials)?;
            Ok(credentials)
        }
        Err(source) => Err(DevError::File { path, source }),
    }
}

impl Credentials {
    fn random() -> Self {
        let secret = |prefix: &str| Sensitive::new(format!("{prefix}{}", hex::encode(rand::random::<[u8; 20]>())));
        Self { postgres_password: secret(""), write_key: secret("atk_"), owner_token: secret("owner_") }
    }
}

/// Replaces a file, which only we can read.
fn write(path: &Path, content: &impl Serialize) -> Result<(), DevError> {
    let written = || -> io::Result<()> {
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(&serde_json::to_vec_pretty(content)?)
    };
    written().map_err(|source| DevError::File { path: path.to_owned(), source })
}

fn document(uri: &str, credentials: &Credentials) -> Document {
    Document {
        version: VERSION,
        // Higher than last time in a database that was used before.
        generation: Timestamp::now().as_millisecond(),
        trail: Trail {
            namespace: NAME.to_owned(),
            name: NAME.to_owned(),
            workspace: "Development".to_owned(),
            claim: format!("{NAME}/{NAME}"),
        },
        database: Database { uri: Sensitive::new(uri), ca: None },
        access: Access::Tokens(vec![OwnerToken { name: OWNER.to_owned(), token: credentials.owner_token.clone() }]),
        ingest: Ingest {
            write_keys: vec![WriteKey { name: "dev".to_owned(), key: credentials.write_key.clone() }],
            ..Ingest::default()
        },
        catalogue: Catalogue::default(),
        retention_seconds: None,
        known_log: None,
        tls: None,
        // A source to try forwarding with runs on the same machine.
        allowed_source_networks: vec!["127.0.0.0/8".to_owned(), "::1/128".to_owned()],
        forwardings: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn credentials_stay_with_their_directory_and_are_readable_by_us_alone() {
        let directory = Directory::temporary("audittrail-credentials").expect("made");
        let first = credentials(directory.path()).expect("made");
        assert_eq!(credentials(directory.path()).expect("read"), first);
        let file = fs::metadata(directory.path().join(CREDENTIALS_FILE)).expect("there");
        assert_eq!(file.mode() & 0o777, 0o600);
        let other = Directory::temporary("audittrail-credentials").expect("made");
        assert_ne!(credentials(other.path()).expect("made"), first);
    }
}
