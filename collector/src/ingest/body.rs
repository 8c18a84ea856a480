//! Reads a request's body: bounded in size as sent and as decoded, in time, and in the memory of all bodies together.

use super::room::{Held, NoRoom, Room};
use crate::problem::{Problem, RETRY_AFTER_SECONDS};
use crate::server::BODY_MAX_BYTES;
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use flate2::read::MultiGzDecoder;
use futures::TryStreamExt;
use std::error::Error;
use std::io::Read;
use std::time::Duration;
use tokio::time::timeout;
use tower_http::timeout::TimeoutError;
use zstd::stream::read::Decoder;

/// How long a whole body may take to arrive: 16 MiB at 1.2 Mbit/s. A client that sends a byte now and then must not hold
/// room for ever.
const ARRIVAL_MAX: Duration = Duration::from_mins(2);

/// A body that is too large, or for which there is no room, is received up to this size and thrown away, in bytes, so that
/// its client hears the answer. A client that asks first (`Expect: 100-continue`) is told at once.
const DISCARDED_MAX_BYTES: usize = 4 * BODY_MAX_BYTES;

/// The window of zstd bodies, as a power of two: 8 MiB, which RFC 9659 sets for HTTP.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Bodies from this size on, and all encoded ones, are read on threads of their own: a few hundred microseconds of work are
/// as much as other requests should have to wait for.
const OWN_THREAD_MIN_BYTES: usize = 32 * 1024;

/// What is decoded at once, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// What an answer to an unknown coding lists.
const CODINGS: &str = "gzip, zstd";

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is larger than [`BODY_MAX_BYTES`], as sent or decoded.
    #[error("a body may have {BODY_MAX_BYTES} bytes at most, as sent and decoded")]
    TooLarge,
    /// It did not arrive in time.
    #[error("the body did not arrive in time")]
    Slow,
    /// It did not arrive whole.
    #[error("the body did not arrive whole")]
    Incomplete(#[source] axum::Error),
    /// Its coding is not known.
    #[error("the content-encoding is not known; accepted: {CODINGS}, one of them")]
    UnknownCoding,
    /// It is not what its coding says.
    #[error("the body is not what its content-encoding says: {0}")]
    Damaged(#[source] std::io::Error),
    /// There is no room for it.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let detail = error.to_string();
        match error {
            BodyError::TooLarge => Self::too_large(detail),
            BodyError::Slow => Self::timeout(detail),
            BodyError::Incomplete(_) | BodyError::Damaged(_) => Self::unreadable(detail),
            BodyError::UnknownCoding => Self::unsupported_encoding(CODINGS, detail),
            BodyError::NoRoom(no_room) => no_room.into(),
        }
    }
}

impl From<NoRoom> for Problem {
    fn from(error: NoRoom) -> Self {
        match error {
            NoRoom::Others => Self::unavailable(RETRY_AFTER_SECONDS, error.to_string()),
            NoRoom::Request => Self::too_large(error.to_string()),
        }
    }
}

/// Content codings (RFC 9110, section 8.4.1; RFC 8878).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Coding {
    Identity,
    Gzip,
    Zstd,
}

impl Coding {
    fn of(headers: &HeaderMap) -> Result<Self, BodyError> {
        let mut names = headers.get_all(header::CONTENT_ENCODING).iter();
        let Some(name) = names.next() else { return Ok(Self::Identity) };
        let name = name.to_str().map_err(|_| BodyError::UnknownCoding)?.trim().to_ascii_lowercase();
        match &*name {
            _ if names.next().is_some() => Err(BodyError::UnknownCoding),
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            _ => Err(BodyError::UnknownCoding),
        }
    }
}

/// A body as it was sent, with the room that it holds.
#[derive(Debug)]
pub struct Received {
    bytes: Buffer,
    coding: Coding,
}

/// Reads the body of a request. Each piece takes room before it is kept.
pub async fn receive(request: Request, room: &Room) -> Result<Received, BodyError> {
    let coding = Coding::of(request.headers())?;
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let asks_first = request.headers().contains_key(header::EXPECT);
    let bound = if asks_first { BODY_MAX_BYTES } else { DISCARDED_MAX_BYTES };
    if announced.is_some_and(|bytes: u64| bytes > bound as u64) {
        return Err(BodyError::TooLarge);
    }
    let bytes = timeout(ARRIVAL_MAX, arrive(request, room)).await.map_err(|_| BodyError::Slow)??;
    Ok(Received { bytes, coding })
}

async fn arrive(request: Request, room: &Room) -> Result<Buffer, BodyError> {
    let mut kept = Ok(Buffer { bytes: Vec::new(), room: room.enter() });
    let mut pieces = request.into_body().into_data_stream();
    let mut length = 0;
    while let Some(piece) = pieces.try_next().await.map_err(not_received)? {
        length += piece.len();
        if length > DISCARDED_MAX_BYTES {
            return Err(BodyError::TooLarge);
        }
        // What cannot be kept is thrown away, not left unread: many clients see a broken connection then, and not what
        // they are answered.
        kept = kept.and_then(|mut buffer| buffer.extend(&piece).map(|()| buffer));
    }
    kept
}

