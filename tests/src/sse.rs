//! A reader of Server-Sent Events (WHATWG HTML, section 9.2.6), as plain as a browser's.

use crate::served::{DEADLINE, Served};
use reqwest::{Response, StatusCode};
use serde_json::Value;
use std::collections::VecDeque;
use tokio::time::timeout;

/// A block of a stream: what stands before an empty line.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Block {
    /// Its `id`.
    pub id: Option<String>,
    /// Its `event`.
    pub event: Option<String>,
    /// Its `data`.
    pub data: Option<String>,
    /// Its `retry`, in milliseconds.
    pub retry: Option<String>,
    /// Its comment.
    pub comment: Option<String>,
}

/// A stream of events.
#[derive(Debug)]
pub struct Stream {
    response: Response,
    rest: Vec<u8>,
    blocks: VecDeque<Block>,
    /// The id that a browser would reconnect with.
    pub last_event_id: Option<String>,
}

impl Block {
    fn of(text: &str) -> Self {
        let mut block = Self::default();
        for line in text.lines() {
            let (name, value) = line.split_once(':').expect("a field or a comment");
            let value = Some(value.strip_prefix(' ').unwrap_or(value).to_owned());
            match name {
                "id" => block.id = value,
                "event" => block.event = value,
                "data" => block.data = value,
                "retry" => block.retry = value,
                "" => block.comment = value,
                other => panic!("a field {other:?}"),
            }
        }
        block
    }
}

impl Stream {
    /// Opens the live tail at this path as an owner, after this id if there is one. It must be answered 200.
    pub async fn open(served: &Served, path: &str, last_event_id: Option<&str>) -> Self {
        let mut request = served.get(path);
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id);
        }
        let response = request.send().await.expect("answered");
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        Self { response, rest: Vec::new(), blocks: VecDeque::new(), last_event_id: last_event_id.map(str::to_owned) }
    }

    /// The answer's head.
    pub fn response(&self) -> &Response {
        &self.response
    }

    /// The next block; none when the stream has ended, or broken.
    ///
    /// # Panics
    /// When nothing comes for long.
    pub async fn block(&mut self) -> Option<Block> {
        loop {
            if let Some(block) = self.blocks.pop_front() {
                self.last_event_id = block.id.clone().or(self.last_event_id.take());
                return Some(block);
            }
            let chunk = timeout(DEADLINE, self.response.chunk()).await.expect("something comes in time");
            self.take(&chunk.ok()??);
        }
    }

    /// The next event; none when the stream has ended. Its `id` must be that of its JSON.
    ///
    /// # Panics
    /// When nothing comes for long.
    pub async fn event(&mut self) -> Option<Value> {
        loop {
            let block = self.block().await?;
            let Some(data) = block.data.filter(|_| block.event.is_none()) else { continue };
            let event: Value = serde_json::from_str(&data).expect("JSON");
            assert_eq!(block.id, Some(format!("{}.{}", event["epoch"], event["sequence"])));
            return Some(event);
        }
    }

    /// Sequences of the next events, this many or fewer if the stream ends before.
    ///
    /// # Panics
    /// When nothing comes for long.
    pub async fn sequences(&mut self, count: usize) -> Vec<i64> {
        let mut sequences = Vec::new();
        while sequences.len() < count {
            let Some(event) = self.event().await else { break };
            sequences.push(event["sequence"].as_i64().expect("a number"));
        }
        sequences
    }

    fn take(&mut self, chunk: &[u8]) {
        self.rest.extend_from_slice(chunk);
        while let Some(end) = self.rest.windows(2).position(|two| two == b"\n\n") {
            let block: Vec<u8> = self.rest.drain(..end + 2).collect();
            self.blocks.push_back(Block::of(std::str::from_utf8(&block[..end]).expect("UTF-8")));
        }
    }
}
