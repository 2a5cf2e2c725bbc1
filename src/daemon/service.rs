//! Answers the socket's requests: one line for each method.

use std::sync::Arc;

use serde::Serialize;

use super::Daemon;
use super::faults::of_store;
use crate::domain::ids::InterviewId;
use crate::domain::interview::Opening;
use crate::socket::call::Call;
use crate::socket::fault::{Fault, Kind};
use crate::socket::service::{Answering, Reply, Role, Service, reply};
use crate::socket::view::{Greeting, PROTOCOL};

impl Service for Arc<Daemon> {
    fn call(&self, role: Role, call: Call) -> Answering<'_> {
        let daemon = Arc::clone(self);
        Box::pin(async move {
            match call {
                Call::Hello => reply(&self.greeting(role).await),
                Call::Submit(draft) => carried_out(async move { daemon.submit(draft, Opening::Whole).await }).await,
                Call::Open(draft) => carried_out(async move { daemon.submit(draft, Opening::StaysOpen).await }).await,
                Call::Answer { interview_id, answer } => {
                    carried_out(async move { daemon.answer(&interview_id, answer).await }).await
                }
                Call::Finish { interview_id } => carried_out(async move { daemon.finish(&interview_id).await }).await,
                Call::Get { interview_id } => reply(&self.get(&interview_id).await?),
                Call::List(params) => reply(&self.list(params).await?),
                Call::Retry { interview_id } => carried_out(async move { daemon.retry(&interview_id).await }).await,
                Call::Cancel { interview_id } => carried_out(async move { daemon.cancel(&interview_id).await }).await,
                Call::Delete { interview_id } => carried_out(async move { daemon.delete(&interview_id).await }).await,
                Call::Report { interview_id, format } => reply(&self.report(&interview_id, format)?),
                Call::WaitForReport {
                    interview_id,
                    timeout_ms,
                    format,
                } => reply(&self.wait_for_report(&interview_id, timeout_ms, format).await?),
                Call::Status => reply(&self.status().await),
                Call::Resize(params) => reply(&self.resize(params).await?),
                Call::ReloadConfig => reply(&self.reload().await?),
                Call::Export { after } => reply(&self.export(after.as_deref())?),
                Call::Drain => reply(&self.set_draining(true).await?),
                Call::Resume => reply(&self.set_draining(false).await?),
                Call::Shutdown { timeout_s } => reply(&self.ask_to_stop(timeout_s).await),
            }
        })
    }

    fn knows(&self, id: &InterviewId) -> Result<bool, Fault> {
        Ok(self.store.view(id).map_err(of_store)?.is_some())
    }
}

/// Carries out what changes an interview even if its client goes away meanwhile: what is stored must also be set to work.
async fn carried_out<T>(work: impl Future<Output = Result<T, Fault>> + Send + 'static) -> Result<Reply, Fault>
where
    T: Serialize + Send + 'static,
{
    // The words of a panic may quote a candidate; its place is in the log.
    let panicked = |_| Fault::new(Kind::Internal, "carrying out the request panicked");
    reply(&tokio::spawn(work).await.map_err(panicked)??)
}

impl Daemon {
    async fn greeting(&self, role: Role) -> Greeting {
        Greeting {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
            role,
            model: self.model_name().await,
        }
    }
}
