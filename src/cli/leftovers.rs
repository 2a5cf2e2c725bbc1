//! What a verb leaves behind unless it is cleared away: a process, a folder, a file.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Shared with whoever may have to end the process in a hurry. Clearing may be repeated.
#[derive(Debug, Clone, Default)]
pub struct Leftovers(Arc<Mutex<Left>>);

#[derive(Debug, Default)]
struct Left {
    child: Option<Child>,
    folder: Option<PathBuf>,
    file: Option<PathBuf>,
}

impl Leftovers {
    /// A folder that is to be removed.
    pub fn folder(&self, path: PathBuf) {
        self.left().folder = Some(path);
    }

    /// A file that is to be removed, if it still has this name.
    pub fn file(&self, path: PathBuf) {
        self.left().file = Some(path);
    }

    /// A process that is to be ended.
    pub fn child(&self, child: Child) {
        self.left().child = Some(child);
    }

    /// How the process ended; `None` while it runs.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.left()
            .child
            .as_mut()
            .and_then(|child| child.try_wait().ok().flatten())
    }

    /// Asks the process to end, kills it if it does not within 5 s, then removes folder and file.
    pub fn clear(&self) {
        self.clear_within(GRACE);
    }

    /// Kills the process, removes folder and file.
    pub fn clear_at_once(&self) {
        self.clear_within(Duration::ZERO);
    }

    fn clear_within(&self, grace: Duration) {
        let mut left = self.left();
        if let Some(mut child) = left.child.take() {
            end(&mut child, grace);
        }
        if let Some(folder) = left.folder.take() {
            // Somebody else may have been quicker.
            let _ = fs::remove_dir_all(folder);
        }
        if let Some(file) = left.file.take() {
            let _ = fs::remove_file(file);
        }
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end(child: &mut Child, grace: Duration) {
    let deadline = Instant::now() + grace;
    // Not waited for yet, so that the number is still its own.
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::TERM);
    }
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(None) => sleep(LOOK_AGAIN),
            Ok(Some(_)) | Err(_) => return,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn shell(script: &str) -> Child {
        Command::new("sh").args(["-c", script]).spawn().unwrap()
    }

    #[test]
    fn process_folder_and_file_are_gone_afterwards() {
        let leftovers = Leftovers::default();
        let folder = tempfile::tempdir().unwrap().keep();
        fs::write(folder.join("file"), "x").unwrap();
        leftovers.folder(folder.clone());
        let (_, file) = tempfile::NamedTempFile::new().unwrap().keep().unwrap();
        leftovers.file(file.clone());
        let child = shell("exec sleep 60");
        let pid = Pid::from_child(&child);
        leftovers.child(child);
        assert!(leftovers.ended().is_none());
        leftovers.clear();
        leftovers.clear();
        assert!(!folder.exists() && !file.exists());
        assert!(rustix::process::test_kill_process(pid).is_err(), "it was waited for");
    }

    #[test]
    fn a_process_that_does_not_listen_is_killed() {
        let leftovers = Leftovers::default();
        leftovers.child(shell("trap '' TERM; sleep 60 & wait; wait"));
        sleep(Duration::from_millis(100));
        let begun = Instant::now();
        leftovers.clear_within(Duration::from_millis(200));
        assert!(begun.elapsed() < Duration::from_secs(3));
    }

    #[test]
    fn how_a_process_ended_is_known() {
        let leftovers = Leftovers::default();
        leftovers.child(shell("exit 3"));
        let deadline = Instant::now() + Duration::from_secs(5);
        let status = loop {
            match leftovers.ended() {
                Some(status) => break status,
                None if Instant::now() > deadline => panic!("it does not end"),
                None => sleep(LOOK_AGAIN),
            }
        };
        assert_eq!(status.code(), Some(3));
    }
}
