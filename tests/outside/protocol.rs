//! Bytes on the socket: the same lines however they arrive, each a request or a fault, and no method for admins reaches anyone else.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use interviewd::socket::call::Call;
use interviewd::socket::fault::Kind;
use interviewd::socket::frame::{Frame, LineReader};
use interviewd::socket::ledger::Ledger;
use interviewd::socket::lines;
use interviewd::socket::params::Asked;
use interviewd::socket::service::Role;
use interviewd::socket::wire::{self, Id, Request};
use serde_json::Value;
use tokio::io::{AsyncRead, ReadBuf};

const LINE_BYTES_MAX: usize = 4_096;
/// A fault's line: an id, a path and a problem, each of limited length, all escaped.
const FAULT_BYTES_MAX: usize = 16 << 10;

/// Bytes that a client sends. Accepted if one of the lines is a request.
pub fn protocol(bytes: &[u8]) -> bool {
    let expected = expected(bytes);
    for at_once in [usize::MAX, 1 + bytes.len() % 13] {
        assert_eq!(frames(bytes, at_once), expected, "{at_once} bytes at once");
    }
    expected.0.iter().filter(|line| request(line)).count() > 0
}

/// Gives at most `at_once` bytes to each read.
struct Trickle<'a> {
    bytes: &'a [u8],
    at_once: usize,
}

impl AsyncRead for Trickle<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let length = self.bytes.len().min(self.at_once).min(into.remaining());
        let (now, later) = self.bytes.split_at(length);
        into.put_slice(now);
        self.bytes = later;
        Poll::Ready(Ok(()))
    }
}

/// The lines, and whether one that was too long ended them.
fn frames(bytes: &[u8], at_once: usize) -> (Vec<Vec<u8>>, bool) {
    let ledger = Ledger::new(usize::MAX);
    let account = ledger.open();
    let mut reader = LineReader::new(Trickle { bytes, at_once }, LINE_BYTES_MAX, &account);
    let (mut lines, mut context) = (Vec::new(), Context::from_waker(Waker::noop()));
    loop {
        let Poll::Ready(frame) = pin!(reader.next()).poll(&mut context) else {
            panic!("all bytes are there");
        };
        match frame.expect("nothing fails here") {
            Frame::Line(line) => lines.push(line.bytes),
            Frame::TooLong { actual } => {
                assert!(actual > LINE_BYTES_MAX);
                return (lines, true);
            }
            Frame::End => return (lines, false),
        }
    }
}

/// As [`frames`], by their definition.
fn expected(bytes: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let pieces = || bytes.split(|byte| *byte == b'\n');
    let short = pieces().take_while(|piece| piece.len() <= LINE_BYTES_MAX);
    let lines = short.map(|piece| piece.strip_suffix(b"\r").unwrap_or(piece));
    let lines = lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect();
    (lines, pieces().any(|piece| piece.len() > LINE_BYTES_MAX))
}

fn request(line: &[u8]) -> bool {
    let [of_admin, of_client] = [Role::Admin, Role::Client].map(|role| wire::read(line, role));
    for request in [&of_admin, &of_client] {
        check_reply(request);
    }
    match (&of_admin.asked, &of_client.asked) {
        (Ok(asked), Ok(of_client)) => {
            assert!(!is_for_admins(asked));
            assert_eq!(format!("{asked:?}"), format!("{of_client:?}"));
        }
        (Ok(asked), Err(fault)) => assert!(is_for_admins(asked) && fault.kind == Kind::Forbidden),
        (Err(_), Err(_)) => return false,
        (Err(fault), Ok(_)) => panic!("clients may do what admins may not: {fault}"),
    }
    let value: Value = serde_json::from_slice(line).expect("a request is JSON");
    let again = wire::read(value.to_string().as_bytes(), Role::Admin);
    assert_eq!(
        format!("{:?}", again.asked),
        format!("{:?}", of_admin.asked),
        "written anew"
    );
    true
}

fn is_for_admins(asked: &Asked) -> bool {
    let Asked::Call(call) = asked else { return false };
    matches!(
        call,
        Call::Resize(_) | Call::ReloadConfig | Call::Drain | Call::Resume | Call::Shutdown { .. }
    )
}

/// Whatever is wrong with a request, its reply is one short line with its id.
fn check_reply(request: &Request) {
    let null = Id::null();
    let id = request.id.as_ref().unwrap_or(&null);
    let Err(fault) = &request.asked else { return };
    let line = lines::fault(id, fault);
    assert!(line.len() <= FAULT_BYTES_MAX, "{} bytes", line.len());
    assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
    let reply: Value = serde_json::from_slice(&line).expect("a reply is JSON");
    assert_eq!(reply["error"]["code"], fault.kind.code());
    let sent: Value = serde_json::from_str(id.raw().get()).expect("an id is JSON");
    assert_eq!(reply["id"], sent);
}
