-- name: catalog_foreign_keys
-- purpose: every foreign key between roots; one that points at a partition is told as pointing at its root. The columns
--          conenforced and conperiod exist on PostgreSQL 18 only, hence the way they are read.
SELECT k.conname,
       k.conrelid::bigint,
       ARRAY (SELECT a.attname::text FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY AS u (attnum, n)
                JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = u.attnum ORDER BY u.n),
       coalesce(CASE WHEN p.relispartition THEN pg_catalog.pg_partition_root(p.oid)::oid END, k.confrelid)::bigint,
       ARRAY (SELECT a.attname::text FROM pg_catalog.unnest(k.confkey) WITH ORDINALITY AS u (attnum, n)
                JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = u.attnum ORDER BY u.n),
       k.condeferrable,
       k.condeferred,
       k.convalidated,
       coalesce((pg_catalog.to_jsonb(k) ->> 'conenforced')::boolean, true),
       k.confmatchtype = 'f',
       k.confdeltype::text,
       coalesce((pg_catalog.to_jsonb(k) ->> 'conperiod')::boolean, false),
       ARRAY (SELECT n.nspname || '.' || o.oprname FROM pg_catalog.unnest(k.conpfeqop) WITH ORDINALITY AS u (oid, n)
                JOIN pg_catalog.pg_operator AS o ON o.oid = u.oid
                JOIN pg_catalog.pg_namespace AS n ON n.oid = o.oprnamespace ORDER BY u.n)
  FROM pg_catalog.pg_constraint AS k
  JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid
  JOIN pg_catalog.pg_class AS p ON p.oid = k.confrelid
 WHERE k.contype = 'f'
   AND k.conparentid = 0
   AND NOT c.relispartition
 ORDER BY k.conrelid, k.conname COLLATE "C"
