//! What is noticed about an answer without a model: whether anything was said at all, and what is worth a flag.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::outcome::{CriterionScore, Flag, Verdict};
use super::rubric::Area;
use super::score::{Level, LevelSd, Score};

/// Letters and digits below this are very short. In bytes of UTF-8, because a Hangul syllable (3 bytes) says about as much as three Latin letters.
const VERY_SHORT_BYTES: usize = 30;
/// So much may stand around a refusal or a repeated question and it is still nothing else: 12 syllables or 36 Latin letters.
const LITTLE_BYTES: usize = 36;

/// Ways to say that one does not know, as [`letters`] leaves them. Where one begins with another, the longer one comes first.
const REFUSALS: [&str; 34] = [
    "잘모르겠습니다",
    "잘모르겠어요",
    "잘모르겠는데요",
    "잘모르겠네요",
    "잘모르겠음",
    "잘모릅니다",
    "잘몰라요",
    "모르겠습니다",
    "모르겠어요",
    "모르겠는데요",
    "모르겠네요",
    "모르겠음",
    "모릅니다",
    "몰라요",
    "생각이안납니다",
    "생각나지않습니다",
    "생각이나지않습니다",
    "기억이안납니다",
    "기억나지않습니다",
    "기억이나지않습니다",
    "답변하기어렵습니다",
    "답변드리기어렵습니다",
    "답하기어렵습니다",
    "답변하지않겠습니다",
    "넘어가겠습니다",
    "패스하겠습니다",
    "할말이없습니다",
    "idontreallyknow",
    "idontknow",
    "idonotknow",
    "ihavenoidea",
    "icantanswer",
    "icannotanswer",
    "nocomment",
];

/// Characters beyond ASCII that are read as punctuation or not at all: punctuation and format characters of Latin-1, the general punctuation (with
/// zero-width spaces), supplemental and CJK punctuation, vertical, small and full-width forms, fillers, byte order mark, tags.
const SILENT: [(char, char); 24] = [
    ('\u{a1}', '\u{a1}'),
    ('\u{a7}', '\u{a8}'),
    ('\u{ab}', '\u{ab}'),
    ('\u{ad}', '\u{ad}'),
    ('\u{af}', '\u{af}'),
    ('\u{b4}', '\u{b4}'),
    ('\u{b6}', '\u{b8}'),
    ('\u{bb}', '\u{bb}'),
    ('\u{bf}', '\u{bf}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{180e}', '\u{180e}'),
    ('\u{2000}', '\u{206f}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{2e00}', '\u{2e7f}'),
    ('\u{3000}', '\u{3004}'),
    ('\u{3008}', '\u{3020}'),
    ('\u{3030}', '\u{3030}'),
    ('\u{303d}', '\u{303d}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe10}', '\u{fe6f}'),
    ('\u{feff}', '\u{ff0f}'),
    ('\u{fff0}', '\u{fffd}'),
    ('\u{e0000}', '\u{e0fff}'),
];
/// The rest of the full-width forms of ASCII's punctuation, the half-width ideographic marks, the half-width filler, the full-width macron.
const SILENT_FORMS: [(char, char); 5] = [
    ('\u{ff1a}', '\u{ff20}'),
    ('\u{ff3b}', '\u{ff40}'),
    ('\u{ff5b}', '\u{ff65}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{ffe3}', '\u{ffe3}'),
];

/// Whether nothing was said: after NFC the text has neither a letter nor a digit nor a symbol of its own such as an emoji. White space, control and
/// format characters, punctuation, all of ASCII's symbols and combining marks on their own say nothing.
pub fn gate(text: &str) -> bool {
    !text.nfc().any(is_said)
}

/// What is worth a flag, given the answer as it was sent. That it was cut is known only where tokens are counted.
pub fn flags(question: &str, answer: &str) -> Vec<Flag> {
    if gate(answer) {
        return vec![Flag::NoAnswer];
    }
    let (asked, said) = (letters(question), letters(answer));
    let found = [
        (said.len() < VERY_SHORT_BYTES, Flag::VeryShort),
        (is_refusal(&said), Flag::Refusal),
        (repeats(&asked, &said), Flag::RepeatsQuestion),
    ];
    found.into_iter().filter_map(|(is, flag)| is.then_some(flag)).collect()
}

/// The verdict on a gated answer: every criterion at level 1, no evidence, 0 points.
pub fn gated_outcome(area: &Area) -> Verdict {
    let criteria = area.criteria.iter().map(|criterion| CriterionScore {
        name: criterion.name.clone(),
        points: criterion.points,
        level: Level::LOWEST,
        level_sd: LevelSd::default(),
        score: Score::ZERO,
        evidence: None,
    });
    Verdict::Gated {
        criteria: criteria.collect(),
    }
}

fn is_said(c: char) -> bool {
    let within = |(first, last): &(char, char)| (*first..=*last).contains(&c);
    let silent = c.is_whitespace()
        || c.is_control()
        || c.is_ascii_punctuation()
        || is_combining_mark(c)
        || SILENT.iter().any(within)
        || SILENT_FORMS.iter().any(within);
    !silent
}

