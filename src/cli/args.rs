//! The command line as it may be typed.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand, ValueEnum};

use crate::bench::ANSWERS_MAX;
use crate::domain::state::InterviewState;
use crate::runtime::RANDOM_PRESETS;

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed, or refused by the daemon
  2    the command line is wrong
  3    there is no such interview
  4    there is no report yet
  10   doctor: warnings, but no error
  11   doctor: at least one error
  75   the queue is full or the daemon is draining: try again later
  78   the configuration is wrong
  130  ended by Ctrl-C

Environment:
  INTERVIEWD_CONFIG          configuration file, where --config names none
  INTERVIEWD__SECTION__KEY   one setting, as in INTERVIEWD__POOL__DEVICE=cpu
  INTERVIEWD_CACHE           where ONNX Runtime and models with random weights are kept
  INTERVIEWD_PYTHON          the Python 3 to use, where it is not python3
  ORT_DYLIB_PATH             an ONNX Runtime library to use
  NO_COLOR                   no colours";

const EXAMPLES: &str = "\
Examples:
  interviewd demo                            see it work: 17 answers scored at once by a small model
  interviewd serve --config config.toml      run the daemon
  interviewd submit interview.json --wait    score an interview and show its report
  interviewd status                          what the daemon is doing";

/// Turns AI mock interviews into scored, evidence-backed reports.
#[derive(Debug, Parser)]
#[command(
    name = "interviewd",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}")
)]
pub struct Args {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Default, clap::Args)]
pub struct Global {
    /// The daemon's socket, instead of the configuration's socket.path
    #[arg(long, global = true, value_name = "PATH", help_heading = "Global options")]
    pub socket: Option<PathBuf>,
    /// The configuration file [else INTERVIEWD_CONFIG, ./config.toml, /etc/interviewd/config.toml]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// Sets one key of the configuration, as in --set pool.device=cpu; may be repeated
    #[arg(
        long,
        global = true,
        value_name = "SECTION.KEY=VALUE",
        help_heading = "Global options"
    )]
    pub set: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the daemon until SIGTERM or Ctrl-C
    ///
    /// Prints `ready socket=PATH` to standard output once it accepts connections; its log goes to standard error. A missing model or
    /// runtime does not stop it: it is then `degraded` with the reason in `status`, and holds what it is sent.
    Serve(Serve),
    /// Score a bundled interview with a bundled small model, and show its report
    ///
    /// Fetches ONNX Runtime if needed, starts a daemon of its own in a temporary folder and submits an interview of 17 answers. Ends with exit
    /// code 0 only if the report came. Ctrl-C leaves nothing behind.
    Demo(Demo),
    /// Fetch the pinned ONNX Runtime into the cache, with pip, and check it
    Setup(Setup),
    /// Submit an interview: a JSON file, or `-` for standard input
    #[command(
        after_help = "Examples:\n  interviewd submit interview.json\n  interviewd submit - --wait --json < interview.json | jq .overall"
    )]
    Submit(Submit),
    /// Show an interview's report
    #[command(
        after_help = "Examples:\n  interviewd report iv-001\n  interviewd report iv-001 --format markdown > report.md\n  interviewd report iv-001 --format json | jq .areas"
    )]
    Report(Report),
    /// Show what the daemon is doing, on one screen
    Status(Json),
    /// List interviews, oldest first
    List(List),
    /// Follow events, of one interview until it ends or of all until the daemon ends
    Watch(Watch),
    /// Stop an interview's work; it will have no report
    Cancel(Id),
    /// Score a partial interview's unscored answers again, and write its narrative again
    Retry(Id),
    /// Erase an interview with its scores and report
    Delete(Id),
    /// Show which devices there are and how the pool would be laid out, without starting anything
    #[command(
        after_help = "Examples:\n  interviewd plan\n  interviewd plan --card 6 --set model.path=/models/exaone-7.8b\n  interviewd plan --card 24 --card 24 --json"
    )]
    Plan(Plan),
    /// Look at a model's folder
    Model(Model),
    /// Measure on this machine how much sooner a report is there than by scoring one answer after another
    ///
    /// Two tables in one run: a fixed shape (each answer 500 shared, 200 own and 200 written tokens, made up) and a bundled interview through the
    /// product's own prompts, in several ways each. What is written is compared token by token between ways that compute alike; on a CPU a
    /// difference is an error. Takes the daemon's defaults and --set, no configuration file; fetches ONNX Runtime if needed.
    #[command(
        after_help = "Examples:\n  interviewd bench\n  interviewd bench --model /models/exaone-2.4b --runs 3 --json bench.json --plot bench.svg\n  interviewd bench --random exaone-3.5-7.8b --device cuda --memory-budget 6GiB"
    )]
    Bench(Bench),
    /// Write everything that is stored as lines of JSON: interviews, scores, reports
    ///
    /// A running daemon serves it without being stopped [admin]; without one the store's folder is read. The file is there as a whole or not at
    /// all, and for its owner only: it holds what candidates said. `interviewd import` reads it.
    #[command(
        after_help = "Examples:\n  interviewd export interviews.jsonl.gz\n  interviewd export - | age -r KEY > interviews.jsonl.age"
    )]
    Export(Export),
    /// Put an export or a backup into the store of a daemon that is stopped
    ///
    /// Every line is checked before anything is changed. What is there stays: an interview that is there already is skipped, and another one of
    /// the same id is a conflict that is named (exit code 1). It may be repeated. Unfinished interviews go on at the next start.
    #[command(
        after_help = "Examples:\n  interviewd import run/store.backups/interviewd-20260131T090000Z.jsonl.gz\n  interviewd import interviews.jsonl.gz --dry-run"
    )]
    Import(Import),
    /// Look at everything that the daemon needs, and say what to do about what is wrong; changes nothing
    ///
    /// One line for each check: ok, warning or error. Ends with 0, with 10 if there are warnings, with 11 if there are errors.
    Doctor(Json),
    /// Stop accepting interviews; what was accepted goes on [admin]
    Drain,
    /// Accept interviews again [admin]
    Resume,
    /// Drain, then end the daemon; unfinished work goes on at its next start [admin]
    Shutdown(Shutdown),
    /// Look at the configuration, or have the daemon take it over
    Config(Config),
}

