//! A blocking client, for the command line and for tests.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::fault::{Fault, Kind};
use super::lines::EVENT_METHOD;
use super::notification::EventNotification;

/// Longest line that is read: far more than any reply has.
const LINE_BYTES_MAX: usize = 64 << 20;
const READ_BYTES: usize = 64 << 10;
/// A timeout of zero would mean none.
const READ_TIME_MIN: Duration = Duration::from_millis(1);

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot connect to {}: {}", path.display(), hint(source))]
    Connect {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// What the daemon answered.
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("the connection to the daemon broke: {0}")]
    Io(#[from] io::Error),
    #[error("the daemon closed the connection; its log says why")]
    Closed,
    #[error("the daemon did not answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    #[error("the daemon is not understood ({0}); is it of another version?")]
    Protocol(String),
}

fn hint(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => {
            "there is no such socket; is the daemon running? `interviewd serve` starts it".to_owned()
        }
        ErrorKind::ConnectionRefused => {
            "nobody listens there: the daemon has gone without cleaning up; `interviewd serve` starts it".to_owned()
        }
        ErrorKind::PermissionDenied => {
            "permission denied: it is open to the daemon's own user and group; join the group or use that user"
                .to_owned()
        }
        _ => error.to_string(),
    }
}

/// One connection to the daemon, one request at a time.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    timeout: Option<Duration>,
    last_id: u64,
    /// What was read; lines up to `start` are done with.
    buffer: Vec<u8>,
    start: usize,
    /// Up to where `buffer` has no line break.
    scanned: usize,
    events: VecDeque<EventNotification>,
}

#[derive(Serialize)]
struct Request<'a> {
    jsonrpc: &'static str,
    id: u64,
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<&'a RawValue>,
}

/// A line of the daemon.
#[derive(Deserialize)]
struct Incoming {
    id: Option<u64>,
    method: Option<String>,
    params: Option<Box<RawValue>>,
    result: Option<Box<RawValue>>,
    error: Option<ErrorObject>,
}

#[derive(Deserialize)]
struct ErrorObject {
    code: i32,
    message: String,
    #[serde(default)]
    data: Map<String, Value>,
}

impl TryFrom<ErrorObject> for Fault {
    type Error = ClientError;

    fn try_from(error: ErrorObject) -> Result<Self, ClientError> {
        let ErrorObject {
            code,
            message,
            mut data,
        } = error;
        let kind = data.remove("kind").unwrap_or_default();
        match Kind::deserialize(&kind) {
            Ok(kind) => Ok(Self { kind, message, data }),
            Err(_) => Err(ClientError::Protocol(format!("error {code} of kind {kind}: {message}"))),
        }
    }
}

impl Client {
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path).map_err(|source| ClientError::Connect {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            stream,
            timeout: None,
            last_id: 0,
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            events: VecDeque::new(),
        })
    }

    /// How long every later call may take; `None`, as at first: as long as the daemon does.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// Asks and waits for the answer; `&()` stands for no parameters. Events that come meanwhile are kept for [`Self::next_event`].
    pub fn call<P, R>(&mut self, method: &str, params: &P) -> Result<R, ClientError>
    where
        P: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        self.last_id += 1;
        let line = self.request(method, params)?;
        self.stream.set_write_timeout(self.timeout)?;
        match self.stream.write_all(&line) {
            Ok(()) => {}
            // A daemon that refuses a connection says why before it closes it: that is to be read still.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            Err(error) => {
                // Half a line may be out: nothing can follow it.
                self.stream.shutdown(Shutdown::Both)?;
                return Err(match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => self.timed_out(),
                    _ => error.into(),
                });
            }
        }
        let result = self.reply(deadline)?;
        typed(&result, method)
    }

    /// The next event of any subscription; `None` after `timeout`.
    pub fn next_event(&mut self, timeout: Option<Duration>) -> Result<Option<EventNotification>, ClientError> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            let Some(line) = self.line(deadline)? else {
                return Ok(None);
            };
            self.take(&line)?;
        }
    }

    fn request<P: Serialize + ?Sized>(&self, method: &str, params: &P) -> Result<Vec<u8>, ClientError> {
        let unwritable = |error| ClientError::Protocol(format!("the parameters of {method} are no JSON: {error}"));
        let params = serde_json::value::to_raw_value(params).map_err(unwritable)?;
        let request = Request {
            jsonrpc: "2.0",
            id: self.last_id,
            method,
            params: (params.get() != "null").then_some(&*params),
        };
        let mut line = serde_json::to_vec(&request).map_err(unwritable)?;
        line.push(b'\n');
        Ok(line)
    }

    /// The reply to the last request.
    fn reply(&mut self, deadline: Option<Instant>) -> Result<Box<RawValue>, ClientError> {
        loop {
            let Some(line) = self.line(deadline)? else {
                return Err(self.timed_out());
            };
            if let Some(result) = self.take(&line)? {
                return Ok(result);
            }
        }
    }

    fn timed_out(&self) -> ClientError {
        ClientError::TimedOut(self.timeout.unwrap_or_default())
    }

    /// Takes one line: an event is kept; the reply to the last request is returned; a late one to an earlier request is dropped.
    fn take(&mut self, line: &[u8]) -> Result<Option<Box<RawValue>>, ClientError> {
        let incoming: Incoming = serde_json::from_slice(line).map_err(|e| ClientError::Protocol(e.to_string()))?;
        if let Some(method) = incoming.method {
            if method == EVENT_METHOD {
                let params = incoming.params.unwrap_or_else(|| RawValue::NULL.to_owned());
                self.events.push_back(typed(&params, EVENT_METHOD)?);
            }
            return Ok(None);
        }
        match (incoming.id, incoming.error) {
            // Without an id it is about the connection.
            (None, Some(error)) => Err(Fault::try_from(error)?.into()),
            (Some(id), _) if id != self.last_id => Ok(None),
            (_, Some(error)) => Err(Fault::try_from(error)?.into()),
            (_, None) => Ok(Some(incoming.result.unwrap_or_else(|| RawValue::NULL.to_owned()))),
        }
    }

    /// The next line; `None` once it is past the deadline. What was read of a line by then is kept.
    fn line(&mut self, deadline: Option<Instant>) -> Result<Option<Vec<u8>>, ClientError> {
        loop {
            if let Some(offset) = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n') {
                let end = self.scanned + offset;
                let line = self.buffer[self.start..end].to_vec();
                self.start = end + 1;
                self.scanned = self.start;
                return Ok(Some(line));
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            self.scanned = self.buffer.len();
            if self.buffer.len() > LINE_BYTES_MAX {
                let problem = format!("a line of more than {LINE_BYTES_MAX} bytes");
                return Err(ClientError::Protocol(problem));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            // What has arrived is read even when there is no time to wait for it.
            self.stream.set_read_timeout(left.map(|left| left.max(READ_TIME_MIN)))?;
            let mut bytes = [0; READ_BYTES];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(count) => self.buffer.extend_from_slice(&bytes[..count]),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Ok(None),
                    ErrorKind::ConnectionReset => return Err(ClientError::Closed),
                    _ => return Err(error.into()),
                },
            }
        }
    }
}

fn typed<T: DeserializeOwned>(raw: &RawValue, what: &str) -> Result<T, ClientError> {
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(raw.get()))
        .map_err(|error| ClientError::Protocol(format!("{what}: {error}")))
}
