-- Rows about as large as an event may be, after all others, and in tables that are there already.
WITH made AS (
    INSERT INTO event (sequence, epoch, received_at, id, "timestamp", type, submitted_by_kind, submitted_by_name,
                       details, personal, body, leaf_hash)
    SELECT next_sequence + number, epoch, last_received_at, 'large_' || number, last_received_at, 'Large', 'writeKey', 'bench/writeKey',
           json_build_object('filler', repeat('x', 50000), 'quoted', repeat('"', 12500)), '', '', ''
    FROM head, generate_series(0, 1999) AS number
)
UPDATE head SET next_sequence = next_sequence + 2000;
