//! What stands around the engine: the disk, the socket, the report's JSON.

mod support;

use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use interviewd::domain::ids::InterviewId;
use interviewd::domain::report::Report;
use interviewd::domain::rubric::DEFAULT;
use interviewd::domain::time::Timestamp;
use interviewd::socket::call::Call;
use interviewd::socket::client::Client;
use interviewd::socket::fault::Fault;
use interviewd::socket::hub::Hub;
use interviewd::socket::service::{Answering, Role, Service, reply};
use interviewd::socket::{listener, options, server};
use interviewd::store::{self, Accept, Finished, Store};
use serde_json::{Value, json};
use support::{interview, outcomes, report};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// An interview from its acceptance to its report, with all the syncs: the disk's share of a report, and a bound on interviews per second.
async fn round(store: Store, accept: Accept) {
    let interview = accept.interview.clone();
    let outcomes = outcomes(&interview);
    let report = report(&interview, &outcomes);
    let generation = store.accept(accept).await.unwrap().record.generation;
    let mut records = JoinSet::new();
    for (answer, outcome) in interview.answers().iter().zip(outcomes) {
        let (store, interview, answer) = (store.clone(), interview.id.clone(), answer.id.clone());
        records.spawn(async move { store.record(&interview, generation, &answer, outcome).await.unwrap() });
    }
    records.join_all().await;
    let finished = store.finish(&interview.id, generation, report).await;
    assert_eq!(finished.unwrap(), Finished::Stored);
}

fn storing(criterion: &mut Criterion) {
    let (runtime, folder) = (runtime(), TempDir::new().unwrap());
    let now = Timestamp::from_millis(0);
    let store = Store::open(&folder.path().join("store"), &store::Options::default(), now)
        .unwrap()
        .store;
    let mut number = 0;
    let mut next = || {
        number += 1;
        Accept {
            interview: interview(&format!("iv-{number}")),
            stays_open: false,
            at: now,
            rubric_hash: "0".repeat(64),
            rubric_text: Arc::from(DEFAULT),
        }
    };
    criterion.bench_function("store: accept, record 17, finish", |bencher| {
        bencher.iter_batched(
            &mut next,
            |accept| runtime.block_on(round(store.clone(), accept)),
            BatchSize::PerIteration,
        );
    });
    runtime.block_on(store.shut_down());
}

/// Answers everything at once.
struct Prompt;

impl Service for Prompt {
    fn call(&self, role: Role, _: Call) -> Answering<'_> {
        Box::pin(async move { reply(&json!({"role": role})) })
    }

    fn knows(&self, _: &InterviewId) -> Result<bool, Fault> {
        Ok(true)
    }
}

/// A request and its reply with nothing behind them: what the protocol itself costs a client.
fn round_trip(criterion: &mut Criterion) {
    let (runtime, folder) = (runtime(), TempDir::new().unwrap());
    let options = Arc::new(options::Options {
        path: folder.path().join("s"),
        ..options::Options::default()
    });
    let bound = runtime.block_on(listener::bind(&options)).unwrap();
    let path = bound.path().to_owned();
    let hub = Arc::new(Hub::default());
    let server = runtime.spawn(server::run(
        bound,
        Arc::new(Prompt),
        hub,
        options,
        std::future::pending(),
    ));
    let mut client = Client::connect(&path).unwrap();
    criterion.bench_function("socket round trip", |bencher| {
        bencher.iter(|| client.call::<_, Value>("hello", &()).unwrap());
    });
    server.abort();
}

/// Every report is written once and read whenever somebody asks for it.
fn json_of_a_report(criterion: &mut Criterion) {
    let interview = interview("iv");
    let report = report(&interview, &outcomes(&interview));
    let text = serde_json::to_string(&report).unwrap();
    criterion.bench_function("report of 17 answers to JSON", |bencher| {
        bencher.iter(|| serde_json::to_string(&report).unwrap().len());
    });
    criterion.bench_function("report of 17 answers from JSON", |bencher| {
        bencher.iter(|| serde_json::from_str::<Report>(&text).unwrap());
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = storing, round_trip, json_of_a_report
}
criterion_main!(benches);
