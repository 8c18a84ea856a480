//! What is read at once, as it is sent.

use super::Format;
use super::row::Row;
use axum::body::Bytes;

/// Size of a frame, in bytes: what the server's own buffers are filled with. A client that stops holds some of them.
const FRAME_BYTES: usize = 64 * 1024;

/// Room in a frame's buffer past that, in bytes: most rows are shorter.
const FRAME_ROOM_BYTES: usize = 4 * 1024;

/// Size of a chunk, in bytes. Large enough that a query's own cost is small beside its rows; each export holds two.
pub const CHUNK_BYTES: usize = 1024 * 1024;

/// Past this size no row is added, in bytes: a chunk's rows are counted by the size of those before, and these may be larger.
const CHUNK_MAX_BYTES: usize = 2 * CHUNK_BYTES;

/// Rows of the first chunk, whose size is not known.
pub const ROWS_FIRST: usize = 1_000;

/// Rows of a chunk, at most. No row is shorter than about a hundred bytes.
pub const ROWS_MAX: usize = 10_000;

/// Rows of an export, written one after the other.
#[derive(Debug)]
pub struct Chunk {
    format: Format,
    rows: usize,
    bytes: usize,
    full: Vec<Bytes>,
    open: Vec<u8>,
}

impl Chunk {
    /// An empty one.
    pub fn new(format: Format) -> Self {
        Self { format, rows: 0, bytes: 0, full: Vec::new(), open: Vec::new() }
    }

    /// Appends what is not a row.
    pub fn text(&mut self, text: &str) {
        self.open.extend(text.as_bytes());
    }

    /// Appends a row.
    pub fn row(&mut self, row: &Row<'_>) -> serde_json::Result<()> {
        if self.open.capacity() == 0 {
            self.open.reserve_exact(FRAME_BYTES + FRAME_ROOM_BYTES);
        }
        self.format.write(row, &mut self.open)?;
        self.rows += 1;
        if self.open.len() >= FRAME_BYTES {
            self.close_frame();
        }
        Ok(())
    }

    /// Whether no row should be added.
    pub fn is_full(&self) -> bool {
        self.bytes + self.open.len() >= CHUNK_MAX_BYTES
    }

    /// Rows of the next chunk, if they are as long as those of this one.
    pub fn rows_of_next(&self, rows_of_this: usize) -> usize {
        let bytes = self.bytes + self.open.len();
        if self.rows == 0 { rows_of_this } else { (CHUNK_BYTES * self.rows / bytes.max(1)).clamp(1, ROWS_MAX) }
    }

    /// What is sent.
    pub fn into_frames(mut self) -> Vec<Bytes> {
        if !self.open.is_empty() {
            self.close_frame();
        }
        self.full
    }

    fn close_frame(&mut self) {
        self.bytes += self.open.len();
        self.full.push(std::mem::take(&mut self.open).into());
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{full, minimal};
    use super::*;

    /// A chunk of rows with this much in their details.
    fn chunk(details_bytes: usize, rows: usize) -> Chunk {
        let details = format!(r#"{{"a":"{}"}}"#, "x".repeat(details_bytes));
        let mut chunk = Chunk::new(Format::Ndjson);
        for _ in 0..rows {
            chunk.row(&Row { details: Some(&details), ..full() }).expect("written");
        }
        chunk
    }

    #[test]
    fn frames_hold_everything_in_order_and_are_of_one_size() {
        let (mut chunk, mut expected) = (chunk(1_000, 0), Vec::new());
        chunk.text("header\n");
        expected.extend(b"header\n");
        for sequence in 0..1_000 {
            let row = Row { sequence, ..full() };
            chunk.row(&row).expect("written");
            Format::Ndjson.write(&row, &mut expected).expect("written");
        }
        let frames = chunk.into_frames();
        assert_eq!(frames.concat(), expected);
        let (_, but_the_last) = frames.split_last().expect("several");
        assert!(but_the_last.len() > 2);
        for frame in but_the_last {
            assert!((FRAME_BYTES..FRAME_BYTES + FRAME_ROOM_BYTES).contains(&frame.len()), "{}", frame.len());
        }
    }

    #[test]
    fn an_empty_chunk_has_no_frames() {
        assert!(Chunk::new(Format::Csv).into_frames().is_empty());
    }

    #[test]
    fn a_chunk_is_full_at_its_bound() {
        let mut chunk = Chunk::new(Format::Csv);
        chunk.text(&"x".repeat(CHUNK_MAX_BYTES - 1));
        assert!(!chunk.is_full());
        chunk.text("x");
        assert!(chunk.is_full());
    }

    #[test]
    fn the_next_chunk_has_as_many_rows_as_fill_it() {
        assert_eq!(Chunk::new(Format::Csv).rows_of_next(7), 7);
        let large = chunk(100_000, 10).rows_of_next(ROWS_FIRST);
        assert_eq!(large, 10);
        let mut small = Chunk::new(Format::Csv);
        small.row(&minimal()).expect("written");
        let rows = small.rows_of_next(ROWS_FIRST);
        assert!((5_000..ROWS_MAX).contains(&rows), "{rows}");
        let huge = chunk(2 * CHUNK_BYTES, 1).rows_of_next(ROWS_FIRST);
        assert_eq!(huge, 1);
    }
}
