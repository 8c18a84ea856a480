-- What cursors of the query API are authenticated with. A cursor says that its query was recorded in the trail, so nobody
-- but a collector may make one. All replicas read the same key, clients never see it, and it travels with a backup.
CREATE TABLE cursor_key (
    -- Exactly one row.
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    -- 32 bytes; 244 bits of them are random, from Postgres' strong source of random numbers (gen_random_uuid).
    key       bytea   NOT NULL CHECK (length(key) = 32)
);
INSERT INTO cursor_key (key) VALUES (uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