/// Letters and digits only, in lower case: what is compared.
fn letters(text: &str) -> String {
    let composed = text.nfc().filter(|c| c.is_alphanumeric() && is_said(*c));
    composed.flat_map(char::to_lowercase).collect()
}

/// Says that one does not know, and little else.
fn is_refusal(said: &str) -> bool {
    let rest = REFUSALS
        .iter()
        .fold(said.to_owned(), |rest, refusal| rest.replace(refusal, ""));
    rest.len() < said.len() && rest.len() <= LITTLE_BYTES
}

/// Is the question again with little around it, or a good part of it and nothing else.
fn repeats(asked: &str, said: &str) -> bool {
    if asked.is_empty() || said.is_empty() {
        return false;
    }
    let again = said.contains(asked) && said.replace(asked, "").len() <= LITTLE_BYTES.min(asked.len());
    again || (asked.contains(said) && 2 * said.len() >= asked.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rubric::{DEFAULT, Rubric};

    #[test]
    fn nothing_said_is_gated_however_it_is_written() {
        for nothing in [
            "",
            " ",
            "\n\t\r\n",
            "...",
            "…",
            "?!",
            "“ ”",
            "、。",
            "！？",
            "~~~",
            "---",
            "^^",
            "\u{200b}\u{feff}",
            "\u{3164}",
            "\u{1160}",
            "\u{301}",
            " \u{301}\u{308}",
            "·",
            "ㅤ",
            "\u{37e}",
            "「」",
            "\u{2060}",
            "\u{fe0f}",
            "﹖",
            "￣｡",
        ] {
            assert!(gate(nothing), "{nothing:?} says nothing");
        }
    }

    #[test]
    fn whatever_says_something_reaches_the_model() {
        for something in [
            "네",
            "1",
            "a.",
            "👍",
            "ㅋㅋ",
            "ㅠ",
            "é",
            "e\u{301}",
            "각",
            "½",
            "€",
            "漢",
            "∑",
            "× 3",
            "[|endofturn|]",
            "ﾊ",
            "Ａ",
        ] {
            assert!(!gate(something), "{something:?} says something");
        }
    }

    #[test]
    fn nothing_said_is_the_only_flag_of_its_answer() {
        assert_eq!(flags("왜요?", " … "), [Flag::NoAnswer]);
    }

    #[test]
    fn short_answers_are_noticed_in_both_languages() {
        assert_eq!(flags("자기소개를 해 주세요.", "저는 성실합니다."), [Flag::VeryShort]);
        assert_eq!(flags("Tell me about yourself.", "I work hard."), [Flag::VeryShort]);
        assert!(flags("자기소개를 해 주세요.", "저는 로그를 모아 원인을 찾는 개발자입니다.").is_empty());
        assert!(
            flags(
                "Tell me about yourself.",
                "I am a developer who reads logs before guessing."
            )
            .is_empty()
        );
    }

    #[test]
    fn refusals_are_noticed_if_they_are_all_that_is_said() {
        let refused = |answer: &str| flags("인덱스가 무엇인가요?", answer).contains(&Flag::Refusal);
        for refusal in [
            "모르겠습니다.",
            "잘 모르겠어요",
            "죄송합니다. 그 부분은 잘 모르겠습니다.",
            "I don't know.",
            "Sorry, I don’t know that one.",
            "음... 생각이 안 납니다",
            "I have no idea!",
        ] {
            assert!(refused(refusal), "{refusal}");
        }
        for answer in [
            "처음에는 잘 모르겠습니다 하고 말했지만, 문서를 읽고 실험을 세 번 해서 원인을 찾았습니다.",
            "I don't know everything about it, but I read the manual and measured three variants first.",
            "인덱스는 찾아보기와 같습니다.",
        ] {
            assert!(!refused(answer), "{answer}");
        }
    }

    #[test]
    fn a_repeated_question_is_noticed() {
        let question = "가장 어려웠던 문제는 무엇이었나요?";
        let repeated = |answer: &str| flags(question, answer).contains(&Flag::RepeatsQuestion);
        assert!(repeated("가장 어려웠던 문제는 무엇이었나요"));
        assert!(repeated("네, 가장 어려웠던 문제는 무엇이었나요?"));
        assert!(repeated("가장 어려웠던 문제는"));
        assert!(!repeated("문제"));
        assert!(!repeated(
            "가장 어려웠던 문제는 무엇이었나요? 배포 뒤에 응답이 느려진 일이었고 원인을 나누어 찾았습니다."
        ));
        assert!(!flags("", "네").contains(&Flag::RepeatsQuestion));
    }

    #[test]
    fn a_gated_answer_has_every_criterion_at_the_lowest_level() {
        let rubric = Rubric::parse(DEFAULT).unwrap();
        let verdict = gated_outcome(&rubric.areas[2]);
        assert_eq!(verdict.score(), Some(Score::ZERO));
        let Verdict::Gated { criteria } = verdict else {
            panic!("it is gated")
        };
        let names: Vec<_> = criteria.iter().map(|c| (c.name.as_str(), c.points, c.level)).collect();
        assert_eq!(names[0], ("개념의 정확성", 50, Level::LOWEST));
        assert_eq!(names.len(), 3);
    }
}
