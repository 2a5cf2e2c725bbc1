//! The demo's own daemon: a child process in a folder of its own, with the bundled model.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::exit::Failure;
use super::interrupt::Interrupt;
use super::leftovers::Leftovers;
use super::output;
use super::text::one_line;
use crate::runtime::demo_model;
use crate::socket::view::{DaemonState, StatusView};

/// A Unix socket's path has at most 107 bytes; the rest is for the socket's own name.
const FOLDER_BYTES_MAX: usize = 80;
const READY_WITHIN: Duration = Duration::from_secs(120);
/// No method that the demo calls takes long.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const LOG_LINES_SHOWN: usize = 8;
/// The interview in the demo's folder.
pub const INTERVIEW_FILE: &str = "interview.json";

pub struct DemoDaemon {
    leftovers: Leftovers,
    socket: PathBuf,
    log: PathBuf,
}

impl DemoDaemon {
    /// Makes the folder and starts the daemon. `sets` are further `section.key=value`.
    pub fn start(
        keep: Option<&Path>,
        library: Option<&Path>,
        sets: &[String],
        leftovers: &Leftovers,
    ) -> Result<Self, Failure> {
        let folder = match keep {
            Some(keep) => kept(keep)?,
            None => {
                let folder = fresh()?;
                leftovers.folder(folder.clone());
                folder
            }
        };
        let model = folder.join("model");
        demo_model::unpack(&model).map_err(|error| Failure::failed(Failure::chain("the demo model", &error)))?;
        let daemon = Self {
            leftovers: leftovers.clone(),
            socket: folder.join("interviewd.sock"),
            log: folder.join("daemon.log"),
        };
        let interview = folder.join(INTERVIEW_FILE);
        fs::write(&interview, demo_model::INTERVIEW).map_err(|error| file_failure(&interview, &error))?;
        let config = folder.join("config.toml");
        let text = daemon.config(&folder, &model, library);
        fs::write(&config, text).map_err(|error| file_failure(&config, &error))?;
        daemon.spawn(&config, sets)?;
        Ok(daemon)
    }

    fn config(&self, folder: &Path, model: &Path, library: Option<&Path>) -> String {
        let text = |path: &Path| toml::Value::from(path.to_string_lossy().into_owned());
        let mut lines = vec![
            // Whoever interrupts a demo does not wait for its answers.
            "[daemon]\ndrain_s = 0".to_owned(),
            format!("[socket]\npath = {}", text(&self.socket)),
            format!("[store]\npath = {}", text(&folder.join("store"))),
            "[backup]\nevery_h = 0".to_owned(),
            format!("[model]\npath = {}", text(model)),
        ];
        if let Some(library) = library {
            lines.push(format!("[runtime]\nlibrary = {}", text(library)));
        }
        lines.join("\n\n") + "\n"
    }

    fn spawn(&self, config: &Path, sets: &[String]) -> Result<(), Failure> {
        use std::os::unix::process::CommandExt;

        let program = std::env::current_exe()
            .map_err(|error| Failure::failed(format!("this program's own file cannot be found: {error}")))?;
        let log = File::create(&self.log).map_err(|error| file_failure(&self.log, &error))?;
        let mut command = Command::new(program);
        command.arg("serve").arg("--config").arg(config);
        command.arg("--with-parent").arg(std::process::id().to_string());
        command.args(sets.iter().flat_map(|set| ["--set", set]));
        // The environment of a real daemon has no say here.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"INTERVIEWD__") {
                command.env_remove(name);
            }
        }
        // In a group of its own a terminal's Ctrl-C does not reach it: it is for this process to end it.
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = command
            .spawn()
            .map_err(|error| Failure::failed(format!("the daemon cannot be started: {error}")))?;
        self.leftovers.child(child);
        Ok(())
    }

    /// Waits until it scores, and gives its status then.
    pub fn ready(&self, interrupt: &Interrupt) -> Result<StatusView, Failure> {
        let deadline = Instant::now() + READY_WITHIN;
        let mut connection = None;
        while Instant::now() < deadline {
            interrupt.check()?;
            self.alive()?;
            if connection.is_none() {
                connection = self.connect().ok();
            }
            if let Some(connection) = &mut connection {
                let status: StatusView = connection.call("status", ())?;
                match status.state {
                    DaemonState::Ready => return Ok(status),
                    DaemonState::Starting => {}
                    DaemonState::Degraded | DaemonState::Draining => {
                        let reason = status.reason.unwrap_or_else(|| "it gives no reason".to_owned());
                        return Err(Failure::failed(format!(
                            "the daemon cannot score: {}",
                            one_line(&reason)
                        )));
                    }
                }
            }
            sleep(LOOK_AGAIN);
        }
        Err(Failure::failed(format!(
            "the daemon was not ready within {} s",
            READY_WITHIN.as_secs()
        )))
    }

    pub fn connect(&self) -> Result<Connection, Failure> {
        let mut connection = Connection::to(&self.socket)?;
        connection.set_timeout(ANSWER_WITHIN);
        Ok(connection)
    }

    /// The end of the daemon, if that is why something failed; otherwise the failure as it is. Shows the last lines of the daemon's log.
    pub fn blamed(&self, failure: Failure) -> Failure {
        if !matches!(failure, Failure::Told { .. }) {
            return failure;
        }
        // The connection breaks a moment before the process has ended.
        for _ in 0..10 {
            if self.leftovers.ended().is_some() {
                break;
            }
            sleep(LOOK_AGAIN);
        }
        self.show_log();
        match self.alive() {
            Ok(()) => failure,
            Err(ended) => ended,
        }
    }

    /// An error once it has ended.
    pub fn alive(&self) -> Result<(), Failure> {
        match self.leftovers.ended() {
            None => Ok(()),
            Some(status) => Err(Failure::failed(format!("the daemon has ended ({status})"))),
        }
    }

    fn show_log(&self) {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        for line in &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..] {
            output::note(&format!("daemon: {}", one_line(line)));
        }
    }
}

