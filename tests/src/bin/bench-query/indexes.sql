-- What an expert would index for the queries of baseline.sql. Made when the collector has been measured, so that it cannot use them.
SET maintenance_work_mem = '1GB';
CREATE INDEX bench_type          ON event (type, sequence);
CREATE INDEX bench_actor         ON event (actor_id, sequence);
CREATE INDEX bench_actor_type    ON event (actor_type, sequence);
CREATE INDEX bench_resource      ON event (resource_id, sequence);
CREATE INDEX bench_resource_type ON event (resource_type, sequence);
CREATE INDEX bench_outcome       ON event (outcome, sequence);
CREATE INDEX bench_submitted_by  ON event (submitted_by_name, sequence);
CREATE INDEX bench_time          ON event ("timestamp", sequence);
CREATE INDEX bench_type_actor    ON event (type, actor_id, sequence);
CREATE INDEX bench_actor_time    ON event (actor_id, "timestamp", sequence);
CREATE INDEX bench_resource_time ON event (resource_id, "timestamp", sequence);
CREATE INDEX bench_type_resource ON event (type, resource_id, sequence);
CREATE INDEX bench_type_outcome  ON event (type, outcome, sequence);
CREATE INDEX bench_type_kind     ON event (type, resource_type, sequence);
ANALYZE event;