fn not_received(error: axum::Error) -> BodyError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        if error.is::<TimeoutError>() {
            return BodyError::Slow;
        }
        cause = error.source();
    }
    BodyError::Incomplete(error)
}

impl Received {
    /// Decodes the body and hands it to `parse`, with its room. What large bodies take of time, other requests do not wait
    /// for; as many are read at once as there are cores.
    pub async fn parse<T, E>(
        self,
        parse: impl FnOnce(&[u8], &Held) -> Result<T, E> + Send + 'static,
    ) -> Result<(T, Held), Problem>
    where
        T: Send + 'static,
        E: Into<Problem> + 'static,
    {
        if self.is_quick() {
            return self.read(parse);
        }
        let turn = self.bytes.room.turn().await;
        let read = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            self.read(parse)
        });
        // A panic goes on where it would have been without the thread.
        read.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    }

    fn read<T, E: Into<Problem>>(self, parse: impl FnOnce(&[u8], &Held) -> Result<T, E>) -> Result<(T, Held), Problem> {
        let Buffer { bytes, room } = self.decode()?;
        let parsed = parse(&bytes, &room).map_err(Into::into)?;
        Ok((parsed, room))
    }

    fn is_quick(&self) -> bool {
        self.coding == Coding::Identity && self.bytes.bytes.len() < OWN_THREAD_MIN_BYTES
    }

    fn decode(self) -> Result<Buffer, BodyError> {
        let encoded = self.bytes;
        match self.coding {
            Coding::Identity => Ok(encoded),
            Coding::Gzip => decoded(MultiGzDecoder::new(&encoded.bytes[..]), &encoded),
            Coding::Zstd => {
                let mut decoder = Decoder::with_buffer(&encoded.bytes[..]).map_err(BodyError::Damaged)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(BodyError::Damaged)?;
                decoded(decoder, &encoded)
            }
        }
    }
}

/// Decodes piece by piece: a small body may stand for a very large one. What the encoded form held is given back.
fn decoded(mut decoder: impl Read, encoded: &Buffer) -> Result<Buffer, BodyError> {
    let mut buffer = Buffer { bytes: Vec::new(), room: encoded.room.clone() };
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match decoder.read(&mut piece).map_err(BodyError::Damaged)? {
            0 => break,
            length => buffer.extend(&piece[..length])?,
        }
    }
    buffer.room.shrink(encoded.bytes.capacity());
    Ok(buffer)
}

/// Bytes, and room for all that is set aside for them.
#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    room: Held,
}

impl Buffer {
    fn extend(&mut self, piece: &[u8]) -> Result<(), BodyError> {
        let length = self.bytes.len() + piece.len();
        if length > BODY_MAX_BYTES {
            return Err(BodyError::TooLarge);
        }
        let capacity = self.bytes.capacity();
        if length > capacity {
            let capacity_next = length.max(2 * capacity).min(BODY_MAX_BYTES);
            self.room.grow(capacity_next - capacity)?;
            self.bytes.reserve_exact(capacity_next - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::StatusCode;
    use futures::stream;
    use std::io::Write;
    use tower_http::timeout::TimeoutBody;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory")
    }

    fn request(coding: &str, body: impl Into<Body>) -> Request {
        Request::builder().header(header::CONTENT_ENCODING, coding).body(body.into()).expect("a request")
    }

    async fn read(request: Request, room: &Room) -> Result<(Vec<u8>, Held), Problem> {
        let received = receive(request, room).await?;
        received.parse(|bytes, _| Ok::<_, Problem>(bytes.to_vec())).await
    }

    async fn status(request: Request) -> StatusCode {
        read(request, &Room::default()).await.expect_err("refused").status()
    }

    #[tokio::test]
    async fn each_coding_is_undone() {
        let text = b"an event ".repeat(20_000);
        let zstd = zstd::encode_all(&text[..], 0).expect("memory");
        let two_members = [gzip(&text[..100]), gzip(&text[100..])].concat();
        for (coding, body) in [
            ("identity", text.clone()),
            ("gzip", gzip(&text)),
            ("X-GZIP", gzip(&text)),
            ("gzip", two_members),
            ("zstd", zstd),
        ] {
            let (read, _) = read(request(coding, body), &Room::default()).await.expect(coding);
            assert!(read == text, "{coding}");
        }
    }

    #[tokio::test]
    async fn a_body_ends_at_the_limit_as_sent_and_as_decoded() {
        let largest = vec![b' '; BODY_MAX_BYTES];
        let one_more = vec![b' '; BODY_MAX_BYTES + 1];
        let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 0).expect("memory");
        for (coding, largest, one_more) in [
            ("identity", largest.clone(), one_more.clone()),
            ("gzip", gzip(&largest), gzip(&one_more)),
            ("zstd", zstd(&largest), zstd(&one_more)),
        ] {
            let (read, _) = read(request(coding, largest), &Room::default()).await.expect(coding);
            assert_eq!(read.len(), BODY_MAX_BYTES);
            assert_eq!(status(request(coding, one_more)).await, 413, "{coding}");
        }
    }

    #[tokio::test]
    async fn what_is_announced_as_too_large_is_not_read() {
        let never = Body::from_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>());
        let announced = DISCARDED_MAX_BYTES + 1;
        let request = Request::builder().header(header::CONTENT_LENGTH, announced).body(never).expect("a request");
        assert_eq!(status(request).await, 413);
    }

