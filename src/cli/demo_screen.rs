//! What the demo shows while it scores: a live row for each answer on a terminal, a line for each end in a pipe.

use std::io;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::process::getpgrp;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};

use super::exit::Failure;
use super::output::{self, Look};
use super::report_text::score_bar;
use super::text::{bar, fit, millis, one_line, pad, pad_left};
use crate::domain::event::EventKind;
use crate::domain::interview::{Draft, Language};

use crate::domain::rubric::Rubric;
use crate::domain::score::Score;
use crate::domain::wording::stage_name;
use crate::scoring::constants::Constants;
use crate::socket::view::StatusView;

const TITLE_COLUMNS: usize = 26;
const BAR_COLUMNS: usize = 20;

/// Where each answer of one interview stands.
#[derive(Debug, Clone)]
pub struct Board {
    interview_id: String,
    rows: Vec<Row>,
    narrative: Narrative,
    budget: Budget,
    /// Most answers that were seen in slots at one time.
    pub most_together: usize,
    /// Copies of the weights that they were on.
    pub copies: usize,
}

#[derive(Debug, Clone)]
struct Row {
    id: String,
    title: String,
    stand: Stand,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stand {
    Waiting,
    /// Tokens of the prompt.
    Reading(usize),
    /// Tokens of the verdict.
    Writing(usize),
    Scored(Score),
    Unscored(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Narrative {
    Waiting,
    Writing(Option<usize>),
    Written,
}

/// Most tokens that an answer's prompt and its verdict may have, and a narrative.
#[derive(Debug, Clone, Copy)]
struct Budget {
    prompt: usize,
    verdict: usize,
    narrative: usize,
}

impl Board {
    pub fn new(interview_id: &str, draft: &Draft, rubric: &Rubric) -> Self {
        let constants = Constants::load();
        let rows = draft.answers.iter().enumerate().map(|(index, answer)| Row {
            id: answer.answer_id.clone().unwrap_or_else(|| format!("a{}", index + 1)),
            title: stage_name(rubric, &answer.stage, Language::Korean),
            stand: Stand::Waiting,
        });
        Self {
            interview_id: interview_id.to_owned(),
            rows: rows.collect(),
            narrative: Narrative::Waiting,
            budget: Budget {
                prompt: constants.score.total() - constants.score.output,
                verdict: constants.score.output,
                narrative: constants.narrative.output,
            },
            most_together: 0,
            copies: 0,
        }
    }

    /// Takes over what the slots hold now. An answer that has ended stays so.
    pub fn see(&mut self, status: &StatusView) {
        for row in self.rows.iter_mut().filter(|row| !row.stand.has_ended()) {
            row.stand = Stand::Waiting;
        }
        let mut together = 0;
        let mut copies = 0;
        for actor in &status.pool.actors {
            let before = together;
            for slot in actor
                .slot_table
                .iter()
                .filter(|slot| slot.interview_id.as_str() == self.interview_id)
            {
                let is_read = slot.phase == "prefill";
                let Some(answer) = &slot.answer_id else {
                    self.narrative = Narrative::Writing((!is_read).then_some(slot.tokens_done));
                    continue;
                };
                together += 1;
                let row = self.rows.iter_mut().find(|row| row.id == answer.as_str());
                if let Some(row) = row.filter(|row| !row.stand.has_ended()) {
                    row.stand = match is_read {
                        true => Stand::Reading(slot.tokens_done),
                        false => Stand::Writing(slot.tokens_done),
                    };
                }
            }
            copies += usize::from(together > before);
        }
        if together > self.most_together {
            (self.most_together, self.copies) = (together, copies);
        }
    }

    /// Takes over an event, and gives the line that tells of it where there is no live screen.
    pub fn hear(&mut self, kind: &EventKind) -> Option<String> {
        let (id, stand) = match kind {
            EventKind::AnswerScored { answer_id, score } => (answer_id, Stand::Scored(*score)),
            EventKind::AnswerUnscored { answer_id, reason } => (answer_id, Stand::Unscored(one_line(reason))),
            EventKind::ReportStarted => {
                self.narrative = Narrative::Writing(None);
                return Some("every answer has ended; the narrative is being written".to_owned());
            }
            EventKind::ReportReady { .. } => {
                self.narrative = Narrative::Written;
                return None;
            }
            EventKind::Accepted | EventKind::Cancelled | EventKind::Deleted => return None,
        };
        let ended = 1 + self
            .rows
            .iter()
            .filter(|row| row.stand.has_ended() && row.id != id.as_str())
            .count();
        let total = self.rows.len();
        let row = self.rows.iter_mut().find(|row| row.id == id.as_str())?;
        row.stand = stand;
        Some(match &row.stand {
            Stand::Unscored(reason) => format!("{ended}/{total}  {}  {}  unscored: {reason}", row.id, row.title),
            Stand::Scored(score) => format!("{ended}/{total}  {}  {}  {score}", row.id, row.title),
            Stand::Waiting | Stand::Reading(_) | Stand::Writing(_) => return None,
        })
    }

    /// One line for the whole, one for each answer, one for the narrative; none wider than 78 columns.
    pub fn render(&self, elapsed: Duration, look: Look) -> Vec<String> {
        let ended = self.rows.iter().filter(|row| row.stand.has_ended()).count();
        let in_slots = |row: &&Row| matches!(row.stand, Stand::Reading(_) | Stand::Writing(_));
        let together = self.rows.iter().filter(in_slots).count();
        let head = format!(
            "{} answers · {together} being scored together · {ended} done · {}",
            self.rows.len(),
            millis(elapsed.as_millis() as u64)
        );
        let mut lines = vec![look.bold(&head)];
        lines.extend(self.rows.iter().map(|row| row.render(self.budget, look)));
        let (bar, text) = match self.narrative {
            Narrative::Waiting => (bar(0, 1, BAR_COLUMNS), "after all answers".to_owned()),
            Narrative::Writing(None) => (bar(0, 1, BAR_COLUMNS), "reading the scores".to_owned()),
            Narrative::Writing(Some(tokens)) => {
                let bar = bar(tokens as u64, self.budget.narrative as u64, BAR_COLUMNS);
                (bar, format!("{tokens} tokens"))
            }
            Narrative::Written => (bar(1, 1, BAR_COLUMNS), "written".to_owned()),
        };
        lines.push(format!("  {}  {bar}  {text}", pad("총평 narrative", 6 + TITLE_COLUMNS)));
        lines
    }
}

impl Stand {
    fn has_ended(&self) -> bool {
        matches!(self, Self::Scored(_) | Self::Unscored(_))
    }
}

impl Row {
    fn render(&self, budget: Budget, look: Look) -> String {
        let part = |done: usize, of: usize| bar(done as u64, of as u64, BAR_COLUMNS);
        let (bar, text) = match &self.stand {
            Stand::Waiting => (part(0, 1), look.dim("waits")),
            Stand::Reading(tokens) => (
                part(*tokens, budget.prompt).replace('█', "▒"),
                format!("reads {tokens}"),
            ),
            Stand::Writing(tokens) => (part(*tokens, budget.verdict), format!("writes {tokens}")),
            Stand::Scored(score) => (score_bar(*score, look), look.bold(&pad_left(&format!("{score:.2}"), 6))),
            Stand::Unscored(reason) => (" ".repeat(BAR_COLUMNS), look.warn(&fit(reason, 20))),
        };
        format!(
            "  {} {} {bar}  {text}",
            pad(&self.id, 5),
            pad(&self.title, TITLE_COLUMNS + 1)
        )
    }
}

/// The live rows; `None` where nobody looks.
pub struct Screen(Option<Rows>);

struct Rows {
    all: MultiProgress,
    bars: Vec<ProgressBar>,
    _quiet: Option<QuietKeys>,
}

/// Keeps a terminal from writing `^C` into the rows, which would move them; undone at the end.
struct QuietKeys(Termios);

impl QuietKeys {
    fn new() -> Option<Self> {
        let usual = is_in_foreground().then(|| tcgetattr(io::stdout()).ok())??;
        let mut quiet = usual.clone();
        quiet.local_modes.remove(LocalModes::ECHOCTL);
        tcsetattr(io::stdout(), OptionalActions::Now, &quiet).ok()?;
        Some(Self(usual))
    }
}

impl Drop for QuietKeys {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing.
        if is_in_foreground() {
            let _ = tcsetattr(io::stdout(), OptionalActions::Now, &self.0);
        }
    }
}

/// A job in the background that changes its terminal is stopped.
fn is_in_foreground() -> bool {
    tcgetpgrp(io::stdout()).is_ok_and(|group| group == getpgrp())
}

impl Screen {
    /// A line for `lines` of a board.
    pub fn new(lines: usize) -> Self {
        if !output::stdout_is_watched() {
            return Self(None);
        }
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        let style = ProgressStyle::with_template("{msg}").expect("the template is sound");
        let bars = (0..lines)
            .map(|_| all.add(ProgressBar::new(1).with_style(style.clone())))
            .collect();
        Self(Some(Rows {
            all,
            bars,
            _quiet: QuietKeys::new(),
        }))
    }

    pub fn draw(&self, board: &Board, elapsed: Duration, look: Look) {
        let Some(rows) = &self.0 else {
            return;
        };
        for (bar, line) in rows.bars.iter().zip(board.render(elapsed, look)) {
            bar.set_message(line);
        }
    }

    /// Tells of something that ended, where the rows do not.
    pub fn tell(&self, line: &str) -> Result<(), Failure> {
        match &self.0 {
            Some(_) => Ok(()),
            None => output::line(line),
        }
    }
}

/// The last state of the rows stays on the terminal.
impl Drop for Screen {
    fn drop(&mut self) {
        let Some(rows) = &self.0 else {
            return;
        };
        for bar in &rows.bars {
            bar.abandon();
        }
        rows.all.set_move_cursor(false);
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::width;
    use super::*;
    use crate::domain::rubric::DEFAULT;
    use crate::runtime::demo_model;

    const PLAIN: Look = Look {
        columns: 80,
        colour: false,
    };

    fn board() -> Board {
        let draft: Draft = serde_json::from_str(demo_model::INTERVIEW).unwrap();
        Board::new("demo-interview", &draft, &Rubric::parse(DEFAULT).unwrap())
    }

    fn status(slots: &[(&str, &str, usize)]) -> StatusView {
        let table: Vec<_> = slots
            .iter()
            .enumerate()
            .map(|(slot, (answer, phase, tokens))| {
                let answer = (!answer.is_empty()).then_some(*answer);
                serde_json::json!({"slot": slot, "interview_id": "demo-interview", "answer_id": answer, "phase": phase, "tokens_done": tokens})
            })
            .collect();
        serde_json::from_value(serde_json::json!({
            "version": "0", "uptime_s": 1, "state": "ready", "model": null, "devices": [],
            "pool": {"planned_actors": 1, "actors": [{"id": 0, "device": "cpu:0", "state": "ready", "slots": 24, "slots_busy": table.len(), "queue": 0,
                "steps": 1, "tokens_per_s": 1.0, "restarts": 0, "slot_table": table}]},
            "queue": {"interviews": 1, "answers": 17, "max": 4096, "oldest_wait_s": 0},
            "interviews": {"open": 0, "scoring": 1, "reporting": 0, "complete": 0, "partial": 0, "cancelled": 0},
            "totals": {"answers_scored": 0, "answers_unscored": 0, "reports": 0, "tokens_in": 0, "tokens_out": 0},
            "store": {"path": "s", "size_bytes": 0, "free_bytes": 0}, "connections": 2
        }))
        .unwrap()
    }

    fn scored(id: &str, score: f64) -> EventKind {
        serde_json::from_value(serde_json::json!({"kind": "answer_scored", "answer_id": id, "score": score})).unwrap()
    }

    #[test]
    fn each_answer_has_a_row_that_follows_its_slot() {
        let mut board = board();
        board.see(&status(&[("a1", "decode", 128), ("a2", "prefill", 384)]));
        let lines = board.render(Duration::from_millis(1_250), PLAIN);
        assert_eq!(lines.len(), 19);
        assert_eq!(lines[0], "17 answers · 2 being scored together · 0 done · 1.2 s");
        assert_eq!(
            lines[1],
            "  a1    자기소개                    ██████████░░░░░░░░░░  writes 128"
        );
        assert_eq!(
            lines[2],
            "  a2    지원동기                    ▒▒▒▒▒▒▒▒▒▒░░░░░░░░░░  reads 384"
        );
        assert_eq!(
            lines[4],
            "  a4    직무지식 · 추가 질문        ░░░░░░░░░░░░░░░░░░░░  waits"
        );
        assert!(lines.iter().all(|line| width(line) <= 78), "{lines:?}");
        assert_eq!((board.most_together, board.copies), (2, 1));
    }

    #[test]
    fn an_answer_that_has_ended_stays_so() {
        let mut board = board();
        assert_eq!(board.hear(&scored("a1", 72.5)).unwrap(), "1/17  a1  자기소개  72.5");
        board.see(&status(&[("a1", "decode", 200)]));
        let unscored = serde_json::json!({"kind": "answer_unscored", "answer_id": "a2", "reason": "the engine\nbroke"});
        let unscored: EventKind = serde_json::from_value(unscored).unwrap();
        assert_eq!(
            board.hear(&unscored).unwrap(),
            "2/17  a2  지원동기  unscored: the engine broke"
        );
        let lines = board.render(Duration::ZERO, PLAIN);
        assert!(lines[1].ends_with("███████████████░░░░░   72.50"), "{}", lines[1]);
        assert!(
            lines[2].ends_with("the engine broke") && !lines[2].contains('░'),
            "{}",
            lines[2]
        );
        assert!(board.hear(&scored("b9", 1.0)).is_none(), "not one of ours");
    }

    #[test]
    fn the_narrative_has_a_row_of_its_own() {
        let mut board = board();
        let last = |board: &Board| board.render(Duration::ZERO, PLAIN).pop().unwrap();
        assert!(last(&board).ends_with("after all answers"));
        assert!(board.hear(&EventKind::ReportStarted).is_some());
        assert!(last(&board).ends_with("reading the scores"));
        board.see(&status(&[("", "decode", 240)]));
        assert!(
            last(&board).ends_with("██████████░░░░░░░░░░  240 tokens"),
            "{}",
            last(&board)
        );
        assert_eq!(board.most_together, 0, "it is no answer");
    }
}
