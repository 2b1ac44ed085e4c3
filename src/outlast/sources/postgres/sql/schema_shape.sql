-- name: schema_shape
-- purpose: one JSON object a relation of <touched> (oid): its columns by number, dropped ones too, and a partitioned table's
--          leaves. Takes no lock on any of them (so no pg_partition_tree, no pg_get_expr): it runs inside others' DDL.
SELECT c.oid::bigint AS oid,
       pg_catalog.json_build_object(
           'oid', c.oid::bigint,
           'schema', n.nspname,
           'name', c.relname,
           'kind', c.relkind,
           'persistence', c.relpersistence,
           'identity', c.relreplident,
           'root', r.root,
           'key', (  -- as the catalog chooses it (Facts.keys): the primary key, else the narrowest that is fit
               SELECT (pg_catalog.string_to_array(i.indkey::text, ' ')::integer[])[1:i.indnkeyatts]
                 FROM pg_catalog.pg_index AS i
                 JOIN pg_catalog.pg_class AS x ON x.oid = i.indexrelid
                WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
                  AND (i.indisprimary OR i.indimmediate AND NOT i.indisexclusion)
                  AND NOT EXISTS (
                      SELECT FROM pg_catalog.pg_attribute AS a
                       WHERE a.attrelid = c.oid AND (NOT a.attnotnull OR a.attgenerated <> '')
                         AND a.attnum = ANY ((pg_catalog.string_to_array(i.indkey::text, ' ')::integer[])[1:i.indnkeyatts]))
                ORDER BY NOT i.indisprimary, i.indnkeyatts, x.relname COLLATE "C" LIMIT 1),
           'leaves', CASE WHEN c.relkind = 'p' THEN (
               WITH RECURSIVE tree (oid, kind) AS (
                   SELECT i.inhrelid, l.relkind FROM pg_catalog.pg_inherits AS i
                     JOIN pg_catalog.pg_class AS l ON l.oid = i.inhrelid WHERE i.inhparent = c.oid
                   UNION ALL
                   SELECT i.inhrelid, l.relkind FROM tree AS t
                     JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.oid AND t.kind = 'p'
                     JOIN pg_catalog.pg_class AS l ON l.oid = i.inhrelid
               )
               SELECT pg_catalog.json_agg(t.oid::bigint ORDER BY t.oid) FROM tree AS t WHERE t.kind <> 'p') END,
           'columns', (
               SELECT pg_catalog.json_agg(pg_catalog.json_strip_nulls(pg_catalog.json_build_object(
                          'number', a.attnum,
                          'name', CASE WHEN NOT a.attisdropped THEN a.attname END,
                          'type', CASE WHEN NOT a.attisdropped
                                       THEN pg_catalog.format_type(a.atttypid, a.atttypmod) END,
                          'not_null', CASE WHEN a.attnotnull AND NOT a.attisdropped THEN true END,
                          'default', CASE WHEN a.attgenerated = '' AND NOT a.attisdropped
                                           AND (a.atthasdef OR a.attidentity <> '' OR y.typtype = 'd') THEN true END,
                          'generated', nullif(a.attgenerated::text, ''),
                          'missing', CASE WHEN a.atthasmissing THEN a.attmissingval::text
                                          WHEN c.relkind = 'p' AND a.atthasdef THEN (
                                              SELECT b.attmissingval::text
                                                FROM pg_catalog.pg_inherits AS i
                                                JOIN pg_catalog.pg_attribute AS b
                                                  ON b.attrelid = i.inhrelid AND b.attname = a.attname
                                               WHERE i.inhparent = c.oid AND b.atthasmissing LIMIT 1) END
                      )) ORDER BY a.attnum)
                 FROM pg_catalog.pg_attribute AS a
                 LEFT JOIN pg_catalog.pg_type AS y ON y.oid = a.atttypid
                WHERE a.attrelid = c.oid AND a.attnum > 0)
       ) AS shape
  FROM (<touched>) AS touched (oid)
  JOIN pg_catalog.pg_class AS c ON c.oid = touched.oid
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (
       SELECT CASE WHEN c.relispartition THEN pg_catalog.json_build_object('oid', p.oid::bigint, 'schema', m.nspname,
                                                                           'name', p.relname) END
         FROM (SELECT pg_catalog.pg_partition_root(c.oid)::oid AS oid) AS top
         LEFT JOIN pg_catalog.pg_class AS p ON p.oid = top.oid
         LEFT JOIN pg_catalog.pg_namespace AS m ON m.oid = p.relnamespace
 ) AS r (root)
 WHERE c.relkind IN ('r', 'p', 'f')
   AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
