//! What the kernel says of a process.

use std::time::Duration;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Keeps all threads of this process, and what they start, on one core.
pub(super) fn keep_to(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core);
    for thread in std::fs::read_dir("/proc/self/task")
        .expect("our threads")
        .flatten()
    {
        let id = thread
            .file_name()
            .to_str()
            .and_then(|id| id.parse().ok())
            .and_then(Pid::from_raw);
        // A thread may have ended meanwhile.
        let _ = sched_setaffinity(id, &cores);
    }
    assert_eq!(
        sched_getaffinity(None).expect("ours"),
        cores,
        "a machine with two cores"
    );
}

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
    fn a_process_is_kept_to_a_core_with_all_its_threads() {
        // In a process of its own: the tests beside this one stay where they are.
        let pinned = std::process::Command::new(std::env::current_exe().expect("this program"))
            .args([
                "--exact",
                "load::process::tests::kept_to_the_first_core",
                "--ignored",
            ])
            .status();
        assert!(pinned.expect("it starts").success());
    }

    #[test]
    #[ignore = "it moves the whole process: the test above starts it in one of its own"]
    fn kept_to_the_first_core() {
        let (go_on, waits) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            waits.recv().expect("told");
            sched_getaffinity(None).expect("ours")
        });
        keep_to(0);
        go_on.send(()).expect("it waits");
        let mut first = CpuSet::new();
        first.set(0);
        assert_eq!(other.join().expect("no panic"), first);
    }

    #[test]
    fn this_process_has_used_memory_and_its_peak_is_no_less() {
        let own = std::process::id();
        // Other tests of this process may take memory between the two looks.
        let resident = resident(own);
        assert!(resident > 1.0);
        assert!(peak(own) >= resident * 0.9);
        assert!(cpu(own) < Duration::from_secs(3600));
    }
}
