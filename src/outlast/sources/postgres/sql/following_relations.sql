-- name: following_relations
-- purpose: the given tables and their partitions: what stands in the way of publishing each, and which publications name
--          it. A membership is narrowed where it has a list of columns or a filter.
WITH RECURSIVE tree (root, oid) AS (
    SELECT c.oid, c.oid FROM pg_catalog.pg_class AS c WHERE c.oid = ANY (%(tables)s::bigint[]::oid[])
    UNION ALL
    SELECT t.root, i.inhrelid
      FROM tree AS t
      JOIN pg_catalog.pg_class AS p ON p.oid = t.oid AND p.relkind = 'p'
      JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.oid
)
SELECT t.root::bigint,
       c.oid::bigint,
       n.nspname,
       c.relname,
       c.relkind::text,
       c.relpersistence::text,
       c.relreplident::text,
       pg_catalog.pg_get_userbyid(c.relowner),
       pg_catalog.pg_has_role(c.relowner, 'USAGE'),
       coalesce((SELECT pg_catalog.string_agg(DISTINCT a.attgenerated::text, '' ORDER BY a.attgenerated::text)
                   FROM pg_catalog.pg_attribute AS a
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> ''), ''),
       ARRAY (SELECT p.pubname::text
                FROM pg_catalog.pg_publication_rel AS m
                JOIN pg_catalog.pg_publication AS p ON p.oid = m.prpubid
               WHERE m.prrelid = c.oid ORDER BY 1),
       ARRAY (SELECT p.pubname::text
                FROM pg_catalog.pg_publication_rel AS m
                JOIN pg_catalog.pg_publication AS p ON p.oid = m.prpubid
               WHERE m.prrelid = c.oid AND (m.prattrs IS NOT NULL OR m.prqual IS NOT NULL) ORDER BY 1)
  FROM tree AS t
  JOIN pg_catalog.pg_class AS c ON c.oid = t.oid
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
