//! What was measured, as it is shown and written to `--json`: seconds, bytes, tokens, shares of 1.

use serde::Serialize;

use super::drive::Measured;
use crate::engine::TokenId;
use crate::hardware::plan::Plan;

/// All of a bench.
#[derive(Debug, Clone, Serialize)]
pub struct Results {
    /// Of interviewd.
    pub version: &'static str,
    pub machine: Machine,
    pub model: ModelFacts,
    pub onnxruntime: String,
    /// CPU threads that the model runs on.
    pub threads: usize,
    pub plan: Plan,
    pub answers: usize,
    /// How often the whole round of rows was run.
    pub runs: usize,
    /// From the start to a model that can run: hashes, tokenizer, plan, weights.
    pub load_s: f64,
    /// Prompts and grammars of all answers, made before each product row's clock runs: `serve` makes them beside the decoding. Median.
    pub prompts_s: f64,
    /// `speedup` of the product's last row with `prompts_s` added to its wall time and to that of the first.
    pub speedup_with_prompts: f64,
    /// Whether a row's `memory_peak_bytes` is its own; otherwise it is the process's since its start.
    pub memory_peak_is_per_row: bool,
    /// The fixed shape.
    pub fixed: Vec<Row>,
    /// Rows that the plan's memory does not allow, and why.
    pub left_out: Vec<String>,
    /// The bundled interview.
    pub product: Vec<Row>,
    pub narrative: Row,
    pub as_it_goes: AsItGoes,
}

#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub cpu: String,
    /// Logical cores that this process may use.
    pub cores: usize,
    pub instruction_set: String,
    /// RAM, or the limit of the control group where that is lower.
    pub memory_bytes: u64,
    /// Of the card that the model runs on.
    pub card: Option<String>,
    pub driver: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct ModelFacts {
    pub name: String,
    pub precision: String,
    pub parameters: u64,
    pub weights_bytes: u64,
    pub kv_bytes_per_token: u64,
}

/// A row of a table.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub name: String,
    /// Slots of the bank that its works are in, used or not.
    pub slots: usize,
    /// Slots × context × bytes of a token.
    pub kv_bytes: u64,
    /// Medians over `samples`.
    pub median: Figures,
    /// Held against another row that computes the same way.
    pub same: Option<Same>,
    /// One for each run.
    pub samples: Vec<Sample>,
}

/// What a row's samples come to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figures {
    pub wall_s: f64,
    /// Of wall times, over the first row of its table in the same run, whatever either wrote.
    pub speedup: f64,
    pub written_tokens: f64,
    /// Written ones.
    pub tokens_per_s: f64,
    pub step_s: f64,
    /// Rows that a joint decode had on average; idle ones don't count.
    pub rows_per_decode: f64,
    /// Part of the wall time that was spent inside the model.
    pub model_share: f64,
    /// Part of the written tokens that the grammar forced.
    pub forced_share: f64,
    pub memory_peak_bytes: f64,
    pub card_bytes: Option<f64>,
}

/// One run of a row.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Sample {
    pub wall_s: f64,
    /// Inside prefills and decodes; of this, on a card, some is the way of logits back.
    pub model_s: f64,
    /// Copying prefixes between slots; no part of `model_s`.
    pub copy_s: f64,
    pub steps: u64,
    pub prefills: u64,
    /// Tokens of all prefills.
    pub chunk_tokens: u64,
    pub decodes: u64,
    /// Of all decodes.
    pub rows: u64,
    pub idle_rows: u64,
    pub prompt_tokens: u64,
    /// Tokens of prompts, and of what is forced right behind them, that a slot held already.
    pub reused_tokens: u64,
    pub written_tokens: u64,
    /// Of the written ones.
    pub forced_tokens: u64,
    /// Resident memory of the process, model included if it is on the CPU.
    pub memory_peak_bytes: u64,
    /// Of a card, context and arena included.
    pub card_bytes: Option<u64>,
    /// Of each answer, from its submit to its end.
    pub answers_s: Vec<f64>,
}