#[derive(Debug, clap::Args)]
pub struct Serve {
    /// How log lines are written to standard error [default: the configuration's log.format]
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
    /// End when the process of this number ends, which must be the parent
    #[arg(long, hide = true, value_name = "PID")]
    pub with_parent: Option<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

impl LogFormat {
    /// As `log.format` takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Where the report is written as JSON [default: interviewd-demo-report.json in the system's temporary folder]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Keep the daemon's folder (configuration, model, interview, store, log) here; it must not exist or be empty
    #[arg(long, value_name = "FOLDER")]
    pub keep: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub struct Setup {
    /// Fetch the build for NVIDIA cards and the CUDA libraries it needs (some 780 MB to download)
    #[arg(long)]
    pub cuda: bool,
}

#[derive(Debug, clap::Args)]
pub struct Submit {
    /// The interview as JSON; `-` is standard input
    #[arg(value_name = "FILE|-")]
    pub file: PathBuf,
    /// Wait for the report and show it
    #[arg(long)]
    pub wait: bool,
    /// Print the result (with --wait: the report) as one line of JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Report {
    /// The interview's id, as `interviewd list` shows it
    #[arg(value_name = "ID")]
    pub id: String,
    /// How the report is written
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    pub format: ReportFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// One line of JSON
    Json,
    Markdown,
    /// For reading on a terminal
    Text,
}

#[derive(Debug, clap::Args)]
pub struct Json {
    /// Print the protocol's result as one line of JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct List {
    /// Only interviews in this state
    #[arg(long, value_parser = state)]
    pub state: Option<InterviewState>,
    /// At most so many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub limit: u64,
    /// Go on after this `next` of an earlier list
    #[arg(long, value_name = "NEXT")]
    pub after: Option<String>,
    /// Print the protocol's result as one line of JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Watch {
    /// The interview's id, as `interviewd list` shows it [default: all interviews]
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// Print each event as one line of JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Id {
    /// The interview's id, as `interviewd list` shows it
    #[arg(value_name = "ID")]
    pub id: String,
    /// Print the protocol's result as one line of JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Plan {
    /// Plan for an NVIDIA card of so many GiB instead of this machine's devices; may be repeated
    #[arg(long, value_name = "GIB", value_parser = gib)]
    pub card: Vec<f64>,
    /// Print the plan as one line of JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Model {
    #[command(subcommand)]
    pub verb: ModelVerb,
}

#[derive(Debug, Subcommand)]
pub enum ModelVerb {
    /// Say whether a model can score here: its files and hashes, its tokenizer, and a probe run
    ///
    /// Takes the steps by which `serve` brings a model up, one by one, and tells of each: ok, warning or error and what to do. Then it scores one
    /// made-up answer. Reads all of the weights and loads them; needs no daemon and changes nothing. Ends with exit code 0 only if the model
    /// can be used here, with the memory that is free now.
    #[command(
        after_help = "Examples:\n  interviewd model check models/demo\n  interviewd model check models/exaone-3.5-7.8b --set pool.memory_budget_mib=6000\n  interviewd model check models/demo --json | jq .usable"
    )]
    Check(ModelCheck),
}

