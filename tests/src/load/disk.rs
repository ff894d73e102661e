//! How long the disk takes to make a write durable, while everything else goes on.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Writes and syncs until it is stopped.
pub(super) struct Disk {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<f64>>,
}

impl Disk {
    /// Writes 8 KiB fifty times a second into a file of this folder.
    pub(super) fn watch(folder: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut file = File::create(folder.join("fdatasync")).expect("a file");
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut took = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                file.write_all(&[7; 8192]).expect("a write");
                let begun = Instant::now();
                file.sync_data().expect("a sync");
                took.push(begun.elapsed().as_secs_f64() * 1000.0);
                std::thread::sleep(Duration::from_millis(20));
            }
            took
        });
        Self { stop, thread }
    }

    /// Milliseconds of each, sorted.
    pub(super) fn stop(self) -> Vec<f64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut took = self.thread.join().expect("a thread that ends");
        took.sort_by(f64::total_cmp);
        took
    }
}
