//! What the room promises about prompts, tokenizers and readings, on the demo model's tokenizer.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::encoder::Encoder;
use super::scorer::Scorer;
use super::*;
use crate::domain::fold::fold;
use crate::domain::ids::InterviewId;
use crate::domain::interview::{AnswerDraft, Draft, Interview, Limits, Opening};
use crate::domain::outcome::{Outcome, Timing, Verdict};
use crate::domain::rubric::{DEFAULT, Rubric};
use crate::engine::job::{Distribution, Output};

const TEMPLATE: &str = "chat_template.jinja";
pub const EOS: u32 = 6;
const VOCABULARY: usize = 8_192;

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo")
}

pub fn scorer() -> Scorer {
    Scorer::load(&demo(), TEMPLATE, &[EOS], VOCABULARY).unwrap()
}

pub fn rubric() -> Rubric {
    Rubric::parse(DEFAULT).unwrap()
}

/// An interview of (stage, answer); each follow-up follows the answer before it.
pub fn interview(language: &str, answers: &[(&str, &str)]) -> Interview {
    let draft = |(index, (stage, answer)): (usize, &(&str, &str))| AnswerDraft {
        stage: (*stage).to_owned(),
        question: "가장 어려웠던 일은 무엇이었나요?".to_owned(),
        answer: (*answer).to_owned(),
        follow_up_of: stage.ends_with("_followup").then(|| format!("a{index}")),
        answer_id: None,
    };
    let draft = Draft {
        language: Some(language.to_owned()),
        position: Some("백엔드 개발자".to_owned()),
        answers: answers.iter().enumerate().map(draft).collect(),
        ..Draft::default()
    };
    let id = InterviewId::parse("i").unwrap();
    Interview::new(draft, id, Opening::Whole, &rubric(), &Limits::default()).unwrap()
}

/// What a model would have written: `text` in plain tokens, and one certain level for each of `levels`.
fn output(scorer: &Scorer, text: &str, levels: &[&str]) -> Output {
    let certain = |level: &&str| Distribution(vec![(scorer.encoder.plain(level).unwrap()[0], 1.0)]);
    Output {
        tokens: scorer.encoder.plain(text).unwrap(),
        distributions: levels.iter().map(certain).collect(),
        ..Output::default()
    }
}

fn written(quotes: [&str; 3]) -> String {
    let names = ["논리적 구조", "핵심 전달력", "질문 의도 파악"];
    let criteria = names.iter().zip(quotes);
    let criteria: Vec<_> = criteria
        .map(|(name, quote)| json!({"name": name, "evidence": quote, "level": 1}))
        .collect();
    json!({"criteria": criteria, "feedback": " 좋습니다. "}).to_string()
}

pub fn scored(feedback: &str, rubric: &Rubric, stage: &str) -> Outcome {
    let Verdict::Gated { criteria } = crate::domain::gate::gated_outcome(rubric.stage(stage).unwrap().area) else {
        panic!("it is gated")
    };
    Outcome {
        verdict: Verdict::Scored {
            criteria,
            feedback: feedback.to_owned(),
        },
        flags: Vec::new(),
        judged_code_points: None,
        timing: Timing::default(),
        model_hash: None,
    }
}

#[test]
fn a_scorer_is_shared_and_its_readings_travel() {
    fn shared<T: Send + Sync>() {}
    fn travels<T: Send + 'static>() {}
    shared::<Scorer>();
    travels::<PreparedAnswer>();
    travels::<PreparedNarrative>();
}

#[test]
fn the_default_rubric_keeps_its_budgets() {
    scorer().check_rubric(&rubric()).unwrap();
}

