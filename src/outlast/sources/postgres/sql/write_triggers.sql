-- The user triggers of some tables and their partitions that are not disabled: name, tgtype and tgenabled.
-- %(tables)s: oids of the tables.
WITH RECURSIVE tree (root, relation) AS (
    SELECT r, r FROM pg_catalog.unnest(%(tables)s::pg_catalog.oid[]) AS r
    UNION ALL
    SELECT t.root, i.inhrelid
    FROM tree t
    JOIN pg_catalog.pg_inherits i ON i.inhparent = t.relation
    JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid AND c.relispartition
)
SELECT DISTINCT b.root::pg_catalog.int8, g.tgname::text, g.tgtype::pg_catalog.int4, g.tgenabled::text
FROM tree b
JOIN pg_catalog.pg_trigger g ON g.tgrelid = b.relation
WHERE NOT g.tgisinternal AND g.tgparentid = 0 AND g.tgenabled <> 'D'
ORDER BY 1, 2
