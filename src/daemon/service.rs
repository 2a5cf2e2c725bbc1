//! Answers the socket's requests: one line for each method.

use std::sync::Arc;

use super::Daemon;
use super::faults::of_store;
use crate::domain::ids::InterviewId;
use crate::domain::interview::Opening;
use crate::socket::call::Call;
use crate::socket::fault::Fault;
use crate::socket::service::{Answering, Role, Service, reply};
use crate::socket::view::{Greeting, PROTOCOL};

impl Service for Arc<Daemon> {
    fn call(&self, role: Role, call: Call) -> Answering<'_> {
        Box::pin(async move {
            match call {
                Call::Hello => reply(&self.greeting(role).await),
                Call::Submit(draft) => reply(&self.submit(draft, Opening::Whole).await?),
                Call::Open(draft) => reply(&self.submit(draft, Opening::StaysOpen).await?),
                Call::Answer { interview_id, answer } => reply(&self.answer(&interview_id, answer).await?),
                Call::Finish { interview_id } => reply(&self.finish(&interview_id).await?),
                Call::Get { interview_id } => reply(&self.get(&interview_id).await?),
                Call::List(params) => reply(&self.list(params).await?),
                Call::Retry { interview_id } => reply(&self.retry(&interview_id).await?),
                Call::Cancel { interview_id } => reply(&self.cancel(&interview_id).await?),
                Call::Delete { interview_id } => reply(&self.delete(&interview_id).await?),
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
