-- name: run_functions
-- purpose: the body of every function that the application has, by name, the tables on which it is a trigger, and whether a
--          default, a view, a policy, an operator or the like calls it: what a script may call without naming it. A language
--          in which anything can be done stands in the body as a word; the word foreign_table stands for a table that
--          is another server's, or has one for a partition. A view leads to what its query names.
SELECT lower(p.proname),
       pg_catalog.string_agg(COALESCE(NULLIF(p.prosrc, ''), pg_catalog.pg_get_functiondef(p.oid))
           || CASE WHEN l.lanpltrusted OR l.lanname = 'internal' THEN '' ELSE ' untrusted_language' END, ' '),
       pg_catalog.array_agg(DISTINCT pg_catalog.format('%s.%s', tn.nspname, tc.relname)) FILTER (WHERE tc.oid IS NOT NULL),
       pg_catalog.bool_or(EXISTS (
           SELECT FROM pg_catalog.pg_depend AS u
            WHERE u.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND u.refobjid = p.oid
              AND u.classid <> 'pg_catalog.pg_trigger'::pg_catalog.regclass
              AND (u.classid <> 'pg_catalog.pg_proc'::pg_catalog.regclass
                   OR u.objid IN (SELECT a.aggfnoid::pg_catalog.oid FROM pg_catalog.pg_aggregate AS a))))
  FROM pg_catalog.pg_proc AS p
  JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
  JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang
  LEFT JOIN pg_catalog.pg_trigger AS t ON t.tgfoid = p.oid AND NOT t.tgisinternal
  LEFT JOIN pg_catalog.pg_class AS tc ON tc.oid = t.tgrelid
  LEFT JOIN pg_catalog.pg_namespace AS tn ON tn.oid = tc.relnamespace
 WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND p.prokind IN ('f', 'p')
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
                    WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e')
 GROUP BY lower(p.proname)
UNION ALL
SELECT pg_catalog.lower(c.relname), 'foreign_table', NULL, false
  FROM pg_catalog.pg_class AS f
 CROSS JOIN LATERAL (SELECT f.oid UNION SELECT a.relid::pg_catalog.oid FROM pg_catalog.pg_partition_ancestors(f.oid) AS a
                     UNION SELECT i.inhparent FROM pg_catalog.pg_inherits AS i WHERE i.inhrelid = f.oid) AS named (oid)
  JOIN pg_catalog.pg_class AS c ON c.oid = named.oid
 WHERE f.relkind = 'f'
UNION ALL
SELECT pg_catalog.lower(c.relname), pg_catalog.pg_get_viewdef(c.oid), NULL, false
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('v', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
                    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
