//! One line → one request, or what is wrong with it: JSON first, then JSON-RPC, then the method and its parameters.

use std::cell::Cell;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{Deserialize, DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::fault::{Fault, Kind};
use super::params::{self, Asked};
use super::service::Role;

/// Longest id of a request: it is held until the request is answered.
pub const ID_BYTES_MAX: usize = 1_024;
/// Most values in a line: an honest interview has at most some 800, and a few bytes of JSON can become many of memory.
pub const VALUES_MAX: usize = 10_000;
/// Longest name in a request's parameters: none that means something has more than some 20.
pub const NAME_BYTES_MAX: usize = 1_024;
/// Longest text in a request's parameters: more than any has that may be there, which is 100,000 code points of four bytes. What refuses one
/// may say it, six bytes for each of its own.
pub const TEXT_BYTES_MAX: usize = 512 << 10;
/// What a value takes at most besides its text: its place in a list that grows by doubling, and what the allocator adds.
const VALUE_BYTES: usize = 96;
/// Most characters of a client's text, and of a whole message, that are sent back.
pub(super) const ECHO_CHARS_MAX: usize = 40;
pub(super) const MESSAGE_CHARS_MAX: usize = 600;

/// What a line asks for.
#[derive(Debug)]
pub struct Request {
    /// What to answer to; `None`: a notification, which gets no reply.
    pub id: Option<Id>,
    pub asked: Result<Asked, Fault>,
    /// What it takes in memory at most; 0 if it was refused.
    pub bytes: usize,
}

/// The id of a request, as the client wrote it: a string, a number or null.
#[derive(Debug, Clone)]
pub struct Id(Box<RawValue>);

impl Id {
    pub fn null() -> Self {
        Self(RawValue::NULL.to_owned())
    }

    pub fn raw(&self) -> &RawValue {
        &self.0
    }

    fn parse(raw: &RawValue) -> Result<Self, String> {
        let text = raw.get();
        let is_id = text == "null" || text.starts_with(|c: char| c == '"' || c == '-' || c.is_ascii_digit());
        match text.len() {
            _ if !is_id => Err("`id` must be a string, a number or null".to_owned()),
            0..=ID_BYTES_MAX => Ok(Self(raw.to_owned())),
            length => Err(format!("`id` has {length} bytes, the limit is {ID_BYTES_MAX}")),
        }
    }
}

/// Reads a line. Whether `role` may call the method is decided before its parameters are looked at.
pub fn read(line: &[u8], role: Role) -> Request {
    let read = text(line).and_then(|(text, seen)| Ok((envelope(text)?, seen)));
    let (envelope, seen) = match read {
        Ok(read) => read,
        Err(fault) => return refused(Id::null(), fault),
    };
    let id = match envelope.id.map(Id::parse).transpose() {
        Ok(id) => id,
        Err(problem) => return refused(Id::null(), invalid(problem)),
    };
    let method = match envelope.method() {
        Ok(method) => method,
        Err(problem) => return refused(id.unwrap_or_else(Id::null), invalid(problem)),
    };
    let asked = params::asked(&method, envelope.params, role, &seen);
    let bytes = match asked.is_ok() {
        true => line.len() + seen.values.get() * VALUE_BYTES,
        false => 0,
    };
    Request { id, asked, bytes }
}

/// How much memory decoding the texts of a line takes for a moment: that of the longest one that has an escape in it.
pub(super) fn decoding_bytes(line: &[u8]) -> usize {
    let (mut longest, mut rest) = (0, line.iter());
    while rest.any(|byte| *byte == b'"') {
        let (mut length, mut is_escaped) = (0, false);
        while let Some(byte) = rest.next().filter(|byte| **byte != b'"') {
            length += 1;
            if *byte == b'\\' {
                is_escaped = true;
                rest.next();
            }
        }
        if is_escaped {
            longest = longest.max(length);
        }
    }
    longest
}

fn refused(id: Id, fault: Fault) -> Request {
    Request {
        id: Some(id),
        asked: Err(fault),
        bytes: 0,
    }
}

fn invalid(problem: impl fmt::Display) -> Fault {
    Fault::new(Kind::InvalidRequest, format!("not a JSON-RPC 2.0 request: {problem}"))
}

/// The line as text that is JSON throughout, so that whatever is wrong with it as such is found whatever it asks for; and what is in it.
fn text(line: &[u8]) -> Result<(&str, Seen), Fault> {
    let text = std::str::from_utf8(line).map_err(|error| {
        let place = error.valid_up_to() + 1;
        Fault::new(Kind::Parse, format!("the line is not UTF-8: byte {place} is wrong"))
    })?;
    let mut parser = serde_json::Deserializer::from_str(text);
    let seen = Seen::default();
    let walk = Walk {
        seen: &seen,
        text_bytes_max: usize::MAX,
    };
    let walked = walk.deserialize(&mut parser);
    walked.and_then(|()| parser.end()).map_err(|error| {
        if error.is_data() {
            let message = format!("the line has more than {VALUES_MAX} JSON values");
            return Fault::too_large(message, VALUES_MAX, seen.values.get());
        }
        let problem = match without_place(&error).as_str() {
            "unexpected end of hex escape" | "lone leading surrogate in hex escape" => {
                "a lone surrogate, which is half a character".to_owned()
            }
            other => shortened(other, MESSAGE_CHARS_MAX),
        };
        let message = format!("the line is not JSON: {problem} at byte {}", error.column());
        Fault::new(Kind::Parse, message)
    })?;
    Ok((text, seen))
}

/// What a value has in it.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Names included.
    values: Cell<usize>,
    /// The lengths of the longest text and of the longest name, decoded.
    text_bytes: Cell<usize>,
    name_bytes: Cell<usize>,
}

