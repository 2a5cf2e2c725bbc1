//! Text on a terminal: widths that know Korean, wrapping, bars, and nothing that could steer the terminal.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns that a text takes.
pub fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// A text without what would move the cursor, change colours or turn the direction of writing; line breaks stay, tabs become spaces.
pub fn harmless(text: &str) -> String {
    text.chars()
        .filter_map(|c| match c {
            '\n' => Some('\n'),
            '\t' | '\u{2028}' | '\u{2029}' => Some(' '),
            c if c.is_control() || turns_direction(c) => None,
            c => Some(c),
        })
        .collect()
}

/// As [`harmless`], on one line.
pub fn one_line(text: &str) -> String {
    harmless(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn turns_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Breaks a text into lines of at most `columns` columns: at spaces, and inside a word only where the word is longer than a line.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(2);
    let mut lines = Vec::new();
    for paragraph in harmless(text).lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            let gap = usize::from(!line.is_empty());
            if width(&line) + gap + width(word) <= columns {
                line.extend(std::iter::repeat_n(' ', gap));
                line.push_str(word);
                continue;
            }
            if !line.is_empty() {
                lines.push(std::mem::take(&mut line));
            }
            line = break_word(word, columns, &mut lines);
        }
        if !line.is_empty() {
            lines.push(line);
        }
    }
    lines
}

/// Pushes full lines of a long word and gives what is left of it.
fn break_word(word: &str, columns: usize, lines: &mut Vec<String>) -> String {
    let mut line = String::new();
    let mut used = 0;
    for c in word.chars() {
        let wide = c.width().unwrap_or(0);
        // A character without a width belongs to the one before it.
        if used + wide > columns && wide > 0 {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        line.push(c);
        used += wide;
    }
    line
}

/// Wrapped lines behind an indent.
pub fn indented(text: &str, indent: usize, columns: usize) -> Vec<String> {
    let space = " ".repeat(indent);
    let lines = wrap(text, columns.saturating_sub(indent));
    lines.into_iter().map(|line| format!("{space}{line}")).collect()
}

/// Wrapped lines behind a bullet as wide as their indent.
pub fn bulleted(bullet: &str, text: &str, indent: usize, columns: usize) -> Vec<String> {
    let lead = indent + width(bullet);
    let mut lines = indented(text, lead, columns);
    if let Some(first) = lines.first_mut() {
        *first = format!("{}{bullet}{}", " ".repeat(indent), first.trim_start());
    }
    lines
}

/// Cuts a text to `columns` columns, with `…` where something is left out.
pub fn fit(text: &str, columns: usize) -> String {
    let text = harmless(text).replace('\n', " ");
    if width(&text) <= columns {
        return text;
    }
    let mut cut = String::new();
    for c in text.chars() {
        cut.push(c);
        if width(&cut) + 1 > columns {
            cut.pop();
            break;
        }
    }
    cut.push('…');
    cut
}

/// Cut and filled with spaces to exactly `columns` columns.
pub fn pad(text: &str, columns: usize) -> String {
    let text = fit(text, columns);
    let fill = columns.saturating_sub(width(&text));
    text + &" ".repeat(fill)
}

/// As [`pad`], with the text at the right.
pub fn pad_left(text: &str, columns: usize) -> String {
    let text = fit(text, columns);
    " ".repeat(columns.saturating_sub(width(&text))) + &text
}

/// A bar of `columns` columns, filled by `part` of `whole` (half a block rounds up).
pub fn bar(part: u64, whole: u64, columns: usize) -> String {
    let filled = match whole {
        0 => 0,
        whole => {
            let whole = u128::from(whole);
            let part = u128::from(part).min(whole);
            ((2 * part * columns as u128 + whole) / (2 * whole)) as usize
        }
    };
    "█".repeat(filled) + &"░".repeat(columns - filled)
}

/// A number with commas between its thousands.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things, with an `s` unless it is one.
pub fn count(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", thousands(number as u64))
}

/// Bytes in the largest binary unit that leaves at least 1.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A duration in the two largest units that say something.
pub fn seconds(total: u64) -> String {
    let (days, hours, minutes, seconds) = (total / 86_400, total / 3_600 % 24, total / 60 % 60, total % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {seconds} s"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// Milliseconds as seconds with one decimal.
pub fn millis(millis: u64) -> String {
    format!("{}.{} s", millis / 1_000, millis % 1_000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn korean_takes_two_columns_a_syllable() {
        assert_eq!(width("직무 지식"), 9);
        assert_eq!(pad("답변", 6), "답변  ");
        assert_eq!(pad_left("7.5", 6), "   7.5");
        assert_eq!(fit("가나다라마", 7), "가나다…");
        assert_eq!(fit("abc", 3), "abc");
    }

    #[test]
    fn lines_are_never_wider_than_asked_whatever_the_text() {
        let texts = [
            "짧은 말과 아주아주아주아주아주아주긴낱말이섞인문장 그리고 끝",
            "https://example.org/a/very/long/address/without/any/space/in/it 끝",
            "👩‍👩‍👧 이모지 🧑‍💻🧑‍💻🧑‍💻🧑‍💻🧑‍💻🧑‍💻🧑‍💻",
            "\u{1100}\u{1161}\u{11a8} 풀어 쓴 글자",
        ];
        for text in texts {
            for columns in [10, 20, 33] {
                let lines = wrap(text, columns);
                assert!(lines.iter().all(|line| width(line) <= columns), "{columns}: {lines:?}");
                let kept: String = lines.concat().split_whitespace().collect();
                assert_eq!(kept, text.split_whitespace().collect::<String>());
            }
        }
    }

    #[test]
    fn bullets_hang() {
        assert_eq!(
            bulleted("· ", "하나 둘 셋 넷", 2, 12),
            ["  · 하나 둘".to_owned(), "    셋 넷".to_owned()].to_vec()
        );
    }

    #[test]
    fn text_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\u{1b}[31mb\u{202e}c\td\u{7}\u{9b}e"), "a[31mbc de");
        assert_eq!(one_line("a\nb\r\n  c"), "a b c");
    }

    #[test]
    fn bars_are_full_only_when_the_whole_is_there() {
        assert_eq!(bar(0, 100, 4), "░░░░");
        assert_eq!(bar(50, 100, 4), "██░░");
        assert_eq!(bar(100, 100, 4), "████");
        assert_eq!(bar(7, 0, 4), "░░░░");
        assert_eq!(bar(9, 3, 4), "████");
    }

    #[test]
    fn quantities_are_short() {
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(12), "12");
        assert_eq!(count(1, "answer"), "1 answer");
        assert_eq!(count(1_000, "answer"), "1,000 answers");
        assert_eq!(bytes(1_000), "1000 B");
        assert_eq!(bytes(5 * 1024 * 1024 + 300_000), "5.3 MiB");
        assert_eq!(seconds(59), "59 s");
        assert_eq!(seconds(3_725), "1 h 2 min");
        assert_eq!(seconds(90_000), "1 d 1 h");
        assert_eq!(millis(33_249), "33.2 s");
    }
}
