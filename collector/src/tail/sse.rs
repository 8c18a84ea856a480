//! `text/event-stream` (WHATWG HTML, section 9.2). The bytes of an event are put together here and not by axum, so that its
//! JSON is written once for all who follow, and many small events go out together.

use crate::query::place::Place;
use axum::body::Bytes;
use bytes::BytesMut;
use std::fmt::Display;
use std::ops::Range;
use std::time::Duration;

/// The media type. It is always UTF-8.
pub const MEDIA_TYPE: &str = "text/event-stream";

/// What a stream begins with: when to come back if it breaks, and its place, so that one which breaks before its first event
/// goes on as well.
pub fn opening(retry: Duration, place: Option<Place>) -> Bytes {
    let mut bytes = BytesMut::new();
    field(&mut bytes, "retry", retry.as_millis());
    end(&mut bytes, place)
}

/// Appends an event. It has no name, so that `onmessage` gets it. `json` has no line breaks.
pub fn push_event(bytes: &mut BytesMut, place: Place, json: &[u8]) {
    field(bytes, "id", place);
    bytes.extend_from_slice(b"data: ");
    bytes.extend_from_slice(json);
    bytes.extend_from_slice(b"\n\n");
}

/// The event `dropped`: retention dropped these sequences before they were read.
pub fn dropped(sequences: &Range<i64>, place: Option<Place>) -> Bytes {
    let mut bytes = BytesMut::new();
    field(&mut bytes, "event", "dropped");
    let json = format!(r#"{{"firstSequence":{},"nextSequence":{}}}"#, sequences.start, sequences.end);
    field(&mut bytes, "data", json);
    end(&mut bytes, place)
}

/// A sign of life. An `id` without `data` fires no event and moves the place of whoever reconnects.
pub fn heartbeat(place: Option<Place>) -> Bytes {
    let mut bytes = BytesMut::from(":\n");
    end(&mut bytes, place)
}

/// Words for people, which programs do not see.
pub fn comment(text: impl Display) -> Bytes {
    format!(": {text}\n\n").into()
}

fn field(bytes: &mut BytesMut, name: &str, value: impl Display) {
    bytes.extend_from_slice(format!("{name}: {value}\n").as_bytes());
}

fn end(bytes: &mut BytesMut, place: Option<Place>) -> Bytes {
    if let Some(place) = place {
        field(bytes, "id", place);
    }
    bytes.extend_from_slice(b"\n");
    bytes.split().freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Option<Place> = Some(Place { epoch: 1, sequence: 17 });

    #[test]
    fn each_block_has_its_fields_and_ends_with_an_empty_line() {
        assert_eq!(opening(Duration::from_secs(2), HERE), "retry: 2000\nid: 1.17\n\n");
        assert_eq!(opening(Duration::from_secs(2), None), "retry: 2000\n\n");
        let dropped = dropped(&(3..18), HERE);
        assert_eq!(dropped, "event: dropped\ndata: {\"firstSequence\":3,\"nextSequence\":18}\nid: 1.17\n\n");
        assert_eq!(heartbeat(HERE), ":\nid: 1.17\n\n");
        assert_eq!(heartbeat(None), ":\n\n");
        assert_eq!(comment("the collector stops"), ": the collector stops\n\n");
        let mut bytes = BytesMut::new();
        push_event(&mut bytes, Place { epoch: 0, sequence: 3 }, b"{}");
        assert_eq!(bytes, "id: 0.3\ndata: {}\n\n");
    }
}
