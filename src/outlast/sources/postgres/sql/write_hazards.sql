-- What makes it unsound to write a table with its triggers off. %(tables)s: oids of the tables; partitions of each are
-- looked at too.
WITH RECURSIVE tree (root, relation) AS (
    SELECT r, r FROM pg_catalog.unnest(%(tables)s::pg_catalog.oid[]) AS r
    UNION ALL
    SELECT t.root, i.inhrelid
    FROM tree t
    JOIN pg_catalog.pg_inherits i ON i.inhparent = t.relation
    JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid AND c.relispartition
)
SELECT t.root::pg_catalog.int8,
       -- such an index is enforced by an internal trigger at the end, which the replica role switches off
       COALESCE(pg_catalog.bool_or(EXISTS (
           SELECT FROM pg_catalog.pg_index i
           LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid
           WHERE i.indrelid = t.relation AND ((i.indisunique AND NOT i.indimmediate) OR i.indisexclusion)
       )), false),
       -- a foreign key of one partition alone is not among the root's
       COALESCE(pg_catalog.bool_or(t.relation <> t.root AND EXISTS (
           SELECT FROM pg_catalog.pg_constraint c
           WHERE c.conrelid = t.relation AND c.contype = 'f' AND c.conparentid = 0
       )), false)
FROM tree t
GROUP BY t.root
