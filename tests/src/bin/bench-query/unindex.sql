-- Those of a run before, on data that is kept.
DROP INDEX IF EXISTS bench_type, bench_actor, bench_actor_type, bench_resource, bench_resource_type, bench_outcome,
    bench_submitted_by, bench_time, bench_type_actor, bench_actor_time, bench_resource_time, bench_type_resource,
    bench_type_outcome, bench_type_kind;
