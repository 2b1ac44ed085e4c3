-- What each leaf of some partitioned tables takes, as SQL over unqualified columns; NULL: anything.
-- %(tables)s: oids of the tables.
WITH roots (root) AS (
    SELECT c.oid FROM pg_catalog.pg_class c
    WHERE c.oid = ANY (%(tables)s::pg_catalog.oid[]) AND c.relkind = 'p'
)
SELECT r.root::pg_catalog.int8, CASE WHEN p.relid IS NULL THEN 'false' ELSE COALESCE(pg_catalog.pg_get_partition_constraintdef(p.relid), 'true') END
FROM roots r
LEFT JOIN LATERAL pg_catalog.pg_partition_tree(r.root) AS p ON p.isleaf
ORDER BY 1, p.relid