    #[tokio::test]
    async fn whoever_asks_first_is_told_before_sending() {
        let never = Body::from_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>());
        let request = Request::builder()
            .header(header::EXPECT, "100-continue")
            .header(header::CONTENT_LENGTH, BODY_MAX_BYTES + 1)
            .body(never)
            .expect("a request");
        assert_eq!(status(request).await, 413);
    }

    #[tokio::test]
    async fn of_a_body_without_end_no_more_is_received_than_is_thrown_away() {
        let endless = Body::from_stream(stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1024 * 1024])));
        assert_eq!(status(request("identity", endless)).await, 413);
    }

    #[tokio::test]
    async fn damaged_bodies_are_refused() {
        let gzip = gzip(b"an event");
        let zstd = zstd::encode_all(&b"an event"[..], 0).expect("memory");
        for (coding, body) in [
            ("gzip", b"an event".to_vec()),
            ("gzip", gzip[..gzip.len() - 1].to_vec()),
            ("gzip", [&gzip[..], b"more"].concat()),
            ("gzip", Vec::new()),
            ("zstd", b"an event".to_vec()),
            ("zstd", zstd[..zstd.len() - 1].to_vec()),
        ] {
            assert_eq!(status(request(coding, body.clone())).await, 400, "{coding} {body:?}");
        }
    }

    #[tokio::test]
    async fn windows_of_zstd_are_bounded() {
        let with_window = |log: u32| {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("memory");
            encoder.window_log(log).expect("a window");
            encoder.write_all(b"an event").and_then(|()| encoder.finish()).expect("memory")
        };
        read(request("zstd", with_window(ZSTD_WINDOW_LOG_MAX)), &Room::default()).await.expect("read");
        assert_eq!(status(request("zstd", with_window(ZSTD_WINDOW_LOG_MAX + 1))).await, 400);
    }

    #[tokio::test]
    async fn another_coding_is_told_which_there_are() {
        for coding in ["br", "deflate", "gzip, gzip", "zstd, gzip"] {
            let problem = read(request(coding, "{}"), &Room::default()).await.expect_err(coding);
            assert_eq!(problem.status(), 415);
            let response = axum::response::IntoResponse::into_response(problem);
            assert_eq!(response.headers()[header::ACCEPT_ENCODING], "gzip, zstd");
        }
    }

    #[tokio::test]
    async fn a_body_that_pauses_too_long_is_answered_408() {
        let never = Body::from_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>());
        let body = Body::new(TimeoutBody::new(Duration::from_millis(10), never));
        assert_eq!(status(request("identity", body)).await, 408);
    }

    #[tokio::test]
    async fn a_body_takes_room_until_it_is_let_go_and_is_told_when_there_is_none() {
        let room = Room::of(256 * 1024);
        let body = vec![b' '; 200 * 1024];
        let (_, held) = read(request("identity", body.clone()), &room).await.expect("room");
        assert!(held.bytes() >= body.len());
        let problem = read(request("identity", body.clone()), &room).await.expect_err("no room");
        assert_eq!(problem.status(), 503);
        drop(held);
        assert_eq!(room.free_bytes(), 256 * 1024);
        read(request("identity", body), &room).await.expect("room again");
    }

    #[tokio::test]
    async fn without_room_a_body_is_received_all_the_same_so_that_its_client_hears_the_answer() {
        let (sender, pieces) = tokio::sync::mpsc::channel(1);
        let stream = stream::unfold(pieces, |mut pieces| async { Some((pieces.recv().await?, pieces)) });
        let room = Room::of(4 * 1024);
        let request = request("identity", Body::from_stream(stream));
        let sent = async {
            for _ in 0..100 {
                sender.send(Ok::<_, std::io::Error>(vec![b' '; 1024])).await.expect("somebody reads");
            }
            drop(sender);
        };
        let ((), answer) = tokio::join!(sent, read(request, &room));
        assert_eq!(answer.expect_err("no room").status(), 503);
        assert_eq!(room.free_bytes(), 4 * 1024);
    }

    #[tokio::test]
    async fn a_bomb_holds_no_more_than_it_decodes_to() {
        let (_, held) = read(request("gzip", gzip(&vec![0; 1_000_000])), &Room::default()).await.expect("read");
        assert!((1_000_000..=2_100_000).contains(&held.bytes()), "{}", held.bytes());
    }
}
