-- One event a transaction into the collector's own tables, with what the collector keeps of it. Sequences come from
-- a sequence object, so that clients need not wait for each other: less than the collector promises.
WITH given AS (SELECT nextval('bench_sequence') AS sequence, gen_random_uuid()::text AS id),
ids AS (INSERT INTO event_id (day, id, sequence) SELECT '2026-03-02', id, sequence FROM given)
INSERT INTO event (
    sequence, epoch, received_at, id, "timestamp", type,
    actor_type, actor_id, actor_name, resource_type, resource_id, resource_name, outcome,
    submitted_by_kind, submitted_by_name, context, changes,
    personal_salt, body_salt, personal, body, leaf_hash
)
SELECT sequence, 0, now(), id, '2026-03-02T09:14:05.120Z', 'Event Type 17',
    'user', 'usr_4711', 'Person 4711', 'warehouse', 'whs_31415', 'Production', 'success',
    'writeKey', 'bench/writeKey', '{"ip": "198.51.100.23", "requestId": "req-1002"}',
    '[{"after": false, "before": true, "field": "enabled"}]',
    '\x00000000000000000000000000000000', '\x00000000000000000000000000000000',
    '\x0000000000000000000000000000000000000000000000000000000000000000',
    '\x0000000000000000000000000000000000000000000000000000000000000000',
    '\x0000000000000000000000000000000000000000000000000000000000000000'
FROM given;
