//! What may be told of a failure: nothing that was put together at run time, for that may quote a candidate.

use std::any::Any;

use serde_json::error::Category;

/// The words of a panic, if they are the program's own.
pub fn words_of(panic: &(dyn Any + Send)) -> &'static str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .unwrap_or("see the log for its place")
}

/// What is wrong with a JSON text, and where, without what stands there.
pub fn place_of(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        Category::Io => "it cannot be read on",
        Category::Syntax => "it is no JSON",
        Category::Eof => "it ends too early",
        Category::Data => "it is not what belongs there",
    };
    match error.line() {
        0 => what.to_owned(),
        line => format!("{what}, at line {line}, column {}", error.column()),
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn of_a_panic_only_words_that_stand_in_the_program_are_told() {
        let answer = String::from("비밀스러운 답변");
        let quoting = catch_unwind(|| panic!("it is {answer}")).unwrap_err();
        assert_eq!(words_of(&*quoting), "see the log for its place");
        let plain = catch_unwind(|| panic!("a page is gone")).unwrap_err();
        assert_eq!(words_of(&*plain), "a page is gone");
    }

    #[test]
    fn of_a_json_text_the_place_is_told_and_not_what_stands_there() {
        let of = |text: &str| place_of(&serde_json::from_str::<u32>(text).unwrap_err());
        let cases = [
            (
                "\"비밀스러운 답변\"",
                "it is not what belongs there, at line 1, column ",
            ),
            ("7 비밀", "it is no JSON, at line 1, column 3"),
            ("\"비밀", "it ends too early, at line 1, column "),
        ];
        for (text, told) in cases {
            let found = of(text);
            assert!(found.starts_with(told) && !found.contains("비밀"), "{text}: {found}");
        }
    }
}
