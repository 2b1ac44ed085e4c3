-- name: catalog_tables
-- purpose: every table of the users' schemas, a partitioned one as its root with a digest of its partitions. A partition's
--          row in pg_inherits is new whenever it is attached, so its xmin stands for whatever was done while detached.
WITH RECURSIVE tree (root, oid, linked) AS (
    SELECT i.inhparent, i.inhrelid, i.xmin::text
      FROM pg_catalog.pg_inherits AS i
      JOIN pg_catalog.pg_class AS p ON p.oid = i.inhparent
     WHERE p.relkind = 'p' AND NOT p.relispartition
    UNION ALL
    SELECT t.root, i.inhrelid, i.xmin::text
      FROM tree AS t
      JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.oid
), parts AS (
    SELECT t.root,
           pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.string_agg(
               pg_catalog.concat_ws(':', t.oid, c.relfilenode, c.relkind, c.relam, t.linked), ',' ORDER BY t.oid
           ), 'UTF8')), 'hex') AS digest,
           pg_catalog.sum(CASE WHEN c.relkind = 'r' THEN greatest(c.relpages, 0) ELSE 0 END) AS pages,
           pg_catalog.bool_or(c.relkind = 'f') AS has_foreign,
           pg_catalog.bool_or(c.relkind = 'r' AND c.relam <> 2) AS has_other_storage,
           pg_catalog.bool_or(c.relpersistence = 'u') AS has_unlogged
      FROM tree AS t
      JOIN pg_catalog.pg_class AS c ON c.oid = t.oid
     GROUP BY t.root
)
SELECT c.oid::bigint,
       n.nspname,
       c.relname,
       c.relkind::text,
       c.relfilenode::bigint,
       c.relkind = 'r' AND EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhparent = c.oid) AS only,
       c.relkind = 'r' AND c.relam <> 2 OR coalesce(p.has_other_storage, false) AS has_other_storage,
       c.relpersistence = 'u' OR coalesce(p.has_unlogged, false) AS unlogged,
       coalesce(p.has_foreign, false) AS has_foreign,
       coalesce(p.digest, '') AS partitions,
       (CASE WHEN c.relkind = 'p' THEN coalesce(p.pages, 0)
             WHEN c.relkind <> 'r' THEN 0
             WHEN c.relpages > 0 THEN c.relpages + coalesce(greatest(toast.relpages, 0), 0)
             ELSE coalesce(pg_catalog.pg_relation_size(c.oid), 0) / pg_catalog.current_setting('block_size')::integer
        END * pg_catalog.current_setting('block_size')::bigint)::bigint AS size_bytes,
       e.extname,
       coalesce(c.oid = ANY (e.extconfig), false) AS extension_config,
       EXISTS (SELECT FROM pg_catalog.pg_rewrite AS r
                WHERE r.ev_class = c.oid AND r.ev_type <> '1' AND c.relkind IN ('r', 'p')) AS has_rule
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  LEFT JOIN parts AS p ON p.root = c.oid
  LEFT JOIN pg_catalog.pg_class AS toast ON toast.oid = c.reltoastrelid
  LEFT JOIN pg_catalog.pg_depend AS d
         ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.objsubid = 0
        AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'
  LEFT JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid
 WHERE c.relkind IN ('r', 'p', 'f', 'm')
   AND NOT c.relispartition
   AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
 ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
