-- Segments get a life of their own, and the log an account of its epochs. All of it only adds to what a
-- collector of schema 1 knows, so one may still run beside a newer one.

-- Filter indexes are no longer of the whole table: each segment gets its own when it closes, since keeping a B-tree
-- up to date while events arrive costs several times what building it afterwards does.
DROP INDEX event_type, event_actor, event_resource;

ALTER TABLE segment
    -- When its first event was seen; null while it is empty.
    ADD COLUMN opened_at   timestamptz,
    -- When the last of its filter indexes was built; null before.
    ADD COLUMN indexed_at  timestamptz,
    -- When retention began to drop it; readers leave it out from then on.
    ADD COLUMN dropping_at timestamptz;

-- Ids are compared byte by byte: a language's order of letters costs more, and nobody lists them in it.
ALTER TABLE event_id ALTER COLUMN id TYPE text COLLATE "C";

-- Retention removes the ids of dropped events by their sequences. Rows stand in about that order, so that a few
-- block ranges are read; keeping this up to date costs next to nothing.
CREATE INDEX event_id_sequence ON event_id USING brin (sequence) WITH (pages_per_range = 32);

-- What a group's events travel in, one array for all of them: text where the table has json.
CREATE TYPE given_event AS (
    day               date,
    sequence          bigint,
    id                text,
    "timestamp"       timestamptz,
    type              text,
    actor_type        text,
    actor_id          text,
    actor_name        text,
    actor_email       text,
    resource_type     text,
    resource_id       text,
    resource_name     text,
    outcome           text,
    submitted_by_kind text,
    submitted_by_name text,
    context           text,
    changes           text,
    details           text,
    personal_salt     bytea,
    body_salt         bytea,
    personal          bytea,
    body              bytea,
    leaf_hash         bytea
);

-- The server that the log lives on, to notice when it is another one: Postgres' system identifier and its
-- timeline (which a promotion or a point-in-time recovery raises). Null where the role may not see them.
ALTER TABLE head
    ADD COLUMN system_identifier bigint,
    ADD COLUMN timeline          integer;

-- Each time that the epoch was raised, and why.
CREATE TABLE epoch (
    epoch          bigint      PRIMARY KEY,
    -- What the restored log ended with: the first sequence of this epoch.
    first_sequence bigint      NOT NULL,
    raised_at      timestamptz NOT NULL,
    -- How it was noticed, for people.
    reason         text        NOT NULL
);

-- Events that retention dropped before this forwarding, enabled, had delivered them.
ALTER TABLE forwarding ADD COLUMN undelivered_dropped bigint NOT NULL DEFAULT 0;

