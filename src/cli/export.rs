//! `export`: everything that is stored, from a running daemon or from the folder of one that is stopped.

use std::io::{self, BufWriter};
use std::path::Path;

use serde::Serialize;

use super::args::{Export as Args, Global};
use super::connection::Connection;
use super::exit::Failure;
use super::interrupt::Interrupt;
use super::leftovers::Leftovers;
use super::text::{count, one_line};
use super::{output, settings, stopped_store};
use crate::config::Config;
use crate::daemon::backup::Backups;
use crate::daemon::now;
use crate::socket::client::ClientError;
use crate::socket::view::ExportView;
use crate::store::export::{ExportWriter, Page, RubricText, Summary};
use crate::store::export_file::ExportFile;
use crate::store::{Store, is_in_use};

/// Where it is read from.
enum Origin {
    Daemon(Connection),
    Store(Store),
}

#[derive(Serialize)]
struct Params<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<&'a str>,
}

pub fn run(global: &Global, args: &Args) -> Result<(), Failure> {
    let file = match &args.file {
        Some(file) => Some(file.as_path()).filter(|file| *file != Path::new("-")),
        None if output::stdout_is_watched() => {
            let problem =
                "an export is no text for a terminal, and it is personal data: name a file, or `-` for standard output";
            return Err(Failure::usage(problem));
        }
        None => None,
    };
    // One that is interrupted leaves no half file.
    let leftovers = Leftovers::default();
    let interrupt = Interrupt::listen(leftovers.clone())?;
    let mut origin = Origin::open(global)?;
    let summary = match file {
        Some(file) => into_file(&mut origin, file, &interrupt, &leftovers)?,
        None => into_stdout(&mut origin, &interrupt)?,
    };
    output::note(&match file {
        Some(file) => format!(
            "{} in {}",
            count(summary.interviews as usize, "interview"),
            file.display()
        ),
        None => count(summary.interviews as usize, "interview"),
    });
    complete(&summary)
}

fn into_file(
    origin: &mut Origin,
    file: &Path,
    interrupt: &Interrupt,
    leftovers: &Leftovers,
) -> Result<Summary, Failure> {
    let failed = |error| stopped_store::failed(&error);
    let mut export = ExportFile::create(file, now()).map_err(failed)?;
    leftovers.file(export.partial().to_owned());
    origin.pages(interrupt, |page| export.page(page).map_err(failed))?;
    export.finish().map_err(failed)
}

fn into_stdout(origin: &mut Origin, interrupt: &Interrupt) -> Result<Summary, Failure> {
    let out = BufWriter::new(io::stdout().lock());
    let mut writer = ExportWriter::begin(out, now()).map_err(Failure::output)?;
    origin.pages(interrupt, |page| writer.page(page).map_err(Failure::output))?;
    let (_, summary) = writer.end().map_err(Failure::output)?;
    Ok(summary)
}

/// An error if something of the store could not be read.
fn complete(summary: &Summary) -> Result<(), Failure> {
    for what in &summary.unreadable {
        output::note(&one_line(what));
    }
    match summary.unreadable.len() {
        0 => Ok(()),
        missing => Err(Failure::failed(format!(
            "{} cannot be read any more and is not in the export; an older backup may have it",
            count(missing, "interview")
        ))),
    }
}

impl Origin {
    /// The daemon where one answers: its store is locked.
    fn open(global: &Global) -> Result<Self, Failure> {
        if settings::named_socket(global)?.is_some() {
            return Ok(Self::Daemon(Connection::open(global)?));
        }
        let config = settings::loaded(global)?.config;
        match Connection::to(&config.socket.path) {
            Ok(connection) => Ok(Self::Daemon(connection)),
            Err(ClientError::Connect { .. }) => Self::stopped(&config),
            Err(error) => Err(error.into()),
        }
    }

    fn stopped(config: &Config) -> Result<Self, Failure> {
        let path = &config.store.path;
        if !stopped_store::is_there(path)? {
            let message = format!("there is no store at {} (store.path)", path.display());
            return Err(Failure::failed(message));
        }
        if is_in_use(path).map_err(|error| stopped_store::failed(&error))? {
            return Err(Failure::failed(format!(
                "the store at {} is in use by a daemon that does not answer at {}; name its socket with --socket, or stop it. Its own backups \
                 are in {}, and are exports as they are",
                path.display(),
                config.socket.path.display(),
                Backups::of(config).folder.display()
            )));
        }
        Ok(Self::Store(stopped_store::open(path)?))
    }

    fn pages(
        &mut self,
        interrupt: &Interrupt,
        mut take: impl FnMut(Page) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut after: Option<String> = None;
        loop {
            interrupt.check()?;
            let page = self.page(after.as_deref())?;
            after.clone_from(&page.next);
            take(page)?;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    fn page(&mut self, after: Option<&str>) -> Result<Page, Failure> {
        match self {
            Self::Store(store) => store.export(after).map_err(|error| stopped_store::failed(&error)),
            Self::Daemon(connection) => {
                let view: ExportView = connection.call("store.export", Params { after })?;
                let rubrics = view.rubrics.into_iter().map(|rubric| RubricText {
                    hash: rubric.hash,
                    text: rubric.text,
                });
                Ok(Page {
                    rubrics: rubrics.collect(),
                    interviews: view.interviews,
                    unreadable: view.unreadable,
                    next: view.next,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_read_is_a_failure_that_says_how_much_is_missing() {
        assert!(complete(&Summary::default()).is_ok());
        let summary = Summary {
            interviews: 3,
            unreadable: vec!["the interview iv-1 is missing from the store".into()],
        };
        let failure = complete(&summary).unwrap_err();
        assert_eq!(failure.exit() as u8, 1);
        assert!(
            failure.to_string().starts_with("1 interview cannot be read"),
            "{failure}"
        );
    }
}