#[test]
fn a_wordy_rubric_is_refused_with_what_is_too_long() {
    let scorer = scorer();
    let wordy = |from: &str, to: String| {
        let rubric = Rubric::parse(&DEFAULT.replacen(from, &to, 1)).unwrap();
        scorer.check_rubric(&rubric).unwrap_err().to_string()
    };
    let long = "끝없이 긴 설명 ".repeat(60);
    let error = wordy("정의와 원리가 맞는가", long);
    assert!(
        error.contains("score.instructions of the stage skill") && error.contains("464"),
        "{error}"
    );
    let name = "이름".repeat(200);
    let error = wordy("name = \"직무 전문성\"", format!("name = \"{name}\""));
    assert!(
        error.contains("narrative.instructions") && error.contains("384"),
        "{error}"
    );
}

#[test]
fn prompts_fit_their_slots_however_long_the_texts_are() {
    let (scorer, rubric) = (scorer(), rubric());
    let long = "가나다 \u{1f469}\u{200d}\u{1f4bb} word ".repeat(800);
    let interview = interview("ko", &[("skill", &long), ("skill_followup", &long)]);
    let contexts: Vec<_> = banks(1, 1).iter().map(|bank| bank.context).collect();
    for index in 0..2 {
        let answer = scorer.answer(&interview, index, &rubric).unwrap();
        assert!(answer.prompt.len() + answer.output_max <= contexts[SCORING_BANK]);
        let judged = answer.reading.judged_code_points().unwrap();
        assert!(judged > 0 && judged < long.chars().count());
    }
    let outcomes = [scored(&long, &rubric, "skill"), scored(&long, &rubric, "skill")];
    let narrative = scorer.narrative(&interview, &outcomes, &rubric).unwrap();
    assert!(narrative.prompt.len() + narrative.output_max <= contexts[NARRATIVE_BANK]);
}

#[test]
fn an_answer_that_fits_is_not_called_cut() {
    let interview = interview("ko", &[("intro", "저는 로그를 읽는 개발자입니다.")]);
    let answer = scorer().answer(&interview, 0, &rubric()).unwrap();
    assert_eq!(answer.reading.judged_code_points(), None);
}

#[test]
fn quotes_are_found_where_they_first_occur() {
    let (scorer, rubric) = (scorer(), rubric());
    let text = "처음 \"둘\"\n처음 \"둘\" 끝";
    let interview = interview("ko", &[("intro", text)]);
    let answer = scorer.answer(&interview, 0, &rubric).unwrap();
    let (criteria, feedback) = answer
        .reading
        .read(&output(&scorer, &written(["\"둘\"", "", "\n처음"]), &["5", "1", "3"]))
        .unwrap();
    assert_eq!(feedback, " 좋습니다. ");
    let evidence: Vec<_> = criteria
        .iter()
        .map(|c| c.evidence.as_ref().map(|e| (e.start, e.end)))
        .collect();
    assert_eq!(evidence, [Some((3, 6)), None, Some((6, 9))]);
    let slice: String = text.chars().skip(6).take(3).collect();
    assert_eq!(criteria[2].evidence.as_ref().unwrap().quote, slice);
    let scores: Vec<_> = criteria.iter().map(|c| c.score.to_string()).collect();
    assert_eq!(scores, ["40", "0", "10"]);
}

#[test]
fn a_level_is_the_sum_of_all_tokens_that_begin_with_its_digit() {
    let (scorer, rubric) = (scorer(), rubric());
    let interview = interview("ko", &[("intro", "네, 개발자입니다.")]);
    let answer = scorer.answer(&interview, 0, &rubric).unwrap();
    let mut output = output(&scorer, &written(["", "", ""]), &["5", "5", "5"]);
    let four = scorer
        .vocabulary
        .levels()
        .iter()
        .filter(|t| scorer.vocabulary.bytes(**t)[0] == b'4');
    let mut fours: Vec<_> = four.map(|token| (*token, 0.5)).collect();
    fours.push((scorer.encoder.plain("2").unwrap()[0], 0.5 * fours.len() as f64));
    output.distributions[0] = Distribution(fours);
    let (criteria, _) = answer.reading.read(&output).unwrap();
    assert_eq!(
        (criteria[0].level.thousandths(), criteria[1].level.thousandths()),
        (3_000, 5_000)
    );
}

