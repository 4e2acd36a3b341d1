//! Bytes, as they come, into lines of bounded length.

use bytes::{Buf as _, Bytes, BytesMut};
use futures::{Stream, StreamExt as _};

use crate::http::body::BODY_BYTES_MAX;

/// One line that is not blank.
#[derive(Debug, PartialEq)]
pub struct Line {
    /// Counted from 1, blank lines included, so that an editor finds it.
    pub number: u64,
    pub text: Result<Bytes, TooLong>,
}

impl Line {
    pub fn bytes(&self) -> usize {
        self.text.as_ref().map_or(0, Bytes::len)
    }
}

/// The line is longer than a command may be. It was skipped up to its end.
#[derive(Debug, PartialEq)]
pub struct TooLong;

#[derive(Default)]
pub struct Lines {
    /// The last line of which any part has come.
    number: u64,
    /// What has come and is not looked at.
    chunk: Bytes,
    /// The beginning of the line that `chunk` goes on with.
    beginning: BytesMut,
    is_too_long: bool,
}

impl Lines {
    /// The next line of `body`; none at its end. A last line may lack its newline, but if the body broke off
    /// there, it is no line.
    pub async fn next<E>(
        &mut self,
        body: &mut (impl Stream<Item = Result<Bytes, E>> + Unpin),
    ) -> Result<Option<Line>, E> {
        loop {
            if let Some(line) = self.in_chunk() {
                return Ok(Some(line));
            }
            match body.next().await {
                Some(chunk) => self.chunk = chunk?,
                None => return Ok(self.take(Bytes::new())),
            }
        }
    }

    fn in_chunk(&mut self) -> Option<Line> {
        while let Some(end) = self.chunk.iter().position(|byte| *byte == b'\n') {
            let rest = self.chunk.split_to(end);
            self.chunk.advance(1);
            let line = self.take(rest);
            if line.is_some() {
                return line;
            }
        }
        let rest = std::mem::take(&mut self.chunk);
        self.is_too_long |= self.beginning.len() + rest.len() > BODY_BYTES_MAX;
        if self.is_too_long {
            self.beginning.clear();
        } else {
            self.beginning.extend_from_slice(&rest);
        }
        None
    }

    /// Ends a line with `rest`; none if it is blank.
    fn take(&mut self, rest: Bytes) -> Option<Line> {
        self.number += 1;
        let is_too_long = std::mem::take(&mut self.is_too_long);
        let beginning = std::mem::take(&mut self.beginning);
        if is_too_long || beginning.len() + rest.len() > BODY_BYTES_MAX {
            return Some(Line { number: self.number, text: Err(TooLong) });
        }
        let text = if beginning.is_empty() { rest } else { [beginning.freeze(), rest].concat().into() };
        let is_blank = text.iter().all(u8::is_ascii_whitespace);
        (!is_blank).then_some(Line { number: self.number, text: Ok(text) })
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, stream};

    use super::*;

    /// The lines of a body that comes in these chunks.
    fn lines(chunks: &[&[u8]]) -> Vec<Line> {
        let chunks = chunks.iter().map(|chunk| Ok::<_, ()>(Bytes::copy_from_slice(chunk)));
        let mut body = stream::iter(chunks.collect::<Vec<_>>());
        let mut lines = Lines::default();
        let next = || lines.next(&mut body).now_or_never().unwrap().unwrap();
        std::iter::from_fn(next).collect()
    }

    fn line(number: u64, text: &str) -> Line {
        Line { number, text: Ok(Bytes::copy_from_slice(text.as_bytes())) }
    }

    #[test]
    fn lines_come_out_whole_however_the_bytes_arrive() {
        let body = b"one\ntwo\nthree\n";
        let expected = [line(1, "one"), line(2, "two"), line(3, "three")];
        for size in 1..=body.len() {
            assert_eq!(lines(&body.chunks(size).collect::<Vec<_>>()), expected, "chunks of {size}");
        }
    }

    #[test]
    fn a_last_line_needs_no_newline() {
        assert_eq!(lines(&[b"one\ntw", b"o"]), [line(1, "one"), line(2, "two")]);
        assert_eq!(lines(&[]), []);
        assert_eq!(lines(&[b"\n"]), []);
    }

    #[test]
    fn blank_lines_are_counted_but_left_out() {
        assert_eq!(lines(&[b"\n \r\none\r\n\n\ntwo\n"]), [line(3, "one\r"), line(6, "two")]);
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_to_its_newline() {
        let longest = "x".repeat(BODY_BYTES_MAX);
        let body = format!("one\n{longest}\n{longest}x\n{longest}{longest}\ntwo");
        let expected = [
            line(1, "one"),
            line(2, &longest),
            Line { number: 3, text: Err(TooLong) },
            Line { number: 4, text: Err(TooLong) },
            line(5, "two"),
        ];
        for size in [1000, BODY_BYTES_MAX, body.len()] {
            assert_eq!(
                lines(&body.as_bytes().chunks(size).collect::<Vec<_>>()),
                expected,
                "chunks of {size}"
            );
        }
    }

    #[test]
    fn no_more_of_a_line_is_kept_than_a_line_may_have() {
        let mut lines = Lines::default();
        for _ in 0..1000 {
            lines.chunk = Bytes::from(vec![b'x'; 1000]);
            assert_eq!(lines.in_chunk(), None);
            assert!(lines.beginning.len() <= BODY_BYTES_MAX);
        }
    }

    #[test]
    fn what_stands_last_is_no_line_if_the_body_broke_off() {
        let mut body = stream::iter([Ok(Bytes::from_static(b"one\ntwo")), Err("reset")]);
        let mut lines = Lines::default();
        assert_eq!(lines.next(&mut body).now_or_never().unwrap(), Ok(Some(line(1, "one"))));
        assert_eq!(lines.next(&mut body).now_or_never().unwrap(), Err("reset"));
    }

    #[test]
    fn whatever_comes_in_whatever_pieces_has_the_lines_of_the_whole() {
        arbtest::arbtest(|chance| {
            let body: Vec<u8> = chance.arbitrary()?;
            let mut pieces: Vec<&[u8]> = Vec::new();
            let mut rest = &body[..];
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(chance.int_in_range(1..=rest.len())?);
                pieces.push(piece);
                rest = after;
            }
            let blank = |text: &[u8]| text.iter().all(u8::is_ascii_whitespace);
            let whole = body.split(|byte| *byte == b'\n').zip(1..).filter(|(text, _)| !blank(text));
            let expected: Vec<Line> =
                whole.map(|(text, number)| Line { number, text: Ok(Bytes::copy_from_slice(text)) }).collect();
            assert_eq!(lines(&pieces), expected);
            Ok(())
        });
    }
}