impl Seen {
    fn one_more<E: serde::de::Error>(&self) -> Result<(), E> {
        let values = self.values.get() + 1;
        self.values.set(values);
        match values > VALUES_MAX {
            true => Err(E::custom("too many values")),
            false => Ok(()),
        }
    }

    fn longest(cell: &Cell<usize>, text: &str) {
        cell.set(cell.get().max(text.len()));
    }

    /// The refusal of parameters with too long a text or name in them, of a line in which this was seen. Nothing is made of them: what would become
    /// of such a text takes its length once more, and what is said of it even more than that.
    pub(super) fn refusal(&self, params: &str) -> Option<Fault> {
        let names = self.name_bytes.get();
        if names > NAME_BYTES_MAX {
            return Some(too_long("params: a name", "name", names, NAME_BYTES_MAX).with("path", "params"));
        }
        if self.text_bytes.get() <= TEXT_BYTES_MAX {
            return None;
        }
        let (seen, mut track) = (Self::default(), serde_path_to_error::Track::new());
        let walk = Walk {
            seen: &seen,
            text_bytes_max: TEXT_BYTES_MAX,
        };
        let mut parser = serde_json::Deserializer::from_str(params);
        let walked = walk.deserialize(serde_path_to_error::Deserializer::new(&mut parser, &mut track));
        walked.err()?;
        let path = shortened(&track.path().to_string(), MESSAGE_CHARS_MAX);
        let mut fault = too_long(
            &format!("params.{path}:"),
            "text",
            seen.text_bytes.get(),
            TEXT_BYTES_MAX,
        );
        fault.message +=
            ". An interview's own texts have lower limits, in characters (interview.answer_chars_max and its like)";
        // As for texts that are longer than those limits.
        let field = path.strip_prefix("interview.").unwrap_or(&path);
        Some(fault.with("path", field))
    }
}

/// `kind`: what it is of which nothing longer may be in a request.
fn too_long(what: &str, kind: &str, bytes: usize, most: usize) -> Fault {
    let message =
        format!("{what} has {bytes} bytes in UTF-8, and no {kind} of a request may have more than {most} bytes");
    Fault::too_large(message, most, bytes)
}

/// The error's text without serde_json's "at line 1 column 17", and without the text that stood where something else belonged: it may be a
/// candidate's, and errors are logged.
pub(super) fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = text.strip_suffix(&place).unwrap_or(&text);
    let quoted = |problem: &str| {
        let (before, rest) = text.split_once(problem)?;
        let (_, after) = rest.rsplit_once("\", expected ")?;
        Some(format!(
            "{before}{}a text, expected {after}",
            problem.trim_end_matches("string \"")
        ))
    };
    let shown = quoted("invalid type: string \"").or_else(|| quoted("invalid value: string \""));
    shown.unwrap_or_else(|| text.to_owned())
}

