//! Backups that the daemon writes by itself: when one is due, whether there is room for it, which old ones go; and exports for operators.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::Daemon;
use super::faults::{of_store, with_causes};
use crate::config::Config;
use crate::crash_points::CrashPoint;
use crate::domain::time::Timestamp;
use crate::socket::fault::Fault;
use crate::socket::view::{ExportView, ExportedRubric};
use crate::store::export_file::{ExportFile, sweep};
use crate::store::{QUARANTINE, Store, StoreError, free_bytes};

/// When it is first looked whether a backup is due: a start has other things to do.
const FIRST_LOOK: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_secs(60);
/// How long after one that failed or was skipped the next is tried.
const NEXT_TRY: Duration = Duration::from_secs(3_600);
/// A backup rests so many times as long as it works: it takes a fifth of a core at most, and answers are being scored.
const REST: u32 = 4;
const REST_MAX: Duration = Duration::from_secs(1);
/// Times the store's size that must be free above store.free_floor_mib: room for the backup, and as much again for the store.
const ROOM: u64 = 2;

/// How a backup's file is called, with the moment at which it was begun in between.
const NAME: (&str, &str) = ("interviewd-", ".jsonl.gz");
const MOMENT: &str = "%Y%m%dT%H%M%SZ";

/// The folder of the backups of one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backups {
    pub folder: PathBuf,
    store: PathBuf,
    floor_bytes: u64,
}

/// A backup that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    pub path: PathBuf,
    pub begun_at: Timestamp,
}

/// Why there is no new backup.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("{needed_mib} MiB must be free at {}, and {free_mib} MiB are: make room, or set backup.path to another disk", folder.display())]
    NoRoom {
        folder: PathBuf,
        needed_mib: u64,
        free_mib: u64,
    },
    #[error("the folder {} cannot be used", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Backups {
    /// As configured; by default beside the store.
    pub fn of(config: &Config) -> Self {
        Self::of_store(&config.store.path, config)
    }

    /// Of the store at this path, whatever the configuration says by now where the next start is to look for one.
    fn of_store(store: &Path, config: &Config) -> Self {
        // Without a slash at its end: a backup in the store would go where a damaged store goes.
        let store = PathBuf::from_iter(store.components());
        let folder = config.backup.path.clone().unwrap_or_else(|| {
            let mut beside = store.as_os_str().to_owned();
            beside.push(".backups");
            beside.into()
        });
        Self {
            folder,
            store,
            floor_bytes: config.store.free_floor_mib << 20,
        }
    }

    /// Bytes that must be free for a backup of a store of this size.
    pub fn room(&self, store_bytes: u64) -> u64 {
        store_bytes.saturating_mul(ROOM).saturating_add(self.floor_bytes)
    }

    /// Oldest first. Those of a time that has yet to come, when the clock was wrong, count as the oldest: they must not stay for ever.
    pub fn list(&self, now: Timestamp) -> io::Result<Vec<Backup>> {
        let mut backups = Vec::new();
        for name in names(&self.folder)? {
            if let Some(begun_at) = begun_at(&name) {
                let path = self.folder.join(name);
                backups.push(Backup { path, begun_at });
            }
        }
        backups.sort_by_key(|backup| (backup.begun_at <= now, backup.begun_at));
        Ok(backups)
    }

    /// Damaged stores that were moved aside and still lie there.
    pub fn quarantined(&self) -> io::Result<Vec<PathBuf>> {
        let (Some(folder), Some(name)) = (self.store.parent(), self.store.file_name()) else {
            return Ok(Vec::new());
        };
        let begin = format!("{}{QUARANTINE}", name.to_string_lossy());
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        let mut found: Vec<_> = names(folder)?
            .into_iter()
            .filter(|name| name.starts_with(&begin))
            .collect();
        found.sort();
        Ok(found.into_iter().map(|name| folder.join(name)).collect())
    }

    /// Writes one. What a stop in the midst of it left behind goes first, what is too old afterwards.
    fn write(&self, store: &Store, keep: usize, now: Timestamp) -> Result<(), Problem> {
        let begun = Instant::now();
        let folder = |source| self.folder_problem(source);
        sweep(&self.folder).map_err(folder)?;
        self.look_for_room(store)?;
        let parents = self.folder.parent().map_or(Ok(()), fs::create_dir_all);
        let made = parents.and_then(|()| DirBuilder::new().recursive(true).mode(0o700).create(&self.folder));
        made.map_err(folder)?;
        let path = self.folder.join(name(now));
        let mut file = ExportFile::create(&path, now)?;
        CrashPoint::BackupBegun.reached();
        let mut after = None;
        loop {
            let portion = Instant::now();
            let page = store.export(after.as_deref())?;
            after.clone_from(&page.next);
            file.page(page)?;
            if after.is_none() {
                break;
            }
            thread::sleep((portion.elapsed() * REST).min(REST_MAX));
        }
        let summary = file.finish()?;
        CrashPoint::BackupNamed.reached();
        tracing::info!(
            path = %path.display(),
            interviews = summary.interviews,
            bytes = fs::metadata(&path).map_or(0, |file| file.len()),
            took_ms = begun.elapsed().as_millis(),
            "a backup was written"
        );
        for what in &summary.unreadable {
            tracing::error!("not in the backup {}: {what}", path.display());
        }
        // Older ones may hold what this one does not.
        let is_whole = summary.unreadable.is_empty() && self.quarantined().map_err(folder)?.is_empty();
        if is_whole {
            self.rotate(keep, now).map_err(folder)?;
        } else {
            tracing::warn!("older backups are all kept: something is damaged; `interviewd doctor` says what");
        }
        Ok(())
    }

    fn look_for_room(&self, store: &Store) -> Result<(), Problem> {
        let needed = self.room(store.size_bytes()?);
        let free = std::path::absolute(&self.folder).and_then(|folder| free_bytes(&folder));
        let free = free.map_err(|source| self.folder_problem(source))?;
        if free >= needed {
            return Ok(());
        }
        Err(Problem::NoRoom {
            folder: self.folder.clone(),
            needed_mib: needed >> 20,
            free_mib: free >> 20,
        })
    }

    fn folder_problem(&self, source: io::Error) -> Problem {
        Problem::Folder {
            path: self.folder.clone(),
            source,
        }
    }

    fn rotate(&self, keep: usize, now: Timestamp) -> io::Result<()> {
        let backups = self.list(now)?;
        let old = &backups[..backups.len().saturating_sub(keep)];
        old.iter().try_for_each(|backup| {
            fs::remove_file(&backup.path)?;
            CrashPoint::BackupRemoved.reached();
            Ok(())
        })
    }
}

