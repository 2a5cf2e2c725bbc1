//! The door between the socket and whatever answers its requests.

use std::future::Future;
use std::pin::Pin;

use serde::Serialize;
use serde_json::value::RawValue;

use super::call::Call;
use super::fault::{Fault, Kind};
use crate::domain::ids::InterviewId;

/// Who asks, by the peer's credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Admin,
    Client,
}

/// A result, already JSON.
pub type Reply = Box<RawValue>;

pub type Answering<'a> = Pin<Box<dyn Future<Output = Result<Reply, Fault>> + Send + 'a>>;

/// Answers requests. The server has checked form, role and limits of the connection before.
pub trait Service: Send + Sync + 'static {
    /// Answers one request. What may change something is carried out to its end once it has begun; everything else is dropped if the connection
    /// goes away first.
    fn call(&self, role: Role, call: Call) -> Answering<'_>;

    /// Whether there is such an interview: subscriptions to others are refused.
    fn knows(&self, id: &InterviewId) -> Result<bool, Fault>;
}

/// Turns a result into a reply.
pub fn reply<T: Serialize>(result: &T) -> Result<Reply, Fault> {
    serde_json::value::to_raw_value(result)
        .map_err(|error| Fault::new(Kind::Internal, format!("the result cannot be written as JSON: {error}")))
}
