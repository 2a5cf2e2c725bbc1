//! A Rust file as tokens: comments and texts dropped, what only tests see marked, every path resolved as far as a file can tell.

/// A word or a mark of the language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    /// From 1.
    pub line: usize,
    /// Within an item under `#[cfg(test)]`.
    pub in_test: bool,
}

/// A path as it is used somewhere: `["crate", "store", "Store"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedPath {
    pub segments: Vec<String>,
    /// Modules from the crate's root down to the place where the path stands.
    pub module: Vec<String>,
    pub line: usize,
    pub in_test: bool,
}

impl UsedPath {
    /// The path from the crate's root, if it leads into this crate by `crate`, `self` or `super`.
    pub fn in_house(&self) -> Option<Vec<String>> {
        let mut place = match self.segments.first()?.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => self.module.clone(),
            _ => return None,
        };
        let mut rest = self.segments.as_slice();
        while let Some((first, after)) = rest.split_first() {
            match first.as_str() {
                "crate" | "self" => {}
                "super" => drop(place.pop()),
                _ => break,
            }
            rest = after;
        }
        place.extend_from_slice(rest);
        Some(place)
    }
}

/// The tokens of a file, those of its tests marked.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = words(text);
    mark_tests(&mut tokens);
    tokens
}

/// Modules that are declared under `#[cfg(test)]` and stand in files of their own.
pub fn test_modules(tokens: &[Token]) -> Vec<String> {
    (0..tokens.len())
        .filter(|i| tokens[*i].in_test && tokens[*i].text == "mod")
        .filter(|i| tokens.get(i + 2).is_some_and(|token| token.text == ";"))
        .map(|i| tokens[i + 1].text.clone())
        .collect()
}

