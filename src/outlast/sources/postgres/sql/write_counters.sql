-- What this session's own transaction has done to ordinary tables so far, by root table. Counts carry over from earlier
-- transactions: only differences mean anything. Temporary tables are ours.
SELECT n.nspname::text, r.relname::text,
       pg_catalog.sum(s.n_tup_ins)::pg_catalog.int8,
       pg_catalog.sum(s.n_tup_upd)::pg_catalog.int8,
       pg_catalog.sum(s.n_tup_del)::pg_catalog.int8
FROM pg_catalog.pg_stat_xact_user_tables s
JOIN pg_catalog.pg_class r ON r.oid = COALESCE(pg_catalog.pg_partition_root(s.relid), s.relid)
JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
WHERE s.n_tup_ins + s.n_tup_upd + s.n_tup_del > 0 AND r.relpersistence <> 't'
GROUP BY r.oid, n.nspname, r.relname
