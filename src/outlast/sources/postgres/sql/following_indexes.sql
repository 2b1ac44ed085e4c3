-- name: following_indexes
-- purpose: the unique indexes of given relations, and whether the server would take each for a replica identity: valid,
--          immediate, whole, of plain NOT NULL columns that are stored as they were given.
SELECT i.indrelid::bigint,
       x.relname,
       i.indisprimary,
       i.indisreplident,
       i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
       AND NOT EXISTS (
           SELECT FROM pg_catalog.unnest((pg_catalog.string_to_array(i.indkey::text, ' ')::smallint[])[1:i.indnkeyatts])
                       AS k (number)
             JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number
            WHERE NOT a.attnotnull
               OR a.attgenerated <> ''
               OR EXISTS (SELECT FROM pg_catalog.pg_constraint AS o
                           WHERE o.conrelid = a.attrelid AND o.contype = 'n' AND NOT o.convalidated
                             AND a.attnum = ANY (o.conkey))) AS fit,
       i.indisexclusion,
       ARRAY (SELECT a.attname::text
                FROM pg_catalog.unnest(
                         (pg_catalog.string_to_array(i.indkey::text, ' ')::smallint[])[1:i.indnkeyatts])
                     WITH ORDINALITY AS k (number, place)
                JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number
               ORDER BY k.place)
  FROM pg_catalog.pg_index AS i
  JOIN pg_catalog.pg_class AS x ON x.oid = i.indexrelid
 WHERE i.indisunique AND i.indrelid = ANY (%(relations)s::bigint[]::oid[])
 ORDER BY i.indrelid, x.relname COLLATE "C"
