//! An interview as a client sends it: what is accepted keeps the limits, and is the same however it comes and however often it is written.

use std::sync::LazyLock;

use interviewd::domain::gate::{flags, gate};
use interviewd::domain::ids::InterviewId;
use interviewd::domain::interview::{Answer, AnswerDraft, Draft, Interview, Limits, Opening, Refusal};
use interviewd::domain::rubric::{DEFAULT, Rubric};
use interviewd::socket::call::Call;
use interviewd::socket::params::Asked;
use interviewd::socket::service::Role;
use interviewd::socket::wire;

static RUBRIC: LazyLock<Rubric> = LazyLock::new(|| Rubric::parse(DEFAULT).expect("it is built in"));

/// What a client gives as `interview`. Accepted if it can be judged.
pub fn interview(bytes: &[u8]) -> bool {
    let request = br#"{"jsonrpc":"2.0","id":1,"method":"interview.submit","params":{"interview":"#;
    let line = [request, bytes, b"}}"].concat();
    let Ok(Asked::Call(Call::Submit(draft))) = wire::read(&line, Role::Client).asked else {
        return false;
    };
    let interview = match new(draft.clone(), Opening::Whole) {
        Ok(interview) => interview,
        Err(refusal) => {
            assert!(refusal.to_string().chars().count() < 2_000, "a refusal is short");
            return false;
        }
    };
    check_limits(&interview);
    check_parents(&interview);
    let written = serde_json::to_vec(&interview).expect("an interview is JSON");
    let read: Interview = serde_json::from_slice(&written).expect("it was written so");
    assert_eq!(read, interview, "as the store has it");
    assert_eq!(
        new(draft_of(&interview), Opening::Whole),
        Ok(interview.clone()),
        "sent again"
    );
    assert_eq!(one_by_one(draft), Ok(interview.clone()), "answer by answer");
    for answer in interview.answers() {
        let flags = flags(&answer.question, &answer.text);
        assert_eq!(
            gate(&answer.text),
            flags == [interviewd::domain::outcome::Flag::NoAnswer]
        );
    }
    true
}

fn new(draft: Draft, opening: Opening) -> Result<Interview, Refusal> {
    let id = InterviewId::parse("new").expect("it is an id");
    Interview::new(draft, id, opening, &RUBRIC, &Limits::default())
}

fn one_by_one(mut draft: Draft) -> Result<Interview, Refusal> {
    let answers = std::mem::take(&mut draft.answers);
    let mut interview = new(draft, Opening::StaysOpen)?;
    for answer in answers {
        interview.add(answer, &RUBRIC, &Limits::default())?;
    }
    Ok(interview)
}

/// What a client would send to get this interview.
fn draft_of(interview: &Interview) -> Draft {
    let text = |id: &dyn std::fmt::Display| Some(id.to_string());
    let answer = |answer: &Answer| AnswerDraft {
        answer_id: text(&answer.id),
        stage: answer.stage.clone(),
        question: answer.question.clone(),
        answer: answer.text.clone(),
        follow_up_of: answer.follow_up_of.as_ref().map(ToString::to_string),
    };
    let language = serde_json::to_value(interview.language).expect("a language is JSON");
    Draft {
        interview_id: text(&interview.id),
        language: language.as_str().map(str::to_owned),
        position: interview.position.clone(),
        company: interview.company.clone(),
        candidate: interview.candidate.clone(),
        answers: interview.answers().iter().map(answer).collect(),
    }
}

fn check_limits(interview: &Interview) {
    let limits = Limits::default();
    assert!((1..=limits.answers).contains(&interview.answers().len()));
    let company = interview.company.iter();
    let ideals = company.clone().flat_map(|company| &company.ideal);
    assert!(ideals.clone().count() <= limits.ideals);
    let candidate = interview.candidate.iter();
    let others = (interview.position.iter())
        .chain(company.filter_map(|company| company.name.as_ref()))
        .chain(ideals)
        .chain(candidate.clone().filter_map(|candidate| candidate.name.as_ref()))
        .chain(candidate.filter_map(|candidate| candidate.resume_summary.as_ref()));
    others.for_each(|text| check_text(text, limits.text));
    for answer in interview.answers() {
        check_text(&answer.question, limits.question);
        check_text(&answer.text, limits.answer);
    }
}

fn check_text(text: &str, limit: usize) {
    assert!(text.chars().count() <= limit);
    let control = text.chars().find(|c| c.is_control() && !"\n\r\t".contains(*c));
    assert_eq!(control, None);
}

/// Ids are unique; a follow-up follows an earlier answer of its own stage.
fn check_parents(interview: &Interview) {
    for (index, answer) in interview.answers().iter().enumerate() {
        let earlier = &interview.answers()[..index];
        assert!(earlier.iter().all(|other| other.id != answer.id));
        let stage = RUBRIC.stage(&answer.stage).expect("a stage of the rubric");
        let parent = answer.follow_up_of.as_ref();
        let parent = parent.map(|id| earlier.iter().find(|other| other.id == *id).expect("comes earlier"));
        let base = parent.map(|parent| RUBRIC.stage(&parent.stage).expect("a stage of the rubric").base);
        assert_eq!(base, stage.is_follow_up.then_some(stage.base));
    }
}