impl Daemon {
    /// Writes a backup whenever one is due, for as long as the daemon runs.
    pub(super) async fn keep_backups(self: &Arc<Self>) {
        let mut wait = FIRST_LOOK;
        // When the clock is no help, time since then is.
        let (mut tried, mut not_before) = (self.started, self.started);
        loop {
            tokio::time::sleep(wait).await;
            wait = LOOK;
            let settings = self.settings();
            let interval = Duration::from_secs(u64::from(settings.config.backup.every_h) * 3_600);
            if interval.is_zero() || Instant::now() < not_before {
                continue;
            }
            let (daemon, waited) = (Arc::clone(self), tried.elapsed());
            let done = tokio::task::spawn_blocking(move || daemon.back_up_if_due(interval, waited)).await;
            match done {
                Ok(Ok(false)) => {}
                Ok(Ok(true)) => tried = Instant::now(),
                // The daemon is stopping.
                Ok(Err(Problem::Store(StoreError::ShutDown))) => return,
                failed => {
                    let reason = match &failed {
                        Ok(Err(problem)) => with_causes(problem),
                        _ => "it panicked".to_owned(),
                    };
                    tracing::warn!(reason, "no backup was written; the next try is in an hour");
                    (tried, not_before) = (Instant::now(), Instant::now() + NEXT_TRY);
                }
            }
        }
    }

    /// Whether one was written.
    fn back_up_if_due(&self, interval: Duration, waited: Duration) -> Result<bool, Problem> {
        let (settings, now) = (self.settings(), (self.clock)());
        // What concerns the store waits for a restart; it is the open one that is backed up, where its own are.
        let config = Config {
            store: self.started_with.store.clone(),
            ..settings.config.clone()
        };
        let backups = Backups::of_store(self.store.path(), &config);
        let there = backups.list(now).map_err(|source| backups.folder_problem(source))?;
        let newest = there.last().map(|backup| backup.begun_at);
        let is_empty = self.store.counts().iter().all(|(_, count)| *count == 0);
        // Once there are backups an empty store matters: what was deleted must leave them.
        if (newest.is_none() && is_empty) || !is_due(newest, now, waited, interval) {
            return Ok(false);
        }
        backups.write(&self.store, settings.config.backup.keep as usize, now)?;
        Ok(true)
    }

    /// A portion of everything that is stored.
    pub(super) fn export(&self, after: Option<&str>) -> Result<ExportView, Fault> {
        let page = self.store.export(after).map_err(of_store)?;
        let rubrics = page.rubrics.into_iter().map(|rubric| ExportedRubric {
            hash: rubric.hash,
            text: rubric.text,
        });
        Ok(ExportView {
            rubrics: rubrics.collect(),
            interviews: page.interviews,
            unreadable: page.unreadable,
            next: page.next,
        })
    }
}

/// `waited`: since the last backup was tried, or since the start.
fn is_due(newest: Option<Timestamp>, now: Timestamp, waited: Duration, interval: Duration) -> bool {
    match newest {
        None => true,
        Some(newest) if newest <= now => u128::from(now.since(newest)) >= interval.as_millis(),
        // Of a time that has yet to come: the clock was wrong, or is.
        Some(_) => waited >= interval,
    }
}

fn name(begun_at: Timestamp) -> String {
    let moment = jiff::Timestamp::from_millisecond(begun_at.millis()).unwrap_or_default();
    format!("{}{}{}", NAME.0, moment.strftime(MOMENT), NAME.1)
}

fn begun_at(name: &str) -> Option<Timestamp> {
    let moment = name.strip_prefix(NAME.0)?.strip_suffix(NAME.1)?;
    let moment = DateTime::strptime(MOMENT, moment).ok()?.to_zoned(TimeZone::UTC).ok()?;
    Some(Timestamp::from_millis(moment.timestamp().as_millisecond()))
}

/// The names in a folder; none if there is no folder.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

#[cfg(test)]
mod tests;
