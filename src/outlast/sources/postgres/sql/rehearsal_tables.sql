-- name: rehearsal_tables
-- purpose: every table that stores rows, partitions among them: what stands in the way of seeing all that happens to it.
SELECT c.oid::bigint, n.nspname, c.relname, c.relkind::text, c.relpersistence::text,
       coalesce((SELECT pg_catalog.string_agg(DISTINCT a.attgenerated::text, '' ORDER BY a.attgenerated::text)
                   FROM pg_catalog.pg_attribute AS a
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> ''), ''),
       EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary)
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'outlast_rehearsal')
 ORDER BY c.oid
