-- The baselines of `make bench-ingest`.

-- The table that COPY writes to: the columns of an event, nothing but a primary key.
CREATE TABLE plain (LIKE event);
ALTER TABLE plain ADD PRIMARY KEY (sequence);
CREATE SEQUENCE bench_sequence MINVALUE 0;