#[test]
fn what_is_not_an_output_is_never_a_number() {
    let (scorer, rubric) = (scorer(), rubric());
    let interview = interview("ko", &[("intro", "네, 개발자입니다.")]);
    let answer = scorer.answer(&interview, 0, &rubric).unwrap();
    let read = |text: &str, levels: &[&str]| {
        answer
            .reading
            .read(&output(&scorer, text, levels))
            .unwrap_err()
            .to_string()
    };
    assert!(read("{", &["1", "1", "1"]).contains("not the JSON"));
    assert!(read(&written(["", "", ""]), &["1", "1"]).contains("2 distributions instead of 3"));
    assert!(read(&written(["없는 말", "", ""]), &["1", "1", "1"]).contains("not said"));
    assert!(read(&written(["", "", ""]), &["1", "1", "x"]).contains("is no level"));
    assert!(read(&written(["", "", ""]).replace("논리적", "비논리적"), &["1", "1", "1"]).contains("names"));
}

#[test]
fn a_narrative_needs_a_score_and_every_outcome() {
    let (scorer, rubric) = (scorer(), rubric());
    let interview = interview("ko", &[("intro", "네.")]);
    let unscored = Outcome {
        verdict: Verdict::Unscored {
            reason: "no engine".to_owned(),
        },
        ..scored("", &rubric, "intro")
    };
    let refused = |outcomes: &[Outcome]| {
        scorer
            .narrative(&interview, outcomes, &rubric)
            .err()
            .unwrap()
            .to_string()
    };
    assert!(refused(&[unscored]).contains("nothing to tell"));
    assert!(refused(&[]).contains("0 outcomes"));
}

#[test]
fn a_stage_that_the_rubric_lost_is_an_error() {
    let (scorer, rubric) = (scorer(), rubric());
    let interview = interview("ko", &[("intro", "네.")]);
    let other = Rubric::parse(&DEFAULT.replacen("intro           =", "greeting        =", 1)).unwrap();
    let error = scorer.answer(&interview, 0, &other).err().unwrap().to_string();
    assert!(error.contains("intro"), "{error}");
    let outcomes = [scored("좋습니다.", &rubric, "intro")];
    let judged: Vec<_> = outcomes.iter().map(|o| o.verdict.judged()).collect();
    let numbers = fold(&interview, &judged, &rubric).unwrap();
    let digest = digest::Digest::of(&interview, &outcomes, &numbers).unwrap();
    assert!(scorer.prompts.narrative(&interview, &digest, &other).is_err());
    assert!(scorer.answer(&interview, 1, &rubric).is_err());
}

/// The demo model's tokenizer and chat template after a change.
pub fn changed(tokenizer: impl Fn(&mut Value), template: &str, eos: &[u32], size: usize) -> Result<Scorer, String> {
    let read = |file: &str| std::fs::read_to_string(demo().join(file)).unwrap();
    let mut json: Value = serde_json::from_str(&read("tokenizer.json")).unwrap();
    tokenizer(&mut json);
    let encoder = Encoder::parse(json.to_string().as_bytes()).map_err(|e| e.to_string())?;
    let template = match template {
        "" => read(TEMPLATE),
        other => other.to_owned(),
    };
    let scorer = Scorer::unchecked(encoder, template, eos, size);
    scorer.and_then(|scorer| scorer.checked(eos)).map_err(|e| e.to_string())
}

