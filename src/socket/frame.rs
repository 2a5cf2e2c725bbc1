//! Lines out of a stream of bytes, none longer than the limit, each byte looked at once.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::buffer::{self, SHARED_BYTES_MAX};
use super::ledger::{Account, Charge};
use super::turns::turn_by_turn;

/// Room that every read has at least.
const READ_BYTES_MIN: usize = 8 << 10;
/// What one read takes at most: in a large buffer there is room for far more, and nobody else would be asked meanwhile.
const READ_BYTES_MAX: u64 = 256 << 10;
/// Lines of this length are handed over in the buffer that they were read into.
const COPIED_BYTES_MAX: usize = 64 << 10;

/// What came next.
#[derive(Debug)]
pub enum Frame {
    Line(Line),
    /// A line of at least `actual` bytes; nothing more can be read.
    TooLong {
        actual: usize,
    },
    End,
}

/// A line without its line break, counted as held until `charge` is dropped.
#[derive(Debug)]
pub struct Line {
    pub bytes: Vec<u8>,
    pub charge: Charge,
}

/// Reads lines. Ends with `\n` or `\r\n`; empty lines are skipped; a last line may end with the stream.
#[derive(Debug)]
pub struct LineReader<R> {
    stream: R,
    line_bytes_max: usize,
    buffer: Vec<u8>,
    /// Where the next line begins in `buffer`.
    start: usize,
    /// Up to where there is no line break.
    scanned: usize,
    charge: Charge,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub fn new(stream: R, line_bytes_max: usize, account: &Account) -> Self {
        Self {
            stream,
            line_bytes_max,
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            charge: account.charge(),
        }
    }

    pub fn stream(&self) -> &R {
        &self.stream
    }

    pub fn into_stream(self) -> R {
        self.stream
    }

    /// The next line. May be dropped at any time: nothing that was read is lost.
    pub async fn next(&mut self) -> io::Result<Frame> {
        loop {
            while let Some(end) = self.line_break() {
                let length = end - self.start;
                if length > self.line_bytes_max {
                    return Ok(self.too_long(length));
                }
                if let Some(line) = self.take(end) {
                    return Ok(Frame::Line(line));
                }
            }
            let partial = self.buffer.len() - self.start;
            if partial > self.line_bytes_max {
                return Ok(self.too_long(partial));
            }
            self.make_room();
            // Whenever bytes come, and not only now: all could wait for theirs while little is held.
            let relieved = || self.charge.relieved();
            let mut some = (&mut self.stream).take(READ_BYTES_MAX);
            if turn_by_turn(relieved, some.read_buf(&mut self.buffer)).await? == 0 {
                return Ok(self.last_line());
            }
            self.charge.set(self.buffer.len() - self.start);
        }
    }

    fn line_break(&mut self) -> Option<usize> {
        let found = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n');
        let end = found.map(|offset| self.scanned + offset);
        self.scanned = end.unwrap_or(self.buffer.len());
        end
    }

    /// Takes the line that ends before the line break at `end`; `None` if it is empty.
    fn take(&mut self, end: usize) -> Option<Line> {
        let mut line = if self.start == 0 && end > COPIED_BYTES_MAX {
            let rest = buffer::holding(&self.buffer[end + 1..], 0);
            let mut line = std::mem::replace(&mut self.buffer, rest);
            line.truncate(end);
            self.scanned = 0;
            line
        } else {
            let line = buffer::holding(&self.buffer[self.start..end], 0);
            self.start = end + 1;
            self.scanned = end + 1;
            line
        };
        line.pop_if(|byte| *byte == b'\r');
        self.handed_over(line)
    }

    fn last_line(&mut self) -> Frame {
        let mut line = self.buffer.split_off(self.start);
        self.forget();
        line.pop_if(|byte| *byte == b'\r');
        self.handed_over(line).map_or(Frame::End, Frame::Line)
    }

    /// Moves the line's bytes from this reader's charge to one of its own.
    fn handed_over(&mut self, bytes: Vec<u8>) -> Option<Line> {
        self.charge.set(self.buffer.len() - self.start);
        if bytes.is_empty() {
            return None;
        }
        let mut charge = self.charge.sibling();
        charge.set(bytes.len());
        Some(Line { bytes, charge })
    }

    fn too_long(&mut self, actual: usize) -> Frame {
        self.forget();
        Frame::TooLong { actual }
    }

    fn forget(&mut self) {
        self.buffer = Vec::new();
        self.start = 0;
        self.scanned = 0;
        self.charge.set(0);
    }

