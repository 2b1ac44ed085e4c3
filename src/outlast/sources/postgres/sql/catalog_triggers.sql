-- name: catalog_triggers
-- purpose: the users' triggers, and those that stand on a partition alone, told as their root's.
SELECT t.tgname,
       coalesce(CASE WHEN c.relispartition THEN pg_catalog.pg_partition_root(c.oid)::oid END, c.oid)::bigint,
       t.tgenabled::text,
       t.tgtype::integer
  FROM pg_catalog.pg_trigger AS t
  JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
 WHERE NOT t.tgisinternal
   AND t.tgparentid = 0
   AND c.relkind IN ('r', 'p')
 ORDER BY 2, t.tgname COLLATE "C"