/// Walks through a JSON value, to the first text that is longer than allowed, and keeps nothing of it. Unlike serde's `IgnoredAny` it decodes strings
/// and keeps to the depth limit.
#[derive(Clone, Copy)]
struct Walk<'a> {
    seen: &'a Seen,
    text_bytes_max: usize,
}

/// The same for the name of a member.
struct Name<'a>(&'a Seen);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.seen.one_more()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        Seen::longest(&self.seen.text_bytes, text);
        match text.len() > self.text_bytes_max {
            true => Err(E::custom("too long a text")),
            false => Ok(()),
        }
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while members.next_key_seed(Name(self.seen))?.is_some() {
            members.next_value_seed(self)?;
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.0.one_more()?;
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<(), E> {
        Seen::longest(&self.0.name_bytes, name);
        Ok(())
    }
}

/// A text of which no more is kept than is sent back: more than the names of all members and methods have.
struct Shortened(String);

impl<'de> Deserialize<'de> for Shortened {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Shortened;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Shortened, E> {
                Ok(Shortened(shortened(text, ECHO_CHARS_MAX)))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// The members of a JSON-RPC request, unread.
#[derive(Default)]
struct Envelope<'a> {
    jsonrpc: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    method: Option<&'a RawValue>,
    params: Option<&'a RawValue>,
    /// The first member that should not be there.
    problem: Option<String>,
}

fn envelope(text: &str) -> Result<Envelope<'_>, Fault> {
    match text.trim_start().as_bytes().first() {
        Some(b'{') => {}
        Some(b'[') => return Err(invalid("batches (arrays) are not supported; send one object per line")),
        _ => return Err(invalid("the line must be a JSON object")),
    }
    serde_json::Deserializer::from_str(text)
        .deserialize_map(Members)
        .map_err(|error| invalid(without_place(&error)))
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON-RPC request")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Envelope<'de>, A::Error> {
        let mut envelope = Envelope::default();
        while let Some(Shortened(name)) = members.next_key()? {
            let member = match name.as_str() {
                "jsonrpc" => &mut envelope.jsonrpc,
                "id" => &mut envelope.id,
                "method" => &mut envelope.method,
                "params" => &mut envelope.params,
                other => {
                    members.next_value::<IgnoredAny>()?;
                    let problem = || format!("unknown member {other:?}");
                    envelope.problem.get_or_insert_with(problem);
                    continue;
                }
            };
            if member.replace(members.next_value()?).is_some() {
                return Err(A::Error::custom(format!("the member `{name}` is there twice")));
            }
        }
        Ok(envelope)
    }
}

impl Envelope<'_> {
    /// The method's name, if everything around it is right.
    fn method(&self) -> Result<String, String> {
        if let Some(problem) = &self.problem {
            return Err(problem.clone());
        }
        let text =
            |raw: Option<&RawValue>| raw.map(|raw| serde_json::from_str(raw.get()).ok().map(|Shortened(text)| text));
        match text(self.jsonrpc) {
            None => return Err("`jsonrpc` is missing; it must be \"2.0\"".to_owned()),
            Some(version) if version.as_deref() != Some("2.0") => return Err("`jsonrpc` must be \"2.0\"".to_owned()),
            Some(_) => {}
        }
        match text(self.method) {
            None => Err("`method` is missing".to_owned()),
            Some(None) => Err("`method` must be a string".to_owned()),
            Some(Some(method)) => Ok(method),
        }
    }
}

/// The head of a text, or head and tail if there is room for both: what matters in a message may stand at either end.
pub(super) fn shortened(text: &str, chars_max: usize) -> String {
    let length = text.chars().count();
    if length <= chars_max {
        return text.to_owned();
    }
    let tail = if chars_max > ECHO_CHARS_MAX { chars_max / 2 } else { 0 };
    let head = text.chars().take(chars_max - tail);
    head.chain(['…']).chain(text.chars().skip(length - tail)).collect()
}
