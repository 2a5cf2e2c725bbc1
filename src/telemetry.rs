//! What the daemon tells about itself: log lines on standard error, and the counters that status and metrics read.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For eyes.
    #[default]
    Text,
    /// One object a line, for machines.
    Json,
}

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("log level \"{level}\" is not understood; write for example info, debug or warn,interviewd=debug")]
    Level {
        level: String,
        #[source]
        source: ParseError,
    },
    #[error("logging was already started in this process")]
    AlreadyStarted(#[source] TryInitError),
}

type Subscriber = Box<dyn tracing::Subscriber + Send + Sync>;

/// Starts logging to standard error. `level` is a level or a list of `target=level`; `color` is for terminals and concerns text only.
pub fn init(format: LogFormat, level: &str, color: bool) -> Result<(), TelemetryError> {
    subscriber(format, level, color, std::io::stderr)?
        .try_init()
        .map_err(TelemetryError::AlreadyStarted)?;
    // The place of a panic and not its words, which may quote a candidate.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        tracing::error!(place, thread, "a panic");
    }));
    Ok(())
}

/// Whether `level` is one that [`init`] takes.
pub fn parse_level(level: &str) -> Result<(), TelemetryError> {
    filter(level).map(|_| ())
}

fn filter(level: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::builder()
        .parse(level)
        .map_err(|source| TelemetryError::Level {
            level: level.to_owned(),
            source,
        })
}

fn subscriber<W>(format: LogFormat, level: &str, color: bool, writer: W) -> Result<Subscriber, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter(level)?)
        .with_writer(writer);
    Ok(match format {
        LogFormat::Text => Box::new(lines.with_ansi(color).finish()),
        LogFormat::Json => Box::new(lines.json().flatten_event(true).with_current_span(false).finish()),
    })
}

/// What was done since the process started. Shared by everyone who does or tells.
#[derive(Debug, Default)]
pub struct Counters {
    answers_scored: AtomicU64,
    answers_unscored: AtomicU64,
    reports: AtomicU64,
    tokens_in: AtomicU64,
    tokens_out: AtomicU64,
}

/// The counters at one moment, as status shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Gated ones too.
    pub answers_scored: u64,
    pub answers_unscored: u64,
    pub reports: u64,
    /// Prompt tokens.
    pub tokens_in: u64,
    /// Written tokens, forced ones too.
    pub tokens_out: u64,
}

impl Counters {
    pub fn answer_scored(&self) {
        self.answers_scored.fetch_add(1, Ordering::Relaxed);
    }

    pub fn answer_unscored(&self) {
        self.answers_unscored.fetch_add(1, Ordering::Relaxed);
    }

    pub fn report(&self) {
        self.reports.fetch_add(1, Ordering::Relaxed);
    }

    pub fn tokens(&self, read: u64, written: u64) {
        self.tokens_in.fetch_add(read, Ordering::Relaxed);
        self.tokens_out.fetch_add(written, Ordering::Relaxed);
    }

    /// Each number is right; they may be a moment apart.
    pub fn snapshot(&self) -> Totals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            answers_scored: read(&self.answers_scored),
            answers_unscored: read(&self.answers_unscored),
            reports: read(&self.reports),
            tokens_in: read(&self.tokens_in),
            tokens_out: read(&self.tokens_out),
        }
    }
}

/// Tokens per second over the last ten seconds. Takes moments in milliseconds of any clock; one that goes back stands still instead.
#[derive(Debug, Default)]
pub struct Rate {
    /// Beginning of a tenth of a second, and the tokens in it; rising, at most `WINDOW_MS / BUCKET_MS + 1`.
    buckets: VecDeque<(u64, u64)>,
    /// When the first tokens ever came.
    first_ms: Option<u64>,
    latest_ms: u64,
}

const WINDOW_MS: u64 = 10_000;
const BUCKET_MS: u64 = 100;
/// What is divided by at least: the first step alone says nothing about a second.
const SPAN_MS_MIN: u64 = 1_000;

impl Rate {
    pub fn record(&mut self, now_ms: u64, tokens: u64) {
        let now_ms = self.advance(now_ms);
        self.first_ms.get_or_insert(now_ms);
        let begin = now_ms - now_ms % BUCKET_MS;
        match self.buckets.back_mut() {
            Some((at, sum)) if *at == begin => *sum += tokens,
            _ => self.buckets.push_back((begin, tokens)),
        }
    }

