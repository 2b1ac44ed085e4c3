-- name: check_partitions
-- purpose: partitions that pg_dump could not lock, by their root: reading the root needs no privilege on them, pg_dump does.
WITH RECURSIVE tree (root, oid) AS (
    SELECT c.oid, c.oid FROM pg_catalog.pg_class AS c
     WHERE c.relkind = 'p' AND NOT c.relispartition AND c.oid = ANY (%(tables)s::bigint[]::oid[])
    UNION ALL
    SELECT t.root, i.inhrelid FROM tree AS t JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.oid
)
SELECT t.root::bigint, pg_catalog.count(*), pg_catalog.min(t.oid::regclass::text)
  FROM tree AS t
 WHERE t.oid <> t.root AND NOT pg_catalog.has_table_privilege(t.oid, 'SELECT')
 GROUP BY t.root