    /// Drops the lines that were taken, once per read, and with them whatever memory the rest has no use for.
    fn make_room(&mut self) {
        let rest = &self.buffer[self.start..];
        let is_shared = self.buffer.capacity() <= SHARED_BYTES_MAX;
        let outgrows = is_shared && rest.len() + READ_BYTES_MIN > self.buffer.capacity();
        if outgrows || self.start > 0 && !is_shared {
            let more = SHARED_BYTES_MAX.saturating_sub(rest.len()).max(READ_BYTES_MIN);
            self.buffer = buffer::holding(rest, more);
        } else {
            self.buffer.drain(..self.start);
        }
        self.scanned -= self.start;
        self.start = 0;
        // Pages of its own grow where they are.
        self.buffer.reserve(READ_BYTES_MIN);
    }
}

#[cfg(test)]
mod tests {
    use super::super::ledger::Ledger;
    use super::*;

    async fn frames(bytes: &[u8], line_bytes_max: usize) -> Vec<String> {
        let ledger = Ledger::new(usize::MAX);
        let account = ledger.open();
        let mut reader = LineReader::new(bytes, line_bytes_max, &account);
        let mut frames = Vec::new();
        loop {
            match reader.next().await.unwrap() {
                Frame::Line(line) => {
                    assert_eq!(line.charge.bytes(), line.bytes.len());
                    frames.push(String::from_utf8(line.bytes).unwrap());
                }
                Frame::TooLong { actual } => {
                    frames.push(format!("too long: {actual}"));
                    break;
                }
                Frame::End => break,
            }
        }
        assert_eq!(ledger.total(), 0, "nothing stays charged");
        frames
    }

    #[tokio::test]
    async fn lines_end_with_a_line_break_a_carriage_return_before_it_or_the_stream() {
        assert_eq!(frames(b"a\nb\r\n\n\r\nc", 10).await, ["a", "b", "c"]);
        assert_eq!(frames(b"", 10).await, [""; 0]);
        assert_eq!(frames(b"\n\n", 10).await, [""; 0]);
    }

    #[tokio::test]
    async fn a_line_may_have_exactly_as_many_bytes_as_the_limit_says() {
        assert_eq!(frames(b"12345\n6", 5).await, ["12345", "6"]);
        assert_eq!(frames(b"1\n123456\n6", 5).await, ["1", "too long: 6"]);
        assert_eq!(frames(b"1234567", 5).await, ["too long: 7"]);
    }

    #[tokio::test]
    async fn long_lines_and_short_ones_come_out_as_they_went_in() {
        let lines: Vec<String> = [0, 3, 70_000, 1, 200_000, 65_536, 65_537, 2]
            .iter()
            .map(|length| "x".repeat(*length))
            .collect();
        let got = frames(lines.join("\n").as_bytes(), 1 << 20).await;
        assert_eq!(got, lines[1..]);
    }

    #[tokio::test]
    async fn a_read_that_was_dropped_loses_nothing() {
        use tokio::io::AsyncWriteExt;
        let (mut ours, theirs) = tokio::io::duplex(64);
        let account = Ledger::new(usize::MAX).open();
        let mut reader = LineReader::new(theirs, 100, &account);
        for part in ["ab", "cd", "ef\n"] {
            tokio::select! {
                biased;
                _ = reader.next() => panic!("there is no whole line yet"),
                () = tokio::task::yield_now() => {}
            }
            ours.write_all(part.as_bytes()).await.unwrap();
        }
        let Frame::Line(line) = reader.next().await.unwrap() else {
            panic!("a line is there")
        };
        assert_eq!(line.bytes, b"abcdef");
    }

    #[tokio::test]
    async fn what_was_needed_for_a_long_line_is_not_kept_for_short_ones() {
        let account = Ledger::new(usize::MAX).open();
        let lines = format!("{}\n{}\nshort\nshort", "x".repeat(1 << 20), "x".repeat(40 << 10));
        let mut reader = LineReader::new(lines.as_bytes(), 2 << 20, &account);
        for length in [1 << 20, 40 << 10, 5] {
            let Frame::Line(line) = reader.next().await.unwrap() else {
                panic!("a line is there")
            };
            assert_eq!(line.bytes.len(), length);
            assert_eq!(account.bytes(), reader.buffer.len() - reader.start + length);
        }
        reader.make_room();
        assert!(
            reader.buffer.capacity() <= SHARED_BYTES_MAX,
            "{}",
            reader.buffer.capacity()
        );
        assert_eq!(reader.buffer, b"short");
    }
}
