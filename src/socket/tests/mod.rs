//! The socket as clients find it: a server on a real socket in a folder of its own, with a service that does as it is told.

mod clients;
mod events;
mod life;
mod limits;
mod reading;
mod requests;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time;

use super::call::Call;
use super::fault::{Fault, Kind};
use super::hub::Hub;
use super::listener::{self, Connections};
use super::options::Options;
use super::server;
use super::service::{Answering, Role, Service, reply};
use crate::domain::event::{Event, EventKind};
use crate::domain::ids::InterviewId;

/// Long enough for a busy machine, short enough for a test that fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static LAST: AtomicUsize = AtomicUsize::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("interviewd-socket-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Answers by what it is asked for; remembers what it carried out.
#[derive(Default)]
struct Obedient {
    done: Mutex<Vec<String>>,
    /// Whether a `retry` or a `list` may end.
    lets_end: AtomicBool,
}

impl Obedient {
    fn done(&self) -> Vec<String> {
        self.done.lock().unwrap().clone()
    }

    fn note(&self, what: String) {
        self.done.lock().unwrap().push(what);
    }

    async fn answer(&self, role: Role, call: Call) -> Result<Value, Fault> {
        match call {
            Call::Hello => Ok(json!({ "role": role })),
            Call::Submit(draft) => {
                self.note(format!("submit {}", draft.answers.len()));
                Ok(json!({ "answers": draft.answers.len() }))
            }
            Call::Retry { .. } | Call::List(_) => {
                self.note("begun".to_owned());
                while !self.lets_end.load(Ordering::Relaxed) {
                    time::sleep(Duration::from_millis(5)).await;
                }
                self.note("ended".to_owned());
                Ok(json!({}))
            }
            Call::WaitForReport { timeout_ms, .. } => {
                time::sleep(Duration::from_millis(timeout_ms)).await;
                self.note(format!("waited {timeout_ms}"));
                Ok(json!({ "waited": timeout_ms }))
            }
            Call::Get { interview_id } => match interview_id.as_str() {
                "panic" => panic!("told to"),
                "bug" => Err(Fault::new(Kind::Internal, "a secret of the house")),
                other => Err(Fault::not_found(format!("no interview {other}"))),
            },
            // As many bytes as the id says.
            Call::Report { interview_id, .. } => Ok(json!("x".repeat(interview_id.parse().unwrap()))),
            other => {
                self.note(format!("{other:?}"));
                Ok(json!({}))
            }
        }
    }
}

impl Service for Obedient {
    fn call(&self, role: Role, call: Call) -> Answering<'_> {
        Box::pin(async move { reply(&self.answer(role, call).await?) })
    }

    fn knows(&self, id: &InterviewId) -> Result<bool, Fault> {
        assert_ne!(id.as_str(), "panic", "told to");
        Ok(id.as_str() != "unknown")
    }
}

/// A running server.
struct Daemon {
    folder: Folder,
    path: PathBuf,
    service: Arc<Obedient>,
    hub: Arc<Hub>,
    connections: Connections,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Daemon {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let folder = Folder::new();
        let path = folder.0.join("run/s");
        let mut options = Options {
            path: path.clone(),
            ..Options::default()
        };
        change(&mut options);
        let bound = listener::bind(&options).await.unwrap();
        let (service, hub) = (Arc::<Obedient>::default(), Arc::<Hub>::default());
        let connections = bound.connections();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { stopped.await.unwrap_or(()) };
        let running = server::run(
            bound,
            Arc::clone(&service) as Arc<dyn Service>,
            Arc::clone(&hub),
            Arc::new(options),
            shutdown,
        );
        Self {
            folder,
            path,
            service,
            hub,
            connections,
            stop: Some(stop),
            task: tokio::spawn(running),
        }
    }

    async fn peer(&self) -> Peer {
        Peer::new(UnixStream::connect(&self.path).await.unwrap())
    }

    /// Tells the server to stop; it may take its time.
    fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    async fn stopped(self) {
        time::timeout(PATIENCE, self.task).await.expect("it stops").unwrap();
    }

    fn publish(&self, interview: &str, done: usize) {
        self.hub.publish(&event(interview, done));
    }
}

fn event(interview: &str, done: usize) -> Event {
    Event {
        interview_id: InterviewId::parse(interview).unwrap(),
        kind: EventKind::Accepted,
        done,
        total: 9,
    }
}

/// The other end of a connection, byte by byte.
struct Peer {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

impl Peer {
    fn new(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        let read = BufReader::new(read);
        Self { read, write }
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.write.write_all(bytes.as_ref()).await.unwrap();
    }

    async fn request(&mut self, id: u64, method: &str, params: Value) {
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.send(format!("{request}\n")).await;
    }

    /// The next line; `None` at the end.
    async fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        match time::timeout(PATIENCE, self.read.read_line(&mut line))
            .await
            .expect("a line or the end")
        {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).expect("nothing but JSON is written")),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
                None
            }
        }
    }

    async fn reply(&mut self) -> Value {
        self.line().await.expect("the connection is open")
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.request(1, method, params).await;
        self.reply().await
    }

    /// Sends a line and gives the kind and message of the error that comes back.
    async fn refusal(&mut self, line: impl AsRef<[u8]>) -> (String, String) {
        self.send(line.as_ref()).await;
        self.send("\n").await;
        refusal(&self.reply().await)
    }

    async fn half_close(&mut self) {
        self.write.shutdown().await.unwrap();
    }
}

fn kind(reply: &Value) -> &str {
    reply["error"]["data"]["kind"].as_str().expect("an error")
}

fn refusal(reply: &Value) -> (String, String) {
    let message = reply["error"]["message"].as_str().expect("an error");
    (kind(reply).to_owned(), message.to_owned())
}

/// Waits until it is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}
