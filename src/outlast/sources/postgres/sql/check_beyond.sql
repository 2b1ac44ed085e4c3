-- name: check_beyond
-- purpose: what a schema dump cannot carry, by kind, with how many and the first one's name.
SELECT 'subscription', pg_catalog.count(*), pg_catalog.min(s.subname)
  FROM pg_catalog.pg_subscription AS s
  JOIN pg_catalog.pg_database AS d ON d.oid = s.subdbid AND d.datname = pg_catalog.current_database()
UNION ALL
SELECT 'user-mapping', pg_catalog.count(*), pg_catalog.min(u.srvname)
  FROM pg_catalog.pg_user_mappings AS u
UNION ALL
SELECT 'c-function', pg_catalog.count(*), pg_catalog.min(p.proname)
  FROM pg_catalog.pg_proc AS p
  JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang AND l.lanname = 'c'
 WHERE p.oid >= 16384
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
                    WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e')
UNION ALL
SELECT 'tablespace', pg_catalog.count(*), pg_catalog.min(t.spcname)
  FROM pg_catalog.pg_tablespace AS t
 WHERE t.oid IN (SELECT c.reltablespace FROM pg_catalog.pg_class AS c)
   AND t.spcname NOT IN ('pg_default', 'pg_global')
