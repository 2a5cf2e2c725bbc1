//! An answer's text on its way to the model and back: no control token but the template's, never half a code point, quotes with their places.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use interviewd::domain::ids::InterviewId;
use interviewd::domain::interview::{AnswerDraft, Draft, Interview, Limits, Opening};
use interviewd::domain::rubric::{DEFAULT, Rubric};
use interviewd::engine::TokenId;
use interviewd::engine::job::{Distribution, Output};
use interviewd::scoring::encoder::Encoder;
use interviewd::scoring::{PreparedAnswer, Scorer};
use serde_json::json;

const EOS: TokenId = 6;
const VOCABULARY: usize = 8_192;
/// The control tokens of the demo model's chat template: system, end of turn, user, assistant.
const MARKERS: [TokenId; 4] = [3, 6, 4, 5];
/// Code points of the longest quote.
const QUOTE_MAX: usize = 80;

/// The fuzz targets lie one folder deeper than the tests.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["models/demo", "../models/demo"].map(|folder| root.join(folder));
    folders
        .into_iter()
        .find(|folder| folder.is_dir())
        .expect("the demo model is there")
});
pub static SCORER: LazyLock<Scorer> = LazyLock::new(|| {
    Scorer::load(&FOLDER, "chat_template.jinja", &[EOS], VOCABULARY).expect("the demo model is there")
});
static ENCODER: LazyLock<Encoder> =
    LazyLock::new(|| Encoder::load(&FOLDER.join("tokenizer.json")).expect("the demo model is there"));
static RUBRIC: LazyLock<Rubric> = LazyLock::new(|| Rubric::parse(DEFAULT).expect("it is built in"));

/// What a candidate said, whatever the bytes: what is no UTF-8 or a control character never gets so far.
pub fn answer(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let said: Vec<char> = text
        .chars()
        .filter(|c| !c.is_control() || "\n\r\t".contains(*c))
        .take(Limits::default().answer)
        .collect();
    let text: String = said.iter().collect();
    let Ok(made) = SCORER.answer(&interview(&text), 0, &RUBRIC) else {
        panic!("an answer of {} code points has no prompt", said.len());
    };
    let added: Vec<_> = ENCODER.added().iter().map(|(id, _)| *id).collect();
    let controls: Vec<_> = made
        .prompt
        .iter()
        .copied()
        .filter(|token| added.contains(token))
        .collect();
    assert_eq!(controls, MARKERS);
    let judged = made.reading.judged_code_points().unwrap_or(said.len());
    assert!(judged <= said.len());
    let seen: String = said[..judged].iter().collect();
    let prompt = ENCODER
        .tokenizer()
        .decode(&made.prompt, true)
        .expect("ids of this tokenizer");
    assert!(prompt.contains(&seen), "what is judged stands in the prompt");
    check_quotes(&made, &said, bytes.first().copied().unwrap_or_default().into());
    !said.is_empty()
}

fn interview(text: &str) -> Interview {
    let answer = AnswerDraft {
        stage: "skill".to_owned(),
        question: text.chars().take(Limits::default().question).collect(),
        answer: text.to_owned(),
        ..AnswerDraft::default()
    };
    let draft = Draft {
        answers: vec![answer],
        ..Draft::default()
    };
    let id = InterviewId::parse("one").expect("it is an id");
    Interview::new(draft, id, Opening::Whole, &RUBRIC, &Limits::default()).expect("it keeps the limits")
}

/// Quotes three parts of the answer, from `start` on, and then something else.
fn check_quotes(made: &PreparedAnswer, said: &[char], start: usize) {
    let part = |from: usize| -> String { said.iter().skip(from).take(QUOTE_MAX).collect() };
    let quotes = [part(0), part(start), part(said.len() / 2)];
    let (criteria, _) = made.reading.read(&written(&quotes)).expect("quotes what was said");
    for (criterion, quote) in criteria.iter().zip(&quotes) {
        match &criterion.evidence {
            None => assert_eq!(quote, ""),
            Some(evidence) => {
                let slice: String = said[evidence.start..evidence.end].iter().collect();
                assert_eq!((&slice, &evidence.quote), (quote, quote));
            }
        }
    }
    let invented: String = said.iter().chain(&['!']).collect();
    let refused = made.reading.read(&written(&[invented, String::new(), String::new()]));
    assert!(refused.is_err(), "it quotes what was not said");
}

/// What a model would have written with these quotes.
fn written(quotes: &[String; 3]) -> Output {
    let area = RUBRIC.stage("skill").expect("a stage of the rubric").area;
    let criteria = area.criteria.iter().zip(quotes);
    let criteria = criteria.map(|(c, quote)| json!({"name": c.name, "evidence": quote, "level": 3}));
    let text = json!({"criteria": criteria.collect::<Vec<_>>(), "feedback": "좋습니다."}).to_string();
    let level = ENCODER.plain("3").expect("a digit has a token")[0];
    Output {
        tokens: ENCODER.plain(&text).expect("any text has tokens"),
        distributions: vec![Distribution(vec![(level, 1.0)]); quotes.len()],
        ..Output::default()
    }
}
