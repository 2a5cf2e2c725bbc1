//! What Linux says of a process: its memory and the time it has computed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Resident memory in KiB.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    pub all: u64,
    /// What belongs to no file: heap and stacks.
    pub anonymous: u64,
}

pub fn memory(pid: u32) -> Memory {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok())
            .unwrap_or_else(|| panic!("/proc/{pid}/status has no {name}"))
    };
    Memory {
        all: field("VmRSS"),
        anonymous: field("RssAnon"),
    }
}

/// What its threads have computed so far, ended ones included; in the kernel's ticks of 10 ms.
pub fn computed(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name of the process, in brackets, may hold blanks; of what follows it, user and system time are the 12th and 13th.
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let ticks: u64 = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|n| n.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(10 * ticks)
}

pub fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// Looks at a process's anonymous memory all the time and keeps the most.
pub struct Peak {
    most: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Peak {
    pub fn of(pid: u32) -> Self {
        let (most, ended) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (highest, stop) = (Arc::clone(&most), Arc::clone(&ended));
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                highest.fetch_max(memory(pid).anonymous, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self {
            most,
            ended,
            thread: Some(thread),
        }
    }

    /// The most so far, in KiB.
    pub fn anonymous(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
