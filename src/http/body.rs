//! Bodies: their media type, whole documents, and the lines of NDJSON streams in bounded memory.

use std::{ops::Range, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, header},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::problem::{Kind, Problem};

/// Bytes that a line of NDJSON may have.
pub(super) const MAX_LINE_BYTES: usize = 1 << 20;

/// Of a refused body that are still read, so that its sender comes to read the answer.
const MAX_DISCARDED_BYTES: usize = 64 << 20;

/// What a body claims to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// `application/json`, `application/…+json`, or nothing said.
    Json,
    /// `application/x-ndjson` and its other names.
    Ndjson,
    /// `text/plain`: what `navigator.sendBeacon` sends.
    Text,
}

/// The media type of a request.
pub(super) fn media(headers: &HeaderMap) -> Result<Media, Problem> {
    let wrong = || Problem::new(Kind::UnsupportedMediaType, "send application/json; lists of events or items may also be application/x-ndjson");
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Problem::new(Kind::UnsupportedMediaType, "send the body without a content encoding"));
    }
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(Media::Json) };
    let value = value.to_str().map_err(|_| wrong())?;
    let essence = value.split(';').next().unwrap_or_default().trim();
    let is = |name: &str| essence.eq_ignore_ascii_case(name);
    let ends_in_json = essence.len() > 5 && essence.is_ascii() && essence[essence.len() - 5..].eq_ignore_ascii_case("+json");
    if is("application/json") || ends_in_json {
        Ok(Media::Json)
    } else if is("application/x-ndjson") || is("application/ndjson") || is("application/jsonl") || is("application/x-jsonlines") {
        Ok(Media::Ndjson)
    } else if is("text/plain") {
        Ok(Media::Text)
    } else {
        Err(wrong())
    }
}

/// The bytes of a request that must be one JSON document.
pub(super) async fn document(request: Request) -> Result<Bytes, Problem> {
    match media(request.headers())? {
        Media::Json => whole(request.into_body()).await,
        Media::Ndjson | Media::Text => Err(Problem::new(Kind::UnsupportedMediaType, "send application/json")),
    }
}

/// The bytes of a body that the gate has read already.
pub(super) async fn whole(body: Body) -> Result<Bytes, Problem> {
    body.collect().await.map(http_body_util::Collected::to_bytes).map_err(|_| broke_off())
}

/// Reads a body from the wire: at most `limit` bytes, within `patience`.
pub(super) async fn read(mut body: Body, limit: usize, patience: Duration) -> Result<Bytes, Problem> {
    match tokio::time::timeout(patience, Limited::new(&mut body, limit).collect()).await {
        Ok(Ok(read)) => Ok(read.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            discard(&mut body, patience).await;
            Err(too_large(limit))
        }
        Ok(Err(_)) => Err(broke_off()),
        Err(_) => Err(too_slow()),
    }
}

/// Drops what is left of a refused body, as far as is reasonable. A sender that is still writing when its connection is closed
/// sees a broken pipe in place of the answer, and a proxy makes a 502 of that.
pub(super) async fn discard(body: &mut Body, patience: Duration) {
    let read = async {
        let mut left = MAX_DISCARDED_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { break };
            left = rest;
        }
    };
    // Out of patience: then the connection is closed after all.
    drop(tokio::time::timeout(patience, read).await);
}

pub(super) fn too_large(limit: usize) -> Problem {
    Problem::new(Kind::BodyTooLarge, format!("the body may have {limit} bytes; longer lists of events or items can be sent as application/x-ndjson"))
}

fn too_slow() -> Problem {
    Problem::new(Kind::BodyTooSlow, "the body did not arrive in time")
}

fn broke_off() -> Problem {
    Problem::new(Kind::MalformedBody, "the body broke off")
}

/// The lines of a body as they arrive; holds one line and one piece from the network at a time.
pub(super) struct Lines {
    body: Body,
    patience: Duration,
    buffer: Vec<u8>,
    /// Where the next line begins in `buffer`.
    start: usize,
    /// Up to where `buffer` has been searched for a line's end.
    searched: usize,
    /// Inside a line that is too long already.
    skipping: bool,
    ended: bool,
}

/// One line of a stream.
pub(super) enum Line {
    /// Where it lies; ask [`Lines::bytes`].
    At(Range<usize>),
    /// Longer than [`MAX_LINE_BYTES`]; it was skipped.
    TooLong,
}

impl Lines {
    /// `patience`: how long the next piece may take.
    pub(super) fn of(body: Body, patience: Duration) -> Self {
        Self { body, patience, buffer: Vec::new(), start: 0, searched: 0, skipping: false, ended: false }
    }

    /// The next line, without its end.
    pub(super) async fn next(&mut self) -> Result<Option<Line>, Problem> {
        loop {
            if let Some(length) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.start..self.searched + length;
                self.start = line.end + 1;
                self.searched = self.start;
                let too_long = std::mem::take(&mut self.skipping) || line.len() > MAX_LINE_BYTES;
                return Ok(Some(if too_long { Line::TooLong } else { Line::At(line) }));
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            if self.skipping || self.buffer.len() > MAX_LINE_BYTES {
                self.skipping = true;
                self.buffer.clear();
            }
            self.searched = self.buffer.len();
            if self.ended {
                let rest = 0..self.buffer.len();
                self.start = rest.end;
                return Ok(match std::mem::take(&mut self.skipping) {
                    true => Some(Line::TooLong),
                    false => (!rest.is_empty()).then_some(Line::At(rest)),
                });
            }
            match tokio::time::timeout(self.patience, self.body.frame()).await {
                Ok(Some(Ok(frame))) => self.buffer.extend_from_slice(frame.data_ref().map_or(&[], |piece| piece)),
                Ok(Some(Err(_))) => return Err(broke_off()),
                Ok(None) => self.ended = true,
                Err(_) => return Err(too_slow()),
            }
        }
    }

    /// The bytes of a line that [`Self::next`] gave, until it is asked again.
    pub(super) fn bytes(&self, line: Range<usize>) -> &[u8] {
        self.buffer[line].trim_ascii()
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    async fn lines(pieces: Vec<&'static str>) -> Vec<String> {
        let pieces = stream::iter(pieces.into_iter().map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece))));
        let mut lines = Lines::of(Body::from_stream(pieces), Duration::from_secs(1));
        let mut found = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            found.push(match line {
                Line::At(range) => String::from_utf8(lines.bytes(range).to_vec()).unwrap(),
                Line::TooLong => "too long".into(),
            });
        }
        found
    }

    #[tokio::test]
    async fn lines_come_out_whole_wherever_the_pieces_end() {
        assert_eq!(lines(vec!["a\nb", "b\r\n", "", "\nc", "\n", "d"]).await, ["a", "bb", "", "c", "d"]);
        assert_eq!(lines(vec![]).await, [""; 0]);
        assert_eq!(lines(vec!["\n"]).await, [""]);
    }

    #[tokio::test]
    async fn a_line_without_end_is_skipped_in_bounded_memory() {
        let long: &'static str = "x".repeat(MAX_LINE_BYTES / 2 + 1).leak();

        assert_eq!(lines(vec!["a\n", long, long, long, "\nb\n", long, long]).await, ["a", "too long", "b", "too long"]);
    }
}
