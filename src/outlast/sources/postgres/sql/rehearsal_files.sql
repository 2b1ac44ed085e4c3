-- name: rehearsal_files
-- purpose: where each table's rows are stored: another number than before means that all of them were written anew.
SELECT c.oid::bigint, format('%s.%s', n.nspname, c.relname), pg_catalog.pg_relation_filenode(c.oid)::bigint
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'outlast_rehearsal')
