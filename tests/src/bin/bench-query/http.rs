//! One kept-alive connection to the collector. Bytes are written and read by hand, on a thread that does nothing else, so that
//! the client takes little of the machine it shares.

use audittrail_tests::served::{OWNER, WRITE_KEY};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// How long an answer may take: more than any query may.
const ANSWER_DEADLINE: Duration = Duration::from_mins(1);

/// Bytes of an answer, at most: a page of events.
const ANSWER_MAX_BYTES: usize = 1024 * 1024;

/// A connection with one request at a time.
#[derive(Debug)]
pub struct Connection {
    address: String,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the collector listens");
        stream.set_nodelay(true).expect("an option of a socket");
        stream.set_read_timeout(Some(ANSWER_DEADLINE)).expect("an option of a socket");
        Self { address: address.to_owned(), stream, buffer: vec![0; ANSWER_MAX_BYTES] }
    }

    /// Asks as an owner, and gives the body, and the time until its last byte. It must be a 200.
    pub fn get(&mut self, path: &str) -> (&[u8], Duration) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {OWNER}\r\n\r\n", self.address)
            .into_bytes();
        self.ask(&request, path)
    }

    /// Sends events, which must be stored.
    pub fn post(&mut self, body: &[u8]) {
        let head = format!(
            "POST /v1/events HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {WRITE_KEY}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        self.ask(&[head.as_bytes(), body].concat(), "POST /v1/events");
    }

    fn ask(&mut self, request: &[u8], what: &str) -> (&[u8], Duration) {
        let begun = Instant::now();
        self.stream.write_all(request).expect("the collector reads");
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).expect("the collector answers");
            assert!(read > 0, "the collector closed the connection, or its answer is too long: {what}");
            filled += read;
            let Some(body) = body(&self.buffer[..filled], what) else { continue };
            return (&self.buffer[body], begun.elapsed());
        }
    }
}

/// Where the body is, once all of it is there.
fn body(answer: &[u8], what: &str) -> Option<std::ops::Range<usize>> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).expect("text");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let body = end + 4..end + 4 + length.parse::<usize>().expect("a number");
    let whole = answer.len() >= body.end;
    if whole {
        assert!(head.starts_with("HTTP/1.1 200"), "{what}: {head}\n{}", String::from_utf8_lossy(&answer[body.clone()]));
    }
    whole.then_some(body)
}
