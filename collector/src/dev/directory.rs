//! A directory that goes away with the process, however the process ends.
//!
//! A small shell waits for the end of its standard input, which is ours. When we are gone, by `kill -9` too, it ends the
//! Postgres server whose data the directory holds, if there is one, and removes the directory.

use crate::dev::programs::Account;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// For us and the account that it is given to, nobody else: it holds keys and data.
const MODE: u32 = 0o700;

/// Held locked by whoever uses a directory that is kept, its reaper included.
const LOCK: &str = "lock";

/// Ends the server of the directory `$0`. SIGINT is Postgres' fast shutdown, which writes everything down.
const END_SERVER: &str = r#"
    read -r _
    if pid=$(head -n 1 "$0/data/postmaster.pid" 2>/dev/null) && kill -INT "$pid" 2>/dev/null; then
        for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    fi"#;

/// The same for data that nobody wants: SIGQUIT ends the server at once.
const END_SERVER_AND_REMOVE: &str = r#"
    read -r _
    if pid=$(head -n 1 "$0/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid" 2>/dev/null; then
        for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    fi
    for _ in $(seq 100); do rm -rf "$0" 2>/dev/null && break; sleep 0.1; done"#;

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It cannot be made or given away.
    #[error("cannot make the directory {}: {source}", .path.display())]
    Make {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process uses it.
    #[error("the directory {} is in use by another process: end that one, or name another directory", .0.display())]
    InUse(PathBuf),
    /// The shell cannot be started.
    #[error("cannot run sh, which cleans up after this process: {0}")]
    Reaper(#[source] io::Error),
}

/// What becomes of a directory in the end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It is removed.
    Removed,
    /// It stays, to be used again.
    Kept,
}

/// A directory with its reaper, which acts when this is dropped, or the process dies.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    fate: Fate,
    reaper: Child,
}

impl Directory {
    /// A new directory among the temporary ones, removed at the end. Its name begins with `prefix`.
    pub fn temporary(prefix: &str) -> Result<Self, DirectoryError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("{prefix}-{}-{number}", std::process::id()));
        // Left by a process of the same id that could not clean up.
        let _absent = fs::remove_dir_all(&path);
        DirBuilder::new()
            .mode(MODE)
            .create(&path)
            .map_err(|source| DirectoryError::Make { path: path.clone(), source })?;
        let reaper = reaper(&path, END_SERVER_AND_REMOVE, Stdio::null())?;
        Ok(Self { path, fate: Fate::Removed, reaper })
    }

    /// A directory that stays, made if it is not there. Only a server in it is ended.
    pub fn kept(path: &Path) -> Result<Self, DirectoryError> {
        let make = |source| DirectoryError::Make { path: path.to_owned(), source };
        DirBuilder::new().mode(MODE).recursive(true).create(path).map_err(make)?;
        // The server runs elsewhere than we do.
        let path = path.canonicalize().map_err(make)?;
        let lock = File::options().create(true).append(true).open(path.join(LOCK)).map_err(make)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DirectoryError::InUse(path)),
            Err(TryLockError::Error(source)) => return Err(make(source)),
        }
        // The reaper's copy keeps it locked until it has ended our server, and not the next one's.
        let reaper = reaper(&path, END_SERVER, lock.into())?;
        Ok(Self { path, fate: Fate::Kept, reaper })
    }

    /// Gives the directory itself, not what is in it, to the account that has to write there.
    pub fn give_to(&self, Account { user, group }: Account) -> Result<(), DirectoryError> {
        chown(&self.path, Some(user), Some(group))
            .map_err(|source| DirectoryError::Make { path: self.path.clone(), source })
    }

    /// What becomes of it.
    pub fn fate(&self) -> Fate {
        self.fate
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Closes its standard input, at which it does what it is for.
        drop(self.reaper.stdin.take());
        let _status = self.reaper.wait();
    }
}

/// Runs in a process group of its own: Ctrl-C must not end it before its work is done.
fn reaper(directory: &Path, script: &str, output: Stdio) -> Result<Child, DirectoryError> {
    Command::new("sh")
        .args(["-c", script])
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(output)
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(DirectoryError::Reaper)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_temporary_directory_is_ours_alone_and_goes() {
        let directory = Directory::temporary("audittrail-directory").expect("made");
        let path = directory.path().to_owned();
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, MODE);
        drop(directory);
        assert!(!path.exists());
    }

    #[test]
    fn a_kept_directory_stays_and_has_one_user_at_a_time() {
        let root = Directory::temporary("audittrail-directory").expect("made");
        let path = root.path().join("kept");
        let first = Directory::kept(&path).expect("made");
        assert!(matches!(Directory::kept(&path), Err(DirectoryError::InUse(_))));
        fs::write(first.path().join("data"), "x").expect("written");
        drop(first);
        let again = Directory::kept(&path).expect("free again");
        assert_eq!(fs::read_to_string(again.path().join("data")).expect("still there"), "x");
    }
}