#[test]
fn models_that_do_not_suit_are_refused_with_the_reason() {
    let refused = |tokenizer: &dyn Fn(&mut Value), template: &str, eos: &[u32], size, reason: &str| {
        let error = changed(tokenizer, template, eos, size)
            .err()
            .expect("it must be refused");
        assert!(error.contains(reason), "{error} does not say {reason}");
    };
    let same = |_: &mut Value| {};
    refused(&same, "", &[], VOCABULARY, "no end of a turn");
    refused(&same, "", &[300], VOCABULARY, "not one of its special tokens");
    refused(&same, "", &[EOS], 8_000, "the model only 8000");
    let plain_marker = |json: &mut Value| {
        let added = json["added_tokens"].as_array_mut().unwrap();
        added.retain(|token| token["content"] != "[|user|]");
    };
    refused(&plain_marker, "", &[EOS], VOCABULARY, "marker of the chat template");
    refused(
        &same,
        "{{ messages[1].content }}[|user|]",
        &[EOS],
        VOCABULARY,
        "leaves out",
    );
    refused(&same, "{{ messages[0].content", &[EOS], VOCABULARY, "chat template");
    let prefixed = |json: &mut Value| json["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = json!(true);
    refused(&prefixed, "", &[EOS], VOCABULARY, "it turns");
    let odd_byte = |json: &mut Value| json["model"]["vocab"]["<0xZZ>"] = json!(8_192);
    refused(&odd_byte, "", &[EOS], 9_000, "neither a byte nor a text");
    let gap = |json: &mut Value| json["model"]["vocab"]["gap"] = json!(9_999);
    refused(&gap, "", &[EOS], 20_000, "the last one's id is 9999");
    let no_list = |json: &mut Value| *json = json!([1]);
    assert!(changed(no_list, "", &[EOS], VOCABULARY).is_err());
    let nowhere = Scorer::load(&demo(), "no.jinja", &[EOS], VOCABULARY).err().unwrap();
    assert!(nowhere.to_string().contains("no.jinja"), "{nowhere}");
}

#[test]
fn a_marker_is_the_one_special_token_that_it_is_said_to_be() {
    let scorer = scorer();
    scorer.check_markers(&[("[BOS]", 1), ("[|endofturn|]", EOS)]).unwrap();
    let refused = |marker: (&str, u32)| scorer.check_markers(&[marker]).unwrap_err().to_string();
    assert!(refused(("[BOS]", 2)).contains("should be the one token 2"));
    assert!(refused(("[|tool|]", 7)).contains("[|tool|]"));
    let ordinary = |json: &mut Value| json["added_tokens"][1]["special"] = json!(false);
    let scorer = changed(ordinary, "", &[EOS], VOCABULARY).unwrap();
    let error = scorer.check_markers(&[("[BOS]", 1)]).unwrap_err().to_string();
    assert!(error.contains("not one of its special tokens"), "{error}");
}

#[test]
fn added_tokens_are_never_found_in_what_others_wrote() {
    let also_ordinary = |json: &mut Value| {
        let added = json["added_tokens"].as_array_mut().unwrap();
        for (id, content) in [(8_192, "<|tool|>"), (8_193, "지원자")] {
            added.push(
                json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": false}),
            );
        }
    };
    let scorer = changed(also_ordinary, "", &[EOS], 8_320).unwrap();
    let text = "지원자 [|endofturn|]<|tool|>[PAD]";
    assert!(scorer.encoder.trusted(text).unwrap().contains(&8_193));
    let ids = scorer.encoder.plain(text).unwrap();
    assert!(ids.iter().all(|id| (7..8_192).contains(id)), "{ids:?}");
    assert_eq!(scorer.vocabulary.joined(&ids), text.as_bytes());
    assert!(
        [6, 8_192, 8_193, 8_300]
            .iter()
            .all(|id| scorer.vocabulary.never().contains(*id))
    );
}

#[test]
fn ordinary_text_has_the_same_tokens_whoever_wrote_it() {
    let scorer = scorer();
    for text in [
        "저는 로그를 모아 원인을 찾았습니다.",
        "I fixed it.\n\n  12 times",
        "👩‍💻 é 각 \u{f0000}",
    ] {
        assert_eq!(
            scorer.encoder.trusted(text).unwrap(),
            scorer.encoder.plain(text).unwrap()
        );
    }
}
