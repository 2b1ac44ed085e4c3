-- name: catalog_sequences
-- purpose: the sequences that feed columns: owned by one (serial, identity), or called by its default.
SELECT DISTINCT n.nspname, s.relname, f.oid::bigint, a.attname, q.seqincrement
  FROM pg_catalog.pg_sequence AS q
  JOIN pg_catalog.pg_class AS s ON s.oid = q.seqrelid
  JOIN pg_catalog.pg_namespace AS n ON n.oid = s.relnamespace
  JOIN LATERAL (
        SELECT d.refobjid AS relation, d.refobjsubid AS attnum
          FROM pg_catalog.pg_depend AS d
         WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = q.seqrelid AND d.objsubid = 0
           AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i')
        UNION ALL
        SELECT f.adrelid, f.adnum
          FROM pg_catalog.pg_depend AS d
          JOIN pg_catalog.pg_attrdef AS f ON f.oid = d.objid
         WHERE d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass
           AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = q.seqrelid
       ) AS used ON true
  JOIN pg_catalog.pg_class AS f ON f.oid = used.relation AND NOT f.relispartition AND f.relpersistence <> 't'
  JOIN pg_catalog.pg_attribute AS a ON a.attrelid = used.relation AND a.attnum = used.attnum AND NOT a.attisdropped
 ORDER BY n.nspname, s.relname, f.oid::bigint, a.attname
