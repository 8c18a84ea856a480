//! The programs of a Postgres that is installed here, and the account that may run them.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Environment variable with the directory of the programs, for those who have several versions.
pub const PROGRAMS_VARIABLE: &str = "AUDITTRAIL_POSTGRES_PROGRAMS";

/// Where Debian keeps the programs, one directory a version, and not on the `PATH`.
const DEBIAN_PROGRAMS: &str = "/usr/lib/postgresql";

/// What a server cannot be made without.
const NEEDED: [&str; 2] = ["initdb", "postgres"];

/// Accounts to run as when we are root, the first one that exists: Postgres refuses to be root.
const ACCOUNTS: [&str; 2] = ["postgres", "nobody"];

/// Why there is nothing to run.
#[derive(Debug, thiserror::Error)]
pub enum ProgramsError {
    /// No Postgres was found.
    #[error(
        "no Postgres server is installed (initdb and postgres were looked for on the PATH and in {DEBIAN_PROGRAMS}): \
         install it (Debian and Ubuntu: apt-get install postgresql; Fedora: dnf install postgresql-server), or set {PROGRAMS_VARIABLE} to the directory that holds the two programs"
    )]
    Missing,
    /// The directory that was named does not hold them.
    #[error("{PROGRAMS_VARIABLE} is {}, where initdb and postgres are not both to be found", .0.display())]
    NotThere(PathBuf),
    /// We are root, and there is nobody else to be.
    #[error(
        "Postgres refuses to be root, and there is no account `postgres` or `nobody` to run it as: run this as another user"
    )]
    NoAccount,
    /// It cannot be found out who we are.
    #[error("cannot find out which account this is: {0}")]
    Identity(#[source] std::io::Error),
}

/// Postgres' programs, and who runs them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Programs {
    directory: PathBuf,
    /// Somebody else, when we are root.
    account: Option<Account>,
}

/// Ids of an account.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Account {
    /// Its user id.
    pub user: u32,
    /// Id of its group.
    pub group: u32,
}

impl Programs {
    /// The directory named by [`PROGRAMS_VARIABLE`]; without it the first on the `PATH` that has the programs, else
    /// Debian's newest version.
    pub fn find() -> Result<Self, ProgramsError> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let directory =
            find_directory(variable(PROGRAMS_VARIABLE), variable("PATH").as_deref(), Path::new(DEBIAN_PROGRAMS))?;
        Ok(Self { directory, account: unprivileged_account()? })
    }

    /// The programs in this directory.
    pub fn in_directory(directory: PathBuf) -> Result<Self, ProgramsError> {
        let directory = complete(directory).map_err(ProgramsError::NotThere)?;
        Ok(Self { directory, account: unprivileged_account()? })
    }

    /// The program of this name, as the account which may run it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.directory.join(program));
        if let Some(Account { user, group }) = self.account {
            use std::os::unix::process::CommandExt;
            command.uid(user).gid(group);
        }
        command
    }

    /// Where they are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Who owns the server's files, when it is not us.
    pub fn account(&self) -> Option<Account> {
        self.account
    }
}

fn find_directory(given: Option<OsString>, path: Option<&OsStr>, debian: &Path) -> Result<PathBuf, ProgramsError> {
    if let Some(given) = given {
        return complete(given.into()).map_err(ProgramsError::NotThere);
    }
    let on_path = path.into_iter().flat_map(std::env::split_paths);
    let candidates = on_path.chain(debian_versions(debian));
    candidates.map(complete).find_map(Result::ok).ok_or(ProgramsError::Missing)
}

/// The directory, if it has all programs that are needed; itself as the error if not. Where there are only links to
/// them, it is the directory that they lead to: the other programs are there.
fn complete(directory: PathBuf) -> Result<PathBuf, PathBuf> {
    if !NEEDED.iter().all(|program| directory.join(program).is_file()) {
        return Err(directory);
    }
    let real = fs::canonicalize(directory.join("postgres")).ok();
    Ok(real.and_then(|postgres| postgres.parent().map(Path::to_owned)).unwrap_or(directory))
}

/// Debian's directories, the newest version first.
fn debian_versions(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> =
        entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))).collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, path)| path.join("bin")).collect()
}

fn unprivileged_account() -> Result<Option<Account>, ProgramsError> {
    // Whoever makes a file owns it, which needs no system call of its own to be bound.
    let me = fs::metadata("/proc/self").map_err(ProgramsError::Identity)?.uid();
    if me != 0 {
        return Ok(None);
    }
    let accounts = fs::read_to_string("/etc/passwd").map_err(ProgramsError::Identity)?;
    ACCOUNTS.iter().find_map(|name| account(&accounts, name)).map(Some).ok_or(ProgramsError::NoAccount)
}

/// An account of `/etc/passwd` (passwd(5)).
fn account(accounts: &str, name: &str) -> Option<Account> {
    let fields: Vec<&str> = accounts
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&name))?;
    Some(Account { user: fields.get(2)?.parse().ok()?, group: fields.get(3)?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::directory::Directory;

    fn install(directory: &Path) -> PathBuf {
        fs::create_dir_all(directory).expect("made");
        for program in NEEDED {
            fs::write(directory.join(program), "").expect("written");
        }
        directory.to_owned()
    }

    #[test]
    fn the_named_directory_comes_first_then_the_path_then_debians_newest() {
        let root = Directory::temporary("audittrail-programs").expect("made");
        let root = root.path();
        let given = install(&root.join("given"));
        let on_path = install(&root.join("on-path"));
        let debian = root.join("debian");
        install(&debian.join("9/bin"));
        let newest = install(&debian.join("17/bin"));
        let path = std::env::join_paths([root.join("empty"), on_path.clone()]).expect("a path");

        let found = find_directory(Some(given.clone().into()), Some(&path), &debian).expect("found");
        assert_eq!(found, given);
        assert_eq!(find_directory(None, Some(&path), &debian).expect("found"), on_path);
        assert_eq!(find_directory(None, None, &debian).expect("found"), newest);
    }

    #[test]
    fn a_named_directory_without_the_programs_is_an_error_and_not_passed_over() {
        let root = Directory::temporary("audittrail-programs").expect("made");
        let debian = root.path().join("debian");
        install(&debian.join("17/bin"));
        let given = Some(root.path().join("nothing").into());
        assert!(matches!(find_directory(given, None, &debian), Err(ProgramsError::NotThere(_))));
    }

    #[test]
    fn without_postgres_the_message_says_what_to_install() {
        let missing = find_directory(None, None, Path::new("/nowhere")).expect_err("nothing is there");
        assert!(missing.to_string().contains("apt-get install postgresql"), "{missing}");
    }

    #[test]
    fn an_account_is_read_from_its_line() {
        let accounts = "root:x:0:0:root:/root:/bin/sh\npostgres:x:104:105::/var/lib/postgresql:/bin/sh\nbroken\n";
        assert_eq!(account(accounts, "postgres"), Some(Account { user: 104, group: 105 }));
        assert_eq!(account(accounts, "nobody"), None);
        assert_eq!(account(accounts, "broken"), None);
    }
}
