//! What the end-to-end tests share: the real binary in a fresh folder, and a client that speaks to its socket.
#![allow(dead_code, reason = "every test file uses its own part of this")]

pub mod model_files;
pub mod process;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// What a model can be told to fail on.
pub const STAR: &str = "★";

/// Nothing in a test waits longer than this.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A folder with a configuration and a model, in which daemons can be started one after the other.
pub struct World {
    pub folder: TempDir,
    pub sets: Vec<String>,
}

/// A running `interviewd serve`. Killed when dropped.
pub struct Daemon {
    child: Child,
    pub socket: PathBuf,
}

/// A connection.
pub struct Client {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    next_id: u64,
    /// Notifications that came while a reply was awaited.
    pub events: Vec<Value>,
}

/// An error of the protocol.
#[derive(Debug, Clone)]
pub struct Fault(pub Value);

impl Fault {
    pub fn kind(&self) -> &str {
        self.0["data"]["kind"].as_str().unwrap()
    }

    pub fn message(&self) -> &str {
        self.0["message"].as_str().unwrap()
    }
}

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_interviewd")
}

/// The interview that the demo is about: 17 answers, with the given id.
pub fn demo_interview(id: &str) -> Value {
    let text = std::fs::read_to_string(repository().join("models/demo/interview.json")).unwrap();
    let mut interview: Value = serde_json::from_str(&text).unwrap();
    interview["interview_id"] = json!(id);
    interview
}

/// A short interview with answers of the given texts.
pub fn interview(id: &str, answers: &[&str]) -> Value {
    let stages = [
        "intro",
        "motivation",
        "skill",
        "experience",
        "problem_solving",
        "growth",
    ];
    let answers: Vec<_> = answers
        .iter()
        .enumerate()
        .map(|(index, text)| json!({"stage": stages[index % stages.len()], "question": "말씀해 주세요.", "answer": text}))
        .collect();
    json!({"interview_id": id, "answers": answers})
}

impl World {
    /// The demo model, run by ONNX Runtime on the CPU. Provisions the runtime if it is not there.
    pub fn demo() -> Self {
        static PROVISIONED: Once = Once::new();
        PROVISIONED.call_once(|| {
            let setup = Command::new(binary()).arg("setup").output().unwrap();
            assert!(
                setup.status.success(),
                "setup: {}",
                String::from_utf8_lossy(&setup.stderr)
            );
        });
        Self::with_model(&repository().join("models/demo"))
    }

    /// The demo model's tokenizer and grammar, but nothing is computed: every run takes `step_ms`.
    pub fn simulated(step_ms: u64) -> Self {
        let world = Self::with_model(Path::new("model"));
        let model = world.folder.path().join("model");
        std::fs::create_dir(&model).unwrap();
        for file in std::fs::read_dir(repository().join("models/demo")).unwrap() {
            let file = file.unwrap();
            std::os::unix::fs::symlink(file.path(), model.join(file.file_name())).unwrap();
        }
        let simulated = json!({"seed": 7, "step_ms": step_ms}).to_string();
        std::fs::write(model.join("simulated.json"), simulated).unwrap();
        world
    }

    /// Has a simulated model fail on every prompt with a [`STAR`], or on none.
    pub fn fail_on_stars(&self, fails: bool) {
        let tokenizer = tokenizers::Tokenizer::from_file(repository().join("models/demo/tokenizer.json")).unwrap();
        let star = tokenizer.encode(STAR, false).unwrap();
        let file = self.path("model/simulated.json");
        let mut simulated: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let fault = json!({"when": {"token": star.get_ids().last().unwrap()}, "what": "failed"});
        simulated["faults"] = json!(Vec::from_iter(fails.then_some(fault)));
        std::fs::write(file, simulated.to_string()).unwrap();
    }

    /// A model of that folder, which may be relative to the world's own.
    pub fn with_model(model: &Path) -> Self {
        let sets = vec![
            format!("model.path={}", model.display()),
            "socket.path=d.sock".to_owned(),
            "store.path=store".to_owned(),
            "pool.device=cpu".to_owned(),
        ];
        Self {
            folder: TempDir::new().unwrap(),
            sets,
        }
    }

    /// With one more `--set`; it overrides earlier ones of the same key.
    #[must_use]
    pub fn set(mut self, setting: &str) -> Self {
        let key = setting.split_once('=').unwrap().0;
        self.sets.retain(|set| set.split_once('=').unwrap().0 != key);
        self.sets.push(setting.to_owned());
        self
    }

    /// Without a `--set`, so that `config.toml` decides.
    #[must_use]
    pub fn unset(mut self, key: &str) -> Self {
        self.sets.retain(|set| set.split_once('=').unwrap().0 != key);
        self
    }

    /// Writes `config.toml`, which the next start or `config.reload` reads; what is `set` is stronger.
    pub fn configure(&self, text: &str) {
        std::fs::write(self.path("config.toml"), text).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `interviewd` in this world's folder, without the surroundings' configuration.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(binary());
        command.args(arguments);
        command
    }

