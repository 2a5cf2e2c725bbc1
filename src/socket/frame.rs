//! Lines out of a stream of bytes, none longer than the limit, each byte looked at once.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::buffer::{self, SHARED_BYTES_MAX, taken_bytes};
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
            self.count();
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
            // The pages behind it go back.
            line.shrink_to_fit();
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
        // Not `split_off`: that copies, and there would be two of the longest line while this one counts.
        let mut line = std::mem::take(&mut self.buffer);
        line.drain(..self.start);
        self.start = 0;
        self.scanned = 0;
        line.pop_if(|byte| *byte == b'\r');
        self.handed_over(line).map_or(Frame::End, Frame::Line)
    }

    /// Moves the line's bytes from this reader's charge to one of its own, and never gives back in between what is still held.
    fn handed_over(&mut self, bytes: Vec<u8>) -> Option<Line> {
        let taken = taken_bytes(&bytes);
        let mut charge = self.charge.split_off(taken);
        self.count();
        charge.set(taken);
        (!bytes.is_empty()).then_some(Line { bytes, charge })
    }

    /// Counts all that is in memory, lines that were taken as well: theirs goes at once if nothing comes after them, and otherwise with the next read.
    fn count(&mut self) {
        if self.start == self.buffer.len() {
            match self.buffer.capacity() <= SHARED_BYTES_MAX {
                true => self.buffer.clear(),
                false => self.buffer = Vec::new(),
            }
            self.start = 0;
            self.scanned = 0;
        }
        self.charge.set(taken_bytes(&self.buffer));
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
        self.charge.set(taken_bytes(&self.buffer));
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
                    assert_eq!(line.charge.bytes(), taken_bytes(&line.bytes));
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
            assert_eq!(account.bytes(), taken_bytes(&reader.buffer) + taken_bytes(&line.bytes));
        }
        reader.make_room();
        assert_eq!(account.bytes(), 5);
        assert!(
            reader.buffer.capacity() <= SHARED_BYTES_MAX,
            "{}",
            reader.buffer.capacity()
        );
        assert_eq!(reader.buffer, b"short");
    }

    #[tokio::test]
    async fn lines_that_were_taken_count_as_long_as_they_are_in_memory() {
        let account = Ledger::new(usize::MAX).open();
        // The long line is read with many short ones behind it.
        let lines = format!("{}\n{}", "x".repeat(300 << 10), "short\n".repeat(40_000));
        let mut reader = LineReader::new(lines.as_bytes(), 2 << 20, &account);
        reader.next().await.unwrap();
        let read = reader.buffer.len();
        assert!(read > 100 << 10, "{read}");
        while reader.buffer.len() - reader.start > 6 {
            reader.next().await.unwrap();
            assert!(account.bytes() >= reader.buffer.len());
        }
        assert_eq!(reader.buffer.len(), read, "all of it is still there");
        reader.next().await.unwrap();
        assert!(account.bytes() <= SHARED_BYTES_MAX && reader.buffer.capacity() <= SHARED_BYTES_MAX);
    }

    #[tokio::test]
    async fn a_long_line_is_handed_over_where_it_is_and_with_nothing_behind_it() {
        use tokio::io::AsyncWriteExt;
        for (end, rest) in [("\n", "the next"), ("", "")] {
            let (mut ours, theirs) = tokio::io::duplex(4 << 20);
            let account = Ledger::new(usize::MAX).open();
            let mut reader = LineReader::new(theirs, 2 << 20, &account);
            ours.write_all(&vec![b'x'; 900_000]).await.unwrap();
            tokio::select! {
                biased;
                _ = reader.next() => panic!("there is no whole line yet"),
                () = tokio::time::sleep(std::time::Duration::from_millis(10)) => {}
            }
            let place = reader.buffer.as_ptr();
            assert_eq!(reader.buffer.len(), 900_000);
            ours.write_all([end, rest].concat().as_bytes()).await.unwrap();
            drop(ours);
            let Frame::Line(line) = reader.next().await.unwrap() else {
                panic!("a line is there")
            };
            assert_eq!((line.bytes.as_ptr(), line.bytes.len()), (place, 900_000), "{end:?}");
            assert_eq!(account.bytes(), taken_bytes(&line.bytes) + rest.len());
            assert!(
                end.is_empty() || line.bytes.capacity() == 900_000,
                "what lay behind it is not kept"
            );
        }
    }

    #[tokio::test]
    async fn a_line_that_is_handed_over_counts_all_the_while() {
        use std::sync::atomic::{AtomicBool, Ordering};
        static GIVEN_BACK: AtomicBool = AtomicBool::new(false);
        let account = Ledger::telling(usize::MAX, || GIVEN_BACK.store(true, Ordering::Relaxed)).open();
        let mut line = vec![b'x'; 10 << 20];
        line.extend_from_slice(b"\nrest");
        let mut reader = LineReader::new(line.as_slice(), 10 << 20, &account);
        let Frame::Line(line) = reader.next().await.unwrap() else {
            panic!("a line is there")
        };
        assert!(!GIVEN_BACK.load(Ordering::Relaxed));
        drop(line);
        assert!(GIVEN_BACK.load(Ordering::Relaxed));
    }
}
