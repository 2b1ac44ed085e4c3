-- name: catalog_types
-- purpose: every type that those columns reach (elements, bases, subtypes, fields), what it is made of, and its output
--          function: the text of a stored value is decided by nothing else.
WITH RECURSIVE reached (oid) AS (
    SELECT DISTINCT a.atttypid
      FROM pg_catalog.pg_attribute AS a
      JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
      JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
       AND a.attnum > 0 AND NOT a.attisdropped
       AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
    UNION
    SELECT next.oid
      FROM reached AS r
      JOIN pg_catalog.pg_type AS t ON t.oid = r.oid
     CROSS JOIN LATERAL (
           SELECT t.typbasetype WHERE t.typbasetype <> 0
           UNION ALL
           SELECT t.typelem WHERE t.typelem <> 0
           UNION ALL
           SELECT g.rngsubtype FROM pg_catalog.pg_range AS g WHERE t.oid IN (g.rngtypid, g.rngmultitypid)
           UNION ALL
           SELECT f.atttypid FROM pg_catalog.pg_attribute AS f
            WHERE t.typrelid <> 0 AND f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped
     ) AS next (oid)
)
SELECT t.oid::bigint,
       t.typtype::text,
       n.nspname,
       t.typname,
       t.typbasetype::bigint,
       o.proname,
       o.pronamespace = 'pg_catalog'::pg_catalog.regnamespace,
       o.provolatile = 'i',
       ARRAY (SELECT g.rngsubtype::bigint FROM pg_catalog.pg_range AS g WHERE t.oid IN (g.rngtypid, g.rngmultitypid))
       || ARRAY (SELECT f.atttypid::bigint FROM pg_catalog.pg_attribute AS f
                  WHERE t.typrelid <> 0 AND f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped)
       || CASE WHEN t.typbasetype <> 0 THEN ARRAY[t.typbasetype::bigint] ELSE '{}'::bigint[] END
       || CASE WHEN t.typelem <> 0 THEN ARRAY[t.typelem::bigint] ELSE '{}'::bigint[] END,
       pg_catalog.concat_ws('|', t.xmin, o.xmin, t.typlen, t.typdelim, t.typtypmod, x.extversion,
           (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', e.oid, e.xmin, e.enumlabel), ',' ORDER BY e.oid)
              FROM pg_catalog.pg_enum AS e WHERE e.enumtypid = t.oid),
           (SELECT pg_catalog.string_agg(
                       pg_catalog.concat_ws(':', f.attnum, f.xmin, f.attname, f.atttypid, f.atttypmod, f.attisdropped),
                       ',' ORDER BY f.attnum)
              FROM pg_catalog.pg_attribute AS f WHERE t.typrelid <> 0 AND f.attrelid = t.typrelid AND f.attnum > 0))
  FROM (SELECT DISTINCT oid FROM reached) AS r
  JOIN pg_catalog.pg_type AS t ON t.oid = r.oid
  JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
  JOIN pg_catalog.pg_proc AS o ON o.oid = t.typoutput
  LEFT JOIN pg_catalog.pg_depend AS d
         ON d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objid = t.oid
        AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'
  LEFT JOIN pg_catalog.pg_extension AS x ON x.oid = d.refobjid
 ORDER BY t.oid