    /// A verb of the command line with everything that is `set`.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        for set in &self.sets {
            command.args(["--set", set]);
        }
        command.output().unwrap()
    }

    fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("INTERVIEWD__") || name == "INTERVIEWD_CONFIG" {
                command.env_remove(name);
            }
        }
        command
    }

    /// `interviewd serve` with everything that is `set`.
    pub fn serve(&self) -> Command {
        let mut command = self.command(&["serve"]);
        for set in &self.sets {
            command.args(["--set", set]);
        }
        command
    }

    /// As [`Self::serve`], from a shell that does something before it becomes the daemon.
    pub fn serve_after(&self, preparation: &str) -> Command {
        let serve = self.serve();
        let mut shell = self.program("sh");
        shell.args(["-c", &format!("{preparation}; exec \"$@\""), "sh"]);
        shell.arg(serve.get_program()).args(serve.get_args());
        shell
    }

    /// Starts a daemon and waits until it accepts connections.
    pub fn start(&self) -> Daemon {
        self.start_by(self.serve())
    }

    /// As [`Self::start`], by a command that becomes the daemon.
    pub fn start_by(&self, mut command: Command) -> Daemon {
        self.launch(&mut command)
            .unwrap_or_else(|status| panic!("{status}; log:\n{}", self.log()))
    }

    /// As [`Self::start_by`]; an error if it ends before it accepts connections.
    pub fn launch(&self, serve: &mut Command) -> Result<Daemon, ExitStatus> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .unwrap();
        let mut child = serve.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        if line.is_empty() {
            return Err(child.wait().unwrap());
        }
        assert!(line.starts_with("ready socket="), "{line:?}; log:\n{}", self.log());
        Ok(Daemon {
            child,
            socket: self.folder.path().join("d.sock"),
        })
    }

    /// Starts a daemon and waits until its model takes work.
    pub fn start_ready(&self) -> Daemon {
        let daemon = self.start();
        let mut client = daemon.connect();
        let state = eventually("the daemon is ready", || {
            let status = client.call("status", json!({})).unwrap();
            (status["state"] != "starting").then_some(status)
        });
        assert_eq!(state["state"], "ready", "{state}\nlog:\n{}", self.log());
        daemon
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Daemon {
    pub fn connect(&self) -> Client {
        Client::connect(&self.socket)
    }

    /// `None` if it is gone.
    pub fn try_connect(&self) -> Option<Client> {
        UnixStream::connect(&self.socket).ok().map(Client::over)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Waits for the process to end.
    pub fn wait(mut self) -> ExitStatus {
        eventually("the daemon has ended", || self.child.try_wait().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Client {
    pub fn connect(socket: &Path) -> Self {
        Self::over(UnixStream::connect(socket).unwrap())
    }

    fn over(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            reader: BufReader::new(stream.try_clone().unwrap()),
            writer: stream,
            next_id: 1,
            events: Vec::new(),
        }
    }

    /// Sends a request and waits for its reply.
    pub fn call(&mut self, method: &str, params: Value) -> Result<Value, Fault> {
        let id = self.send(method, params);
        self.reply(id)
    }

    /// As [`Self::call`]; `None` if the daemon is gone before it has replied.
    pub fn try_call(&mut self, method: &str, params: Value) -> Option<Result<Value, Fault>> {
        let request = json!({"jsonrpc": "2.0", "id": self.next_id, "method": method, "params": params});
        self.next_id += 1;
        self.writer.write_all(format!("{request}\n").as_bytes()).ok()?;
        loop {
            let line = self.try_line()?;
            if line.get("method").is_none() {
                assert_eq!(line["id"], request["id"], "{line}");
                return Some(result_of(line));
            }
            self.events.push(line["params"].clone());
        }
    }

    /// The next whole line; `None` if the daemon is gone.
    pub fn try_line(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = self.reader.read_line(&mut line).ok()?;
        (read > 0 && line.ends_with('\n')).then(|| serde_json::from_str(&line).unwrap())
    }

    pub fn send(&mut self, method: &str, params: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.send_line(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string());
        id
    }

    pub fn send_line(&mut self, line: &str) {
        self.send_bytes(format!("{line}\n").as_bytes());
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).unwrap();
    }

    /// The reply to a request; notifications before it are kept in `events`.
    pub fn reply(&mut self, id: u64) -> Result<Value, Fault> {
        loop {
            let line = self.line().expect("the daemon closed the connection before it replied");
            if line.get("method").is_some() {
                self.events.push(line["params"].clone());
            } else {
                assert_eq!(line["id"], id, "{line}");
                return result_of(line);
            }
        }
    }

    /// The next line, whatever it is; `None` at the end.
    pub fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.reader.read_line(&mut line).unwrap() {
            0 => None,
            _ => Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))),
        }
    }

    /// The next event.
    pub fn event(&mut self) -> Value {
        if self.events.is_empty() {
            let line = self.line().expect("the daemon closed the connection");
            assert_eq!(line["method"], "event", "{line}");
            return line["params"].clone();
        }
        self.events.remove(0)
    }

    /// Submits and waits for the report.
    pub fn report(&mut self, interview: Value) -> Value {
        let submitted = self.call("interview.submit", json!({"interview": interview})).unwrap();
        self.wait_for_report(submitted["interview_id"].as_str().unwrap())
    }

    pub fn wait_for_report(&mut self, id: &str) -> Value {
        let timeout_ms = PATIENCE.as_millis() as u64;
        let waited = self.call("report.wait", json!({"interview_id": id, "timeout_ms": timeout_ms}));
        waited.unwrap()["report"].clone()
    }
}

/// What a reply says.
pub fn result_of(reply: Value) -> Result<Value, Fault> {
    assert_eq!(reply["jsonrpc"], "2.0", "{reply}");
    match reply.get("error") {
        Some(error) => Err(Fault(error.clone())),
        None => Ok(reply["result"].clone()),
    }
}

/// Asks again and again until there is something.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Of a report, what must be the same however often and in whatever company an answer is scored.
pub fn judgement(answer: &Value) -> Value {
    json!({
        "state": answer["state"], "score": answer["score"], "criteria": answer["criteria"], "feedback": answer["feedback"],
        "flags": answer["flags"],
    })
}
