-- name: run_functions
-- purpose: the body of every function that the application has, by name, and the tables on which it is a trigger: what a
--          script may call without naming it.
SELECT lower(p.proname),
       pg_catalog.string_agg(COALESCE(NULLIF(p.prosrc, ''), pg_catalog.pg_get_functiondef(p.oid)), ' '),
       pg_catalog.array_agg(DISTINCT pg_catalog.format('%s.%s', tn.nspname, tc.relname)) FILTER (WHERE tc.oid IS NOT NULL)
  FROM pg_catalog.pg_proc AS p
  JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
  LEFT JOIN pg_catalog.pg_trigger AS t ON t.tgfoid = p.oid AND NOT t.tgisinternal
  LEFT JOIN pg_catalog.pg_class AS tc ON tc.oid = t.tgrelid
  LEFT JOIN pg_catalog.pg_namespace AS tn ON tn.oid = tc.relnamespace
 WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND p.prokind IN ('f', 'p')
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
                    WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e')
 GROUP BY lower(p.proname)
