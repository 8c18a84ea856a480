-- What filters ask, block by block. A block is a run of consecutive sequences within a segment. When it is full, the keeper
-- writes down which values its events have and where (an inverted index: postings), and the times it spans. Queries read
-- this instead of events, and scan only what is newer than the last full block.

-- The filter indexes of segments, which this replaces. A collector of schema 2 that still runs finds its events without them.
DO $$
DECLARE
    index_name text;
BEGIN
    FOR index_name IN SELECT indexname FROM pg_indexes
                      WHERE schemaname = current_schema() AND indexname ~ '^event_[0-9]{19}_terms$' LOOP
        EXECUTE format('DROP INDEX %I', index_name);
    END LOOP;
END
$$;

-- A block is here when all of its postings are.
CREATE TABLE block (
    first_sequence bigint   PRIMARY KEY,
    -- Earliest and latest "timestamp" of each zone, in microseconds since 1970: a zone is a run of sequences
    -- within the block (collector/src/store/block.rs), null where none of its events is kept.
    earliest       bigint[] NOT NULL,
    latest         bigint[] NOT NULL
);

-- One row for each value of a field in a block.
CREATE TABLE posting (
    -- Which field: the numbers in collector/src/store/term.rs.
    field          smallint NOT NULL,
    value          text     COLLATE "C" NOT NULL,
    -- First sequence of the block.
    first_sequence bigint   NOT NULL,
    -- Of an actor or a resource: its type, and the name and e-mail address that it had last. Erasing a person means here too.
    kind           text     COLLATE "C",
    name           text,
    email          text,
    -- How many events of the block have the value, and which: their distances from first_sequence, as a Roaring bitmap in
    -- its portable format, without the zeros at its end.
    count          integer  NOT NULL,
    places         bytea    NOT NULL
);

-- Bitmaps are compressed already, and the largest fits in a page: it stays in its row, where reading it costs least.
ALTER TABLE posting ALTER COLUMN places SET STORAGE EXTERNAL;
ALTER TABLE posting SET (toast_tuple_target = 8160);

-- A value is looked up over many blocks at once.
CREATE INDEX posting_value ON posting (field, value, first_sequence);

-- Retention removes the postings of dropped blocks, and lists of actors and resources read those of a time range. Rows stand
-- in the order of their blocks.
CREATE INDEX posting_first_sequence ON posting USING brin (first_sequence) WITH (pages_per_range = 8);
