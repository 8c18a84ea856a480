-- The trail is a log.
--
-- One head row stands for the whole trail. A writer locks it first and holds it to its COMMIT, so
-- sequences are handed out without gaps and become visible in order: whoever sees event N sees
-- every event below N. There is no sequence object, since those leave gaps on rollback and
-- show late commits out of order.
CREATE TABLE head (
    -- Exactly one row.
    singleton        boolean     PRIMARY KEY DEFAULT true CHECK (singleton),
    -- Identity of the log, part of every leaf and of every messageId. It travels with a backup.
    log_id           uuid        NOT NULL DEFAULT gen_random_uuid(),
    -- Who claims this database: the first trail to come. Any other gets DatabaseInUse.
    claim            text        NOT NULL,
    -- Raised when the database was restored or rewound; sequences are unique within an epoch.
    epoch            bigint      NOT NULL DEFAULT 0,
    -- The sequence the next event gets: the number of events ever stored.
    next_sequence    bigint      NOT NULL DEFAULT 0 CHECK (next_sequence >= 0),
    -- receivedAt of the newest event. The next is never earlier, even if the clock went back.
    last_received_at timestamptz NOT NULL DEFAULT '-infinity'
);

-- The oldest version of this schema that a binary must know to run on it. A binary that does
-- not know it yet refuses to start, instead of writing rows which a newer one cannot use.
CREATE TABLE schema_floor (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    version   bigint  NOT NULL
);
INSERT INTO schema_floor (version) VALUES (1);

-- Events, in segments of consecutive sequences. The columns are the event's own members; what
-- has no column of its own is JSON in canonical form (RFC 8785).
CREATE TABLE event (
    sequence          bigint      NOT NULL,
    epoch             bigint      NOT NULL,
    received_at       timestamptz NOT NULL,
    id                text        NOT NULL,
    "timestamp"       timestamptz NOT NULL,
    type              text        NOT NULL,
    actor_type        text,
    actor_id          text,
    actor_name        text,
    actor_email       text,
    resource_type     text,
    resource_id       text,
    resource_name     text,
    outcome           text,
    submitted_by_kind text        NOT NULL,
    submitted_by_name text        NOT NULL,
    context           json,
    changes           json,
    details           json,
    -- Tamper evidence: the two commitments, the random salts that hide what they commit to, and the
    -- RFC 6962 leaf hash (collector/src/event/leaf.rs). Erasing a person's fields sets
    -- personal_salt, actor_* and context to null; the leaf stays provable.
    personal_salt     bytea,
    body_salt         bytea,
    personal          bytea       NOT NULL,
    body              bytea       NOT NULL,
    leaf_hash         bytea       NOT NULL,
    PRIMARY KEY (sequence)
) PARTITION BY RANGE (sequence);

-- Newest first is the usual order, and every filter asks for it.
CREATE INDEX event_type     ON event (type, sequence);
CREATE INDEX event_actor    ON event (actor_id, sequence);
CREATE INDEX event_resource ON event (resource_id, sequence);

-- What each segment holds. Time filters read this first and skip the segments that cannot match;
-- retention drops whole ones.
CREATE TABLE segment (
    first_sequence  bigint PRIMARY KEY,
    -- One past the last sequence that fits.
    end_sequence    bigint NOT NULL CHECK (end_sequence > first_sequence),
    -- Earliest and latest "timestamp" of its events; null while it is empty.
    first_timestamp timestamptz,
    last_timestamp  timestamptz
);

-- Ids, apart from the events and by identity day, so that the check for duplicates touches few
-- pages. The day is that of the UUIDv7's time, else of the client's timestamp, else of receivedAt.
CREATE TABLE event_id (
    day      date   NOT NULL,
    id       text   NOT NULL,
    sequence bigint NOT NULL,
    PRIMARY KEY (day, id)
);

-- The newest configuration that any replica has applied. A replica that is cut off from
-- Kubernetes still reads this, and may not move a cursor with an older one.
CREATE TABLE configuration (
    singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    generation bigint  NOT NULL
);
INSERT INTO configuration (generation) VALUES (0);

-- Replicas, each with the generation it has applied and the time of its last heartbeat.
CREATE TABLE replica (
    name       text        PRIMARY KEY,
    generation bigint      NOT NULL,
    seen       timestamptz NOT NULL
);

-- Forwardings: one cursor each. A row outlives its AuditForwarding, so that one of the same name
-- goes on where the last one was.
CREATE TABLE forwarding (
    name          text   PRIMARY KEY,
    -- The startFrom that the cursor was made from; another value makes it anew.
    start_from    jsonb  NOT NULL,
    -- The cursor: the next sequence to deliver. Everything below it was delivered.
    epoch         bigint NOT NULL,
    next_sequence bigint NOT NULL,
    -- The lease: only its holder sends, and only until then. Both null when nobody holds it.
    holder        uuid,
    lease_until   timestamptz,
    -- Facts, with the generation of the configuration entry they were seen under.
    generation    bigint NOT NULL,
    state         text   NOT NULL,
    last_error    text,
    last_success  timestamptz,
    delivered_sequence bigint,
    delivered     bigint NOT NULL DEFAULT 0
);
