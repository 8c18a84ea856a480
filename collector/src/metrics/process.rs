//! What Linux tells about this process (proc(5)), under the names that every Prometheus client library uses.

use super::{PROCESS_CPU, PROCESS_FILES, PROCESS_MEMORY};
use ::metrics::Gauge;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// Ticks a second of the times in `/proc/PID/stat`: `USER_HZ`, which Linux fixes for programs.
const TICKS_PER_SECOND: u64 = 100;

/// Sets the time of the start to now.
pub fn started(gauge: &Gauge) {
    gauge.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
}

/// Sets what changes. What cannot be read stays as it was.
pub fn measure() {
    let read = |file: &str| fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    if let Some(bytes) = resident_bytes(&read("status")) {
        PROCESS_MEMORY.gauge().set(bytes);
    }
    if let Some(seconds) = cpu_seconds(&read("stat")) {
        PROCESS_CPU.counter().absolute(seconds);
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        PROCESS_FILES.gauge().set(u32::try_from(files.count()).unwrap_or(u32::MAX));
    }
}

/// `VmRSS` of `/proc/PID/status`.
fn resident_bytes(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

/// Fields 14 and 15 of `/proc/PID/stat`, counted after the program's name, which may hold anything.
fn cpu_seconds(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(resident_bytes("VmPeak:\t 9 kB\nVmRSS:\t    12 kB\n"), Some(12.0 * 1024.0));
        assert_eq!(resident_bytes("VmPeak:\t 9 kB\n"), None);
    }

    #[test]
    fn a_name_with_blanks_does_not_move_the_times() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 1 0 100 0 0";
        assert_eq!(cpu_seconds(stat), Some(2));
        assert_eq!(cpu_seconds("7 (x) S 1"), None);
    }

    #[test]
    fn linux_tells_all_of_it() {
        let read = |file: &str| fs::read_to_string(format!("/proc/self/{file}")).expect("Linux");
        assert!(resident_bytes(&read("status")).expect("there") > 0.0);
        assert!(cpu_seconds(&read("stat")).is_some());
    }
}