/// The tokens of a row's answers against those of another row, in every run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Same {
    pub with: String,
    /// Answers that were the same in the run with the fewest.
    pub equal: usize,
    pub of: usize,
    pub first_difference: Option<Difference>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// From 1.
    pub run: usize,
    /// From 1, in order of submission.
    pub answer: usize,
    /// From 1.
    pub token: usize,
}

/// Answers that came at intervals while they were scored, on a simulated clock.
#[derive(Debug, Clone, Serialize)]
pub struct AsItGoes {
    pub interval_s: f64,
    /// From `finish`, which came with the last answer, to the end of the narrative, the making of both prompts and grammars included. Median.
    pub finish_to_report_s: f64,
    /// The last answer in the row that scores one by one as `serve` computes, its making included. Median.
    pub alone_s: f64,
    /// The narrative's row, its making included. Median.
    pub narrative_s: f64,
    /// `finish_to_report_s` over `alone_s` + `narrative_s`. Median over the runs.
    pub ratio: f64,
    pub same: Same,
    pub narrative_same: Same,
    /// `finish_to_report_s` of each run.
    pub samples: Vec<f64>,
}

impl Sample {
    pub fn new(measured: &Measured, memory_peak_bytes: u64, card_bytes: Option<u64>) -> Self {
        let usage = &measured.usage;
        let outputs = &measured.outputs;
        Self {
            wall_s: measured.wall.as_secs_f64(),
            model_s: usage.inside.as_secs_f64(),
            copy_s: usage.copying.as_secs_f64(),
            steps: measured.steps,
            prefills: usage.prefills,
            chunk_tokens: usage.chunk_tokens,
            decodes: usage.decodes,
            rows: usage.rows,
            idle_rows: usage.idle_rows,
            prompt_tokens: measured.prompt_tokens,
            reused_tokens: outputs.iter().map(|output| output.reused as u64).sum(),
            written_tokens: outputs.iter().map(|output| output.tokens.len() as u64).sum(),
            forced_tokens: outputs.iter().map(|output| output.forced as u64).sum(),
            memory_peak_bytes,
            card_bytes,
            answers_s: measured.took.iter().map(|took| took.as_secs_f64()).collect(),
        }
    }
}

impl Figures {
    /// `first`: the samples of the table's first row, run by run.
    pub fn of(samples: &[Sample], first: &[Sample]) -> Self {
        let over = |figure: &dyn Fn(&Sample) -> f64| median(samples.iter().map(figure));
        Self {
            wall_s: over(&|sample| sample.wall_s),
            speedup: median(
                first
                    .iter()
                    .zip(samples)
                    .map(|(first, own)| ratio(first.wall_s, own.wall_s)),
            ),
            written_tokens: over(&|sample| sample.written_tokens as f64),
            tokens_per_s: over(&|sample| ratio(sample.written_tokens as f64, sample.wall_s)),
            step_s: over(&|sample| ratio(sample.wall_s, sample.steps as f64)),
            rows_per_decode: over(&|sample| ratio(sample.rows as f64, sample.decodes as f64)),
            model_share: over(&|sample| ratio(sample.model_s, sample.wall_s)),
            forced_share: over(&|sample| ratio(sample.forced_tokens as f64, sample.written_tokens as f64)),
            memory_peak_bytes: over(&|sample| sample.memory_peak_bytes as f64),
            card_bytes: samples
                .iter()
                .all(|sample| sample.card_bytes.is_some())
                .then(|| over(&|sample| sample.card_bytes.unwrap_or_default() as f64)),
        }
    }
}

