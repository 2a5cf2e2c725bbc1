//! One line → one request, or what is wrong with it: JSON first, then JSON-RPC, then the method and its parameters.

use std::cell::Cell;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::fault::{Fault, Kind};
use super::params::{self, Asked};
use super::service::Role;

/// Longest id of a request: it is held until the request is answered.
pub const ID_BYTES_MAX: usize = 1_024;
/// Most values in a line: an honest interview has at most some 800, and a few bytes of JSON can become many of memory.
pub const VALUES_MAX: usize = 10_000;
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
    let read = text(line).and_then(|(text, values)| Ok((envelope(text)?, values)));
    let (envelope, values) = match read {
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
    let asked = params::asked(&method, envelope.params, role);
    let bytes = match asked.is_ok() {
        true => line.len() + values * VALUE_BYTES,
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

/// The line as text that is JSON throughout, so that whatever is wrong with it as such is found whatever it asks for; and how many values it has.
fn text(line: &[u8]) -> Result<(&str, usize), Fault> {
    let text = std::str::from_utf8(line).map_err(|error| {
        let place = error.valid_up_to() + 1;
        Fault::new(Kind::Parse, format!("the line is not UTF-8: byte {place} is wrong"))
    })?;
    let mut parser = serde_json::Deserializer::from_str(text);
    let values = Cell::new(0);
    let walked = Walk { values: &values }.deserialize(&mut parser);
    walked.and_then(|()| parser.end()).map_err(|error| {
        if error.is_data() {
            let message = format!("the line has more than {VALUES_MAX} JSON values");
            return Fault::too_large(message, VALUES_MAX, values.get());
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
    Ok((text, values.get()))
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

/// Walks through a JSON value and keeps nothing of it. Unlike serde's `IgnoredAny` it decodes strings and keeps to the depth limit.
#[derive(Clone, Copy)]
struct Walk<'a> {
    values: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.values.set(self.values.get() + 1);
        if self.values.get() > VALUES_MAX {
            return Err(D::Error::custom("too many values"));
        }
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

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while members.next_key_seed(self)?.is_some() {
            members.next_value_seed(self)?;
        }
        Ok(())
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
        while let Some(name) = members.next_key::<String>()? {
            let member = match name.as_str() {
                "jsonrpc" => &mut envelope.jsonrpc,
                "id" => &mut envelope.id,
                "method" => &mut envelope.method,
                "params" => &mut envelope.params,
                other => {
                    members.next_value::<IgnoredAny>()?;
                    let problem = || format!("unknown member {:?}", shortened(other, ECHO_CHARS_MAX));
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
        let text = |raw: Option<&RawValue>| raw.map(|raw| serde_json::from_str::<String>(raw.get()).ok());
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
