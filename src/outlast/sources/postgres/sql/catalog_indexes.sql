-- name: catalog_indexes
-- purpose: every valid index of those tables: for keys, for unique values that a restore may meet, and for whether the
--          ownership path and the foreign keys can be followed by index. Expressions only where they matter.
SELECT x.relname,
       i.indrelid::bigint,
       i.indisunique,
       i.indisprimary,
       i.indisexclusion,
       i.indimmediate,
       coalesce((pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false),
       (pg_catalog.string_to_array(i.indkey::text, ' ')::integer[])[1:i.indnkeyatts],
       CASE WHEN i.indisunique OR i.indisexclusion THEN
           ARRAY (SELECT pg_catalog.pg_get_indexdef(i.indexrelid, n, false)
                    FROM pg_catalog.generate_series(1, i.indnkeyatts) AS n)
       ELSE '{}'::text[] END,
       pg_catalog.pg_get_expr(i.indpred, i.indrelid),
       (SELECT k.conname FROM pg_catalog.pg_constraint AS k
         WHERE k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x') LIMIT 1),
       m.amname = 'btree'
  FROM pg_catalog.pg_index AS i
  JOIN pg_catalog.pg_class AS x ON x.oid = i.indexrelid
  JOIN pg_catalog.pg_am AS m ON m.oid = x.relam
  JOIN pg_catalog.pg_class AS c ON c.oid = i.indrelid
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p')
   AND NOT c.relispartition
   AND c.relpersistence <> 't'
   AND i.indisvalid
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
 ORDER BY i.indrelid, x.relname COLLATE "C"
