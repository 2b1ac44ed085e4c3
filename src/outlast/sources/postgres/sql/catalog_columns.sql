-- name: catalog_columns
-- purpose: every column of those tables, dropped ones too: they are part of how a stored row is read. On PostgreSQL 18
--          attnotnull holds for a NOT NULL that is not validated as well, under which NULLs may still stand.
SELECT a.attrelid::bigint,
       a.attnum::integer,
       a.attname,
       a.atttypid::bigint,
       a.atttypmod,
       CASE WHEN a.attisdropped THEN '' ELSE pg_catalog.format_type(a.atttypid, a.atttypmod) END,
       a.attnotnull AND NOT EXISTS (
           SELECT FROM pg_catalog.pg_constraint AS k
            WHERE k.conrelid = a.attrelid AND k.contype = 'n' AND NOT k.convalidated AND a.attnum = ANY (k.conkey)
       ) AS not_null,
       a.attidentity::text,
       a.attgenerated::text,
       a.attisdropped,
       CASE WHEN a.atthasmissing THEN a.attmissingval::text END,
       a.xmin::text,
       CASE WHEN a.attgenerated <> '' THEN pg_catalog.pg_get_expr(f.adbin, f.adrelid) END,
       coalesce(NOT l.collisdeterministic, false)
  FROM pg_catalog.pg_attribute AS a
  JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_attrdef AS f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
  LEFT JOIN pg_catalog.pg_collation AS l ON l.oid = a.attcollation
 WHERE c.relkind IN ('r', 'p')
   AND NOT c.relispartition
   AND c.relpersistence <> 't'
   AND a.attnum > 0
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
 ORDER BY a.attrelid, a.attnum
