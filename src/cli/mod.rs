//! The command line: one binary, one verb a task. Everything but `serve`, `demo`, `bench`, `setup`, `plan`, `model`, `import`, `doctor` and `config` is a
//! client of the socket; `export` is one where a daemon runs.

mod args;
mod bench;
mod bench_text;
mod calls;
mod check;
mod connection;
mod demo;
mod demo_daemon;
mod demo_screen;
mod doctor;
mod exit;
mod export;
mod files;
mod import;
mod interrupt;
mod leftovers;
mod list;
mod model_check;
mod model_check_text;
mod output;
mod plan;
mod plan_text;
mod progress;
mod report;
mod report_text;
mod serve;
mod settings;
mod setup;
mod status;
mod status_text;
mod stopped_store;
mod submit;
mod text;
mod wait;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use self::args::{Args, ConfigVerb, ModelVerb, Verb};
use self::exit::{Exit, Failure};

/// Runs the process's command line.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version go to standard output, mistakes to standard error; a reader that has gone is no failure.
            let _ = error.print();
            return match error.exit_code() {
                0 => Exit::Ok.into(),
                _ => Exit::Usage.into(),
            };
        }
    };
    match run(&args) {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            if matches!(failure, Failure::Told { .. }) {
                // Some say it in several lines: where in a file something is wrong, or commands to be copied.
                output::note(&text::harmless(failure.to_string().trim_end()));
            }
            failure.exit().into()
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    let global = &args.global;
    match &args.verb {
        Verb::Serve(serve) => serve::run(global, serve),
        Verb::Demo(demo) => demo::run(global, demo),
        Verb::Setup(setup) => setup::run(setup),
        Verb::Submit(submit) => submit::run(global, submit),
        Verb::Report(report) => report::run(global, report),
        Verb::Status(status) => status::run(global, status),
        Verb::List(list) => list::run(global, list),
        Verb::Watch(watch) => watch::run(global, watch),
        Verb::Cancel(id) => calls::cancel(global, id),
        Verb::Retry(id) => calls::retry(global, id),
        Verb::Delete(id) => calls::delete(global, id),
        Verb::Plan(plan) => plan::run(global, plan),
        Verb::Model(model) => match &model.verb {
            ModelVerb::Check(check) => model_check::run(global, check),
        },
        Verb::Bench(bench) => bench::run(global, bench),
        Verb::Export(export) => export::run(global, export),
        Verb::Import(import) => import::run(global, import),
        Verb::Doctor(json) => doctor::run(global, json),
        Verb::Drain => calls::drain(global),
        Verb::Resume => calls::resume(global),
        Verb::Shutdown(shutdown) => calls::shutdown(global, shutdown),
        Verb::Config(config) => match &config.verb {
            ConfigVerb::Check => check::run(global),
            ConfigVerb::Reload(json) => calls::reload(global, json),
        },
    }
}