#[derive(Debug, clap::Args)]
pub struct ModelCheck {
    /// The model's folder [default: the configuration's model.path]
    #[arg(value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// Measure the query tile of a large model too: minutes to hours
    #[arg(long)]
    pub thorough: bool,
    /// Print all that was found as one line of JSON
    #[arg(long)]
    pub json: bool,
    /// Look in this process, whose parent has this number, and tell it line by line
    #[arg(long, hide = true, value_name = "PID")]
    pub for_parent: Option<i32>,
}

#[derive(Debug, clap::Args)]
pub struct Bench {
    /// A model's folder [default: the bundled demo model]
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Random weights of this shape instead, at 4 bits, made once and kept in the cache
    #[arg(long, value_name = "PRESET", value_parser = PossibleValuesParser::new(RANDOM_PRESETS), conflicts_with = "model")]
    pub random: Option<String>,
    /// What computes
    #[arg(long, value_enum, default_value_t = BenchDevice::Auto)]
    pub device: BenchDevice,
    /// The memory of the device that the plan may use, as in 6GiB or 800MiB; a row that took more is named [default: what is free]
    #[arg(long, value_name = "SIZE", value_parser = mib)]
    pub memory_budget: Option<u64>,
    /// CPU threads [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub threads: Option<u32>,
    /// Answers at once, of the bundled interview the first ones
    #[arg(long, value_name = "N", default_value_t = ANSWERS_MAX as u64, value_parser = clap::value_parser!(u64).range(1..=ANSWERS_MAX as u64))]
    pub answers: u64,
    /// How often everything is measured, in turn; medians are shown
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub runs: u64,
    /// Write everything that was measured here as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw both tables here
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchDevice {
    Auto,
    Cpu,
    Cuda,
}

impl BenchDevice {
    /// As `pool.device` takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

#[derive(Debug, clap::Args)]
pub struct Export {
    /// Where to; a name that ends in .gz is compressed, `-` is standard output [default: standard output that is no terminal]
    #[arg(value_name = "FILE|-")]
    pub file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub struct Import {
    /// A file of `interviewd export`, or a backup of the daemon's, as it is
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Check the file and say what would be imported
    #[arg(long)]
    pub dry_run: bool,
    /// Print what was done as one line of JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Shutdown {
    /// How long running answers may take, in seconds [default: the configuration's daemon.drain_s]
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
}

#[derive(Debug, clap::Args)]
pub struct Config {
    #[command(subcommand)]
    pub verb: ConfigVerb,
}

#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Check the configuration and show every setting that would be in force
    Check,
    /// Have the daemon read its configuration again, and look again for a model that it could not load [admin]
    Reload(Json),
}

fn state(text: &str) -> Result<InterviewState, String> {
    let known = InterviewState::ALL;
    known.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|state| state.as_str()).collect();
        format!("the states are {}", names.join(", "))
    })
}

fn gib(text: &str) -> Result<f64, String> {
    let size = text.parse::<f64>().ok().filter(|size| (0.5..=4_096.0).contains(size));
    size.ok_or_else(|| "expected GiB from 0.5 to 4096, as in 6 or 23.5".to_owned())
}

/// In MiB.
fn mib(text: &str) -> Result<u64, String> {
    let parts = [("GiB", 1_024.0), ("MiB", 1.0)];
    let parts = parts
        .iter()
        .find_map(|(unit, mib)| Some((text.strip_suffix(unit)?, mib)));
    let size = parts.and_then(|(number, mib)| Some(number.trim().parse::<f64>().ok()? * mib));
    let size = size.filter(|size| (1.0..=1e7).contains(size));
    size.map(|size| size as u64)
        .ok_or_else(|| "expected a size such as 6GiB, 5.5GiB or 800MiB".to_owned())
}

#[cfg(test)]
mod tests;
