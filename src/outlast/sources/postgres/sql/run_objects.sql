-- name: run_objects
-- purpose: what this session's transaction wrote to large objects, which anybody may ask; only differences count.
SELECT coalesce(sum(s.n_tup_ins + s.n_tup_upd + s.n_tup_del), 0)::bigint FROM pg_catalog.pg_stat_xact_sys_tables AS s
 WHERE s.relname IN ('pg_largeobject', 'pg_largeobject_metadata')