/// A new folder that only this user may enter.
fn fresh() -> Result<PathBuf, Failure> {
    let usual = std::env::temp_dir();
    let place = if usual.as_os_str().len() <= FOLDER_BYTES_MAX {
        usual
    } else {
        PathBuf::from("/tmp")
    };
    let folder = tempfile::Builder::new().prefix("interviewd-demo-").tempdir_in(&place);
    let folder =
        folder.map_err(|error| Failure::failed(format!("no folder can be made in {}: {error}", place.display())))?;
    // From here on whoever clears the leftovers removes it.
    Ok(folder.keep())
}

/// The user's own folder, which stays.
fn kept(folder: &Path) -> Result<PathBuf, Failure> {
    fs::create_dir_all(folder).map_err(|error| file_failure(folder, &error))?;
    let absolute = fs::canonicalize(folder).map_err(|error| file_failure(folder, &error))?;
    let mut entries = fs::read_dir(&absolute).map_err(|error| file_failure(folder, &error))?;
    if entries.next().is_some() {
        return Err(Failure::failed(format!(
            "{} is not empty; --keep wants a new folder",
            folder.display()
        )));
    }
    if absolute.as_os_str().len() > FOLDER_BYTES_MAX {
        let problem = "is too long a path for a socket; --keep wants one of at most 80 bytes";
        return Err(Failure::failed(format!("{} {problem}", absolute.display())));
    }
    Ok(absolute)
}

fn file_failure(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{} cannot be written: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, load};

    #[test]
    fn the_demos_configuration_is_one_that_the_daemon_takes() {
        let folder = fresh().unwrap();
        let odd = folder.join("mod\"el\\ 모델");
        let daemon = DemoDaemon {
            leftovers: Leftovers::default(),
            socket: folder.join("interviewd.sock"),
            log: folder.join("daemon.log"),
        };
        let file = folder.join("config.toml");
        fs::write(
            &file,
            daemon.config(&folder, &odd, Some(Path::new("/lib/libonnxruntime.so"))),
        )
        .unwrap();
        let loaded = load(&Source {
            config: Some(file),
            environment: Vec::new(),
            directory: folder.clone(),
            system_file: folder.join("none"),
            sets: Vec::new(),
        });
        fs::remove_dir_all(&folder).unwrap();
        let config = loaded.unwrap().config;
        assert_eq!(config.daemon.drain_s, 0);
        assert_eq!(config.model.path, odd);
        assert_eq!(config.socket.path, folder.join("interviewd.sock"));
        assert_eq!(config.runtime.library, Some("/lib/libonnxruntime.so".into()));
    }

    #[test]
    fn a_folder_with_something_in_it_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        assert!(kept(&folder.path().join("new")).is_ok());
        assert!(kept(folder.path()).unwrap_err().to_string().contains("is not empty"));
        let long = folder.path().join("x".repeat(100));
        assert!(kept(&long).unwrap_err().to_string().contains("too long"));
    }
}