    /// In the first ten seconds: since the first tokens.
    pub fn per_second(&mut self, now_ms: u64) -> f64 {
        let now_ms = self.advance(now_ms);
        let Some(first_ms) = self.first_ms else {
            return 0.0;
        };
        let tokens: u64 = self.buckets.iter().map(|(_, tokens)| tokens).sum();
        let span_ms = (now_ms - first_ms).clamp(SPAN_MS_MIN, WINDOW_MS);
        tokens as f64 * 1_000.0 / span_ms as f64
    }

    /// Drops what has left the window and gives the moment to reckon with.
    fn advance(&mut self, now_ms: u64) -> u64 {
        self.latest_ms = self.latest_ms.max(now_ms);
        let horizon = self.latest_ms.saturating_sub(WINDOW_MS);
        while self.buckets.front().is_some_and(|(at, _)| at + BUCKET_MS <= horizon) {
            self.buckets.pop_front();
        }
        self.latest_ms
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is logged of one interview with these settings.
    fn logged(format: LogFormat, level: &str, color: bool) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(format, level, color, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("interview", interview_id = "iv-1");
            let _entered = span.enter();
            tracing::info!(answer_id = "a1", "scored");
            tracing::debug!("detail");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_json_line_is_one_object_with_the_ids_of_its_spans() {
        let text = logged(LogFormat::Json, "info", true);
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "scored");
        assert_eq!(line["answer_id"], "a1");
        assert_eq!(line["spans"][0]["interview_id"], "iv-1");
    }

    #[test]
    fn a_text_line_has_colour_only_when_asked() {
        let plain = logged(LogFormat::Text, "info", false);
        assert!(
            plain.contains("interview{interview_id=\"iv-1\"}") && plain.contains("scored"),
            "{plain}"
        );
        assert!(!plain.contains('\u{1b}'), "{plain}");
        assert!(logged(LogFormat::Text, "info", true).contains('\u{1b}'));
    }

    #[test]
    fn the_level_decides_what_is_written() {
        assert_eq!(logged(LogFormat::Text, "debug", false).lines().count(), 2);
        assert_eq!(logged(LogFormat::Text, "warn", false), "");
        assert_eq!(
            logged(LogFormat::Text, "warn,interviewd=info", false).lines().count(),
            1
        );
    }

    #[test]
    fn a_level_that_is_none_is_refused_by_name() {
        let error = init(LogFormat::Text, "interviewd=loud", false).unwrap_err();
        assert!(matches!(error, TelemetryError::Level { .. }));
        assert!(
            error
                .to_string()
                .starts_with("log level \"interviewd=loud\" is not understood")
        );
    }

    #[test]
    fn counters_are_shared() {
        let counters = Arc::new(Counters::default());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let counters = counters.clone();
                std::thread::spawn(move || {
                    counters.answer_scored();
                    counters.tokens(500, 20);
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        counters.answer_unscored();
        counters.report();
        let json = serde_json::to_string(&counters.snapshot()).unwrap();
        assert_eq!(
            json,
            r#"{"answers_scored":4,"answers_unscored":1,"reports":1,"tokens_in":2000,"tokens_out":80}"#
        );
    }

    #[test]
    fn a_steady_stream_has_a_steady_rate() {
        let mut rate = Rate::default();
        for step in 0..3_000 {
            rate.record(7_000 + step * 20, 3);
        }
        let per_second = rate.per_second(7_000 + 60_000);
        assert!((per_second - 150.0).abs() < 2.0, "{per_second}");
        assert!(rate.buckets.len() <= (WINDOW_MS / BUCKET_MS + 1) as usize);
    }

    #[test]
    fn a_young_stream_is_not_divided_by_ten_seconds() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(5), 0.0);
        rate.record(1_000, 100);
        assert_eq!(rate.per_second(1_001), 100.0);
        rate.record(3_000, 100);
        assert_eq!(rate.per_second(3_000), 100.0);
    }

    #[test]
    fn a_stream_that_ended_fades_to_nothing() {
        let mut rate = Rate::default();
        rate.record(0, 1_000);
        assert_eq!(rate.per_second(10_000), 100.0);
        assert_eq!(rate.per_second(10_100), 0.0);
    }

    #[test]
    fn a_clock_that_goes_back_stands_still() {
        let mut rate = Rate::default();
        rate.record(50_000, 10);
        rate.record(1, 10);
        assert_eq!(rate.per_second(2), 20.0);
    }
}
