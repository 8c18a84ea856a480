//! Processor time that processes and threads have taken, as Linux counts it (proc(5), /proc/pid/stat).

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Linux counts processor time in hundredths of a second towards programs.
const TICKS_PER_SECOND: u64 = 100;

/// A thread of this process.
#[derive(Clone, Debug)]
pub struct Thread(PathBuf);

impl Thread {
    /// The thread that calls this.
    pub fn current() -> Self {
        Self(Path::new("/proc").join(std::fs::read_link("/proc/thread-self").expect("Linux tells it")))
    }

    /// What it has taken so far. Of another thread as well, as long as it runs.
    pub fn taken(&self) -> Duration {
        // The two fields after these are of the process, whichever thread they are read from.
        taken(&self.0.join("stat"), 2)
    }
}

/// Of a process and of its children that have ended.
pub fn process(pid: u32) -> Duration {
    taken(&Path::new("/proc").join(pid.to_string()).join("stat"), 4)
}

/// Of a process, of its children that have ended, and of those that are there now.
pub fn process_and_children(pid: u32) -> Duration {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let now: Duration = children.split_whitespace().filter_map(|child| child.parse().ok()).map(process).sum();
    process(pid) + now
}

/// Sum of the first of utime, stime, cutime and cstime; zero of what has ended.
fn taken(stat: &Path, fields: usize) -> Duration {
    let stat = std::fs::read_to_string(stat).unwrap_or_default();
    // The name, which may hold anything, ends with the last parenthesis; utime is the twelfth field after it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(fields);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}