impl Same {
    /// `own` and `others` hold tokens by run and answer; all runs are held against the other row's first.
    pub fn new(with: &str, own: &[Vec<Vec<TokenId>>], others: &[Vec<Vec<TokenId>>]) -> Self {
        let reference = &others[0];
        let equal_in = |run: &Vec<Vec<TokenId>>| run.iter().zip(reference).filter(|(a, b)| a == b).count();
        let differing = own.iter().enumerate().find_map(|(run, answers)| {
            let mut pairs = answers.iter().zip(reference).enumerate();
            let (answer, (one, other)) = pairs.find(|(_, (one, other))| one != other)?;
            let alike = one.iter().zip(other).take_while(|(a, b)| a == b).count();
            Some(Difference {
                run: run + 1,
                answer: answer + 1,
                token: alike + 1,
            })
        });
        Self {
            with: with.to_owned(),
            equal: own.iter().map(equal_in).min().unwrap_or(0),
            of: reference.len(),
            first_difference: differing,
        }
    }
}

impl Row {
    /// Bytes of the card where the model is on one, else of the process, at most.
    pub fn peak_bytes(&self) -> u64 {
        self.median.card_bytes.unwrap_or(self.median.memory_peak_bytes) as u64
    }
}

impl Results {
    /// Rows that took more than the plan may use.
    pub fn above_budget(&self) -> impl Iterator<Item = &Row> {
        let budget = self.plan.actors[0].budget_bytes;
        let rows = self.fixed.iter().chain(&self.product).chain([&self.narrative]);
        rows.filter(move |row| row.peak_bytes() > budget)
    }

    /// The first row that wrote something else than the row that it was held against.
    pub fn difference(&self) -> Option<String> {
        let rows = self.fixed.iter().chain(&self.product).chain([&self.narrative]);
        let held = rows.map(|row| (row.name.as_str(), row.same.as_ref()));
        let going = [&self.as_it_goes.same, &self.as_it_goes.narrative_same];
        let held = held.chain(going.map(|same| ("score as you go", Some(same))));
        held.filter_map(|(name, same)| Some((name, same?, same?.first_difference.as_ref()?)))
            .map(|(name, same, at)| {
                let Difference { run, answer, token } = at;
                let with = &same.with;
                format!("{name}: answer {answer} differs from that of \"{with}\" at token {token} (run {run})")
            })
            .next()
    }
}

/// 0 for nothing; the mean of the middle two of an even number.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count => (values[(count - 1) / 2] + values[count / 2]) / 2.0,
    }
}

/// 0 where there is nothing to divide by.
pub fn ratio(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_of_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0].into_iter()), 2.5);
        assert_eq!(median(std::iter::empty()), 0.0);
    }

    #[test]
    fn figures_are_medians_of_runs_and_speed_is_compared_within_a_run() {
        let sample = |wall_s, model_s| Sample {
            wall_s,
            model_s,
            steps: 10,
            decodes: 5,
            rows: 20,
            written_tokens: 100,
            forced_tokens: 25,
            ..Sample::default()
        };
        // The machine slows down by half from the first run to the second: the rows keep their distance.
        let first = [sample(10.0, 9.0), sample(20.0, 18.0)];
        let own = [sample(5.0, 4.0), sample(10.0, 8.0)];
        let figures = Figures::of(&own, &first);
        assert_eq!((figures.wall_s, figures.speedup, figures.model_share), (7.5, 2.0, 0.8));
        assert_eq!((figures.tokens_per_s, figures.step_s), (15.0, 0.75));
        assert_eq!((figures.rows_per_decode, figures.forced_share), (4.0, 0.25));
        assert_eq!(figures.card_bytes, None);
    }

    #[test]
    fn the_first_token_that_differs_is_named() {
        let reference = vec![vec![vec![1, 2, 3], vec![4, 5]]];
        let same = Same::new("it", &reference, &reference);
        assert_eq!((same.equal, same.of, same.first_difference), (2, 2, None));
        let own = [reference[0].clone(), vec![vec![1, 2, 3], vec![4, 6]]];
        let other = Same::new("it", &own, &reference);
        assert_eq!((other.equal, other.of), (1, 2));
        let at = other.first_difference.unwrap();
        assert_eq!((at.run, at.answer, at.token), (2, 2, 2));
        let shorter = Same::new("it", &[vec![vec![1, 2], vec![4, 5]]], &reference);
        assert_eq!(shorter.first_difference.unwrap().token, 3);
    }
}
