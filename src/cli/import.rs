//! `import`: puts an export into the store of a daemon that is stopped, after every line of it was checked.

use std::path::Path;

use serde::Serialize;

use super::args::{Global, Import as Args};
use super::exit::Failure;
use super::interrupt::Interrupt;
use super::leftovers::Leftovers;
use super::text::count;
use super::{output, settings, stopped_store};
use crate::domain::ids::InterviewId;
use crate::store::export_file::Reread;
use crate::store::import::{ExportReader, Restore, Standing};
use crate::store::{Store, StoreError};

/// What is made durable together.
const BATCH_INTERVIEWS: usize = 256;
const BATCH_BYTES: usize = 8 << 20;

/// What was done, or with `--dry-run` would be.
#[derive(Debug, Default, Serialize)]
struct Done {
    imported: usize,
    already_there: usize,
    conflicts: Vec<Conflict>,
    dry_run: bool,
}

/// An interview of the file whose id another one has.
#[derive(Debug, Serialize)]
struct Conflict {
    interview_id: InterviewId,
    differs: &'static str,
}

pub fn run(global: &Global, args: &Args) -> Result<(), Failure> {
    let config = settings::loaded(global)?.config;
    let interrupt = Interrupt::listen(Leftovers::default())?;
    let unread = |error: StoreError| stopped_store::failed(&error).and("nothing was imported");
    let mut file = Reread::open(&args.file).map_err(unread)?;
    // All of it, before the first change.
    batches(&mut file, args, |_| interrupt.check()).map_err(|failure| failure.and("nothing was imported"))?;
    let path = &config.store.path;
    let is_there = stopped_store::is_there(path)?;
    let mut done = Done {
        dry_run: args.dry_run,
        ..Done::default()
    };
    if args.dry_run && !is_there {
        batches(&mut file, args, |batch| {
            done.imported += batch.len();
            Ok(())
        })?;
    } else {
        let store = stopped_store::open(path)?;
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.map_err(|error| Failure::failed(format!("no threads can be started: {error}")))?;
        let put = batches(&mut file, args, |batch| {
            interrupt.check()?;
            runtime.block_on(put(&store, batch, &mut done))
        });
        runtime.block_on(store.shut_down());
        if matches!(put, Err(Failure::Interrupted)) {
            output::note("interrupted; what was imported stays, and importing again goes on from there");
        }
        put?;
    }
    show(&done, args, path)
}

/// Reads the file from its beginning, in portions.
fn batches(
    file: &mut Reread,
    args: &Args,
    mut take: impl FnMut(Vec<Restore>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let lines = file.lines().map_err(|error| stopped_store::failed(&error))?;
    let bad = |bad| Failure::failed(format!("{}, {bad}", args.file.display()));
    let mut reader = ExportReader::open(lines).map_err(bad)?;
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while let Some(interview) = reader.next_interview().map_err(bad)? {
        bytes += interview.bytes;
        batch.push(interview);
        if batch.len() >= BATCH_INTERVIEWS || bytes >= BATCH_BYTES {
            take(std::mem::take(&mut batch))?;
            bytes = 0;
        }
    }
    take(batch)
}

async fn put(store: &Store, batch: Vec<Restore>, done: &mut Done) -> Result<(), Failure> {
    let ids: Vec<_> = batch.iter().map(|one| one.entry.interview.id.clone()).collect();
    let failed = |error| stopped_store::failed(&error);
    let standings = match done.dry_run {
        true => batch.iter().map(|one| store.standing(&one.entry)).collect(),
        false => store.restore(batch).await,
    };
    for (interview_id, standing) in ids.into_iter().zip(standings.map_err(failed)?) {
        match standing {
            Standing::New => done.imported += 1,
            Standing::AlreadyThere => done.already_there += 1,
            Standing::Conflict(differs) => done.conflicts.push(Conflict { interview_id, differs }),
        }
    }
    Ok(())
}

fn show(done: &Done, args: &Args, store: &Path) -> Result<(), Failure> {
    for conflict in &done.conflicts {
        output::note(&format!(
            "{} was not imported: an interview of this id is there, with another {}; that one stays",
            conflict.interview_id, conflict.differs
        ));
    }
    match args.json {
        true => output::json(done)?,
        false => output::line(&described(done, store))?,
    }
    match done.conflicts.len() {
        0 => Ok(()),
        conflicts => Err(Failure::failed(format!(
            "{} of the file could not be imported",
            count(conflicts, "interview")
        ))),
    }
}

fn described(done: &Done, store: &Path) -> String {
    let (verb, rest) = match done.dry_run {
        true => ("would be imported", ""),
        false => ("imported", "; unfinished ones go on at the next start"),
    };
    format!(
        "{} {verb} into {}, {} there already, {}{rest}",
        count(done.imported, "interview"),
        store.display(),
        done.already_there,
        count(done.conflicts.len(), "conflict")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_one_sentence_and_says_whether_it_was_done() {
        let mut done = Done {
            imported: 12,
            already_there: 3,
            ..Done::default()
        };
        assert_eq!(
            described(&done, Path::new("run/store")),
            "12 interviews imported into run/store, 3 there already, 0 conflicts; unfinished ones go on at the next start"
        );
        done.dry_run = true;
        assert_eq!(
            described(&done, Path::new("run/store")),
            "12 interviews would be imported into run/store, 3 there already, 0 conflicts"
        );
    }
}
