-- Forwardings leave out, park and remember. All of it only adds to what a collector of schema 4 knows, so one may still run
-- beside a newer one.

ALTER TABLE forwarding
    -- Events that the filter left out.
    ADD COLUMN filtered           bigint  NOT NULL DEFAULT 0,
    -- Since when every attempt fails; null while the source accepts.
    ADD COLUMN retrying_since     timestamptz,
    -- Status code of the answer that last_error tells of.
    ADD COLUMN last_error_code    integer,
    -- Which configuration the facts speak of.
    ADD COLUMN configuration_hash text,
    -- Sequences of the lone events that were refused one after the other, with none accepted between. At the third, the
    -- earlier two are parked no more and the forwarding waits at the first.
    ADD COLUMN refused_in_a_row   bigint[] NOT NULL DEFAULT '{}';

-- Events that a source refused for good: copies, since retention drops what a forwarding has passed. The columns of an
-- event are those of the table event; whatever erases there has to erase here.
CREATE TABLE parked (
    forwarding        text        NOT NULL,
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
    -- Trails that the event passed before this one.
    passed            uuid[],
    parked_at         timestamptz NOT NULL,
    -- Status code and words of the refusal.
    code              integer,
    reason            text        NOT NULL,
    -- When somebody asked to send it again; null otherwise.
    replay_asked_at   timestamptz,
    PRIMARY KEY (forwarding, epoch, sequence)
);
CREATE INDEX parked_replay ON parked (forwarding, epoch, sequence) WHERE replay_asked_at IS NOT NULL;

-- Trails that an event passed before this one, oldest first; null for an event that began here. Not a part of the leaf:
-- like a cursor, it serves delivery.
ALTER TABLE event ADD COLUMN passed uuid[];

-- given_event with what is new. The old type stays for collectors that still write with it.
CREATE TYPE given_event_5 AS (
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
    leaf_hash         bytea,
    passed            uuid[]
);