/// Whether the tokens from `at` on are these.
pub fn stands_at(tokens: &[Token], at: usize, expected: &[&str]) -> bool {
    tokens.len() >= at + expected.len()
        && tokens[at..]
            .iter()
            .zip(expected)
            .all(|(token, text)| token.text == *text)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn words(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let end = match nothing(&chars, at).or_else(|| literal(&chars, at)) {
            Some(end) => end,
            None => {
                let end = match chars[at] {
                    c if is_word(c) => (at..chars.len()).find(|i| !is_word(chars[*i])).unwrap_or(chars.len()),
                    ':' if chars.get(at + 1) == Some(&':') => at + 2,
                    // The end of an arrow closes nothing.
                    '-' | '=' if chars.get(at + 1) == Some(&'>') => at + 2,
                    _ => at + 1,
                };
                tokens.push(Token {
                    text: chars[at..end].iter().collect(),
                    line,
                    in_test: false,
                });
                end
            }
        };
        line += chars[at..end].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    tokens
}

/// The end of white space or of a comment.
fn nothing(chars: &[char], at: usize) -> Option<usize> {
    let starts = |i: usize, text: &str| text.chars().enumerate().all(|(n, c)| chars.get(i + n) == Some(&c));
    if chars[at].is_whitespace() {
        return Some(at + 1);
    }
    if starts(at, "//") {
        return Some((at..chars.len()).find(|i| chars[*i] == '\n').unwrap_or(chars.len()));
    }
    if !starts(at, "/*") {
        return None;
    }
    let (mut depth, mut i) = (1, at + 2);
    while depth > 0 && i < chars.len() {
        if starts(i, "/*") {
            (depth, i) = (depth + 1, i + 2);
        } else if starts(i, "*/") {
            (depth, i) = (depth - 1, i + 2);
        } else {
            i += 1;
        }
    }
    Some(i)
}

/// The end of a text, a character or a lifetime. A raw identifier (`r#type`) becomes the plain one.
fn literal(chars: &[char], at: usize) -> Option<usize> {
    let get = |i: usize| chars.get(i).copied().unwrap_or('\0');
    if get(at) == '\'' {
        return Some(match (get(at + 1), get(at + 2)) {
            ('\\', _) => closed(chars, at + 1, '\''),
            (_, '\'') => at + 3,
            _ => (at + 1..chars.len())
                .find(|i| !is_word(chars[*i]))
                .unwrap_or(chars.len()),
        });
    }
    let prefix = (at..chars.len().min(at + 3))
        .take_while(|i| matches!(chars[*i], 'b' | 'c' | 'r'))
        .count();
    let is_raw = prefix > 0 && get(at + prefix - 1) == 'r';
    let mut open = at + prefix;
    match get(open) {
        '"' if !is_raw => Some(closed(chars, open + 1, '"')),
        '\'' if prefix == 1 && get(at) == 'b' => literal(chars, open),
        '"' | '#' if is_raw => {
            let hashes = (open..chars.len()).take_while(|i| chars[*i] == '#').count();
            open += hashes;
            if get(open) != '"' {
                return Some(open);
            }
            let ends = |i: usize| chars[i] == '"' && (1..=hashes).all(|n| get(i + n) == '#');
            Some(
                (open + 1..chars.len())
                    .find(|i| ends(*i))
                    .map_or(chars.len(), |i| i + 1 + hashes),
            )
        }
        _ => None,
    }
}

/// One past the next `quote` that no backslash takes away.
fn closed(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn mark_tests(tokens: &mut [Token]) {
    let mut at = 0;
    while at < tokens.len() {
        if stands_at(tokens, at, &["#", "!", "[", "cfg", "(", "test"]) {
            tokens.iter_mut().for_each(|token| token.in_test = true);
            return;
        }
        let only_tests = stands_at(tokens, at, &["#", "[", "cfg", "(", "test", ")"])
            || stands_at(tokens, at, &["#", "[", "cfg", "(", "all", "(", "test"])
            || stands_at(tokens, at, &["#", "[", "test", "]"]);
        let end = if only_tests { end_of_item(tokens, at) } else { at + 1 };
        tokens[at..end].iter_mut().for_each(|token| token.in_test |= only_tests);
        at = end;
    }
}

/// One past the item that the attribute at `at` belongs to.
fn end_of_item(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0_usize;
    for (i, token) in tokens.iter().enumerate().skip(at) {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            // Closes what stood open before the attribute: a field or a statement without an end of its own.
            "}" | ")" | "]" if depth == 0 => return i,
            "}" if depth == 1 => return i + 1,
            "}" | ")" | "]" => depth -= 1,
            ";" if depth == 0 => return i + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Every path of two or more segments, and whatever `use` and `extern crate` name. `module` is the file's own.
pub fn used_paths(tokens: &[Token], module: &[String]) -> Vec<UsedPath> {
    let mut reader = Reader {
        tokens,
        module: module.to_vec(),
        found: Vec::new(),
    };
    let (mut at, mut depth) = (0, 0_usize);
    // Depths at which the inline modules were opened.
    let mut opened = Vec::new();
    while at < tokens.len() {
        let text = tokens[at].text.as_str();
        match text {
            "mod" if tokens.get(at + 2).is_some_and(|token| token.text == "{") => {
                reader.module.push(tokens[at + 1].text.clone());
                opened.push(depth);
                depth += 1;
                at += 3;
                continue;
            }
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                if opened.last() == Some(&depth) {
                    opened.pop();
                    reader.module.pop();
                }
            }
            "use" if tokens.get(at + 1).is_some_and(|token| token.text != "<") => {
                at = reader.tree(at + 1, &[]);
                continue;
            }
            "extern" if stands_at(tokens, at + 1, &["crate"]) => {
                at = reader.tree(at + 2, &[]);
                continue;
            }
            word if word.starts_with(is_word) => {
                at = reader.expression(at);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    reader.found
}

struct Reader<'a> {
    tokens: &'a [Token],
    module: Vec<String>,
    found: Vec<UsedPath>,
}

impl Reader<'_> {
    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }

    fn push(&mut self, at: usize, segments: Vec<String>) {
        let token = &self.tokens[at.min(self.tokens.len() - 1)];
        self.found.push(UsedPath {
            segments,
            module: self.module.clone(),
            line: token.line,
            in_test: token.in_test,
        });
    }

    /// One branch of a `use`; returns where the tokens after it begin.
    fn tree(&mut self, mut at: usize, prefix: &[String]) -> usize {
        let start = at;
        let mut segments = prefix.to_vec();
        loop {
            match self.text(at) {
                "::" => at += 1,
                "{" => {
                    at += 1;
                    while !matches!(self.text(at), "}" | "") {
                        at = self.tree(at, &segments);
                        if self.text(at) == "," {
                            at += 1;
                        }
                    }
                    return at + 1;
                }
                "as" => at += 2,
                word if word == "*" || word.starts_with(is_word) => {
                    segments.push(word.to_owned());
                    at += 1;
                }
                _ => {
                    if at > start {
                        self.push(start, segments);
                    }
                    // Whatever this is, never stand still on it.
                    return if matches!(self.text(at), "," | "}" | ";") {
                        at
                    } else {
                        at + 1
                    };
                }
            }
        }
    }

    /// A path in the midst of code; returns where the tokens after it begin.
    fn expression(&mut self, start: usize) -> usize {
        let mut segments = vec![self.text(start).to_owned()];
        let mut at = start + 1;
        while self.text(at) == "::" && self.text(at + 1).starts_with(is_word) {
            segments.push(self.text(at + 1).to_owned());
            at += 2;
        }
        // `Vec::<u8>::new` and `<T as Trait>::name` go on after the `>`: no root of a path.
        let goes_on = start >= 2 && self.text(start - 1) == "::" && self.text(start - 2) == ">";
        if segments.len() > 1 && !goes_on {
            self.push(start, segments);
        }
        at
    }
}
