//! A connection to the daemon, with errors that say what to do.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::args::Global;
use super::exit::Failure;
use super::settings;
use crate::socket::client::{Client, ClientError};
use crate::socket::notification::EventNotification;

/// Calls methods and hears events, one thing at a time.
pub struct Connection {
    client: Client,
}

/// Parameters of the methods about one interview.
#[derive(Debug, Serialize)]
pub struct OfInterview<'a> {
    pub interview_id: &'a str,
}

impl Connection {
    /// Connects to the socket that the command line or the configuration names.
    pub fn open(global: &Global) -> Result<Self, Failure> {
        Ok(Self::to(&settings::socket(global)?)?)
    }

    pub fn to(socket: &Path) -> Result<Self, ClientError> {
        Ok(Self {
            client: Client::connect(socket)?,
        })
    }

    /// Calls a method and gives its result as the daemon wrote it; `()` stands for no parameters.
    pub fn raw(&mut self, method: &str, params: impl Serialize) -> Result<Box<RawValue>, Failure> {
        Ok(self.client.call(method, &params)?)
    }

    /// Calls a method and reads its result.
    pub fn call<R: DeserializeOwned>(&mut self, method: &str, params: impl Serialize) -> Result<R, Failure> {
        let raw = self.raw(method, params)?;
        parsed(&raw)
    }

    /// How long every later call may take.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.client.set_timeout(Some(timeout));
    }

    /// The next event, or `None` after `timeout` without one.
    pub fn next_event(&mut self, timeout: Duration) -> Result<Option<EventNotification>, ClientError> {
        self.client.next_event(Some(timeout))
    }
}

/// Reads a result that is there as JSON.
pub fn parsed<R: DeserializeOwned>(raw: &RawValue) -> Result<R, Failure> {
    serde_json::from_str(raw.get()).map_err(|error| {
        Failure::failed(format!(
            "the daemon's answer is not understood ({error}); is it of another version than this command?"
        ))
    })
}
