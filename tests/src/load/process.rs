//! What the kernel says of a process.

use std::time::Duration;

/// CPU time of all its threads since it started, from `/proc/PID/stat`.
pub(super) fn cpu(pid: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The name stands in brackets and may hold anything.
    let rest = text.rsplit_once(')').expect("a line of stat").1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: u64 = [11, 12]
        .iter()
        .map(|at| fields[*at].parse::<u64>().expect("ticks"))
        .sum();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

/// Resident memory in MiB.
pub(super) fn resident(pid: u32) -> f64 {
    status(pid, "VmRSS:")
}

/// The most resident memory since the start or since [`forget_peak`], in MiB.
pub(crate) fn peak(pid: u32) -> f64 {
    status(pid, "VmHWM:")
}

/// Lets [`peak`] begin anew.
pub(crate) fn forget_peak(pid: u32) {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("the process is ours");
}

fn status(pid: u32, name: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .expect("a line of status");
    let kib: f64 = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number");
    kib / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_memory_and_its_peak_is_no_less() {
        let own = std::process::id();
        assert!(resident(own) > 1.0);
        assert!(peak(own) >= resident(own) * 0.9);
        assert!(cpu(own) < Duration::from_secs(3600));
    }
}
