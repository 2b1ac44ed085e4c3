-- Whether the functions that --print-grants makes are there, and we may call them; and for which roles they are.
SELECT pg_catalog.count(*) FILTER (WHERE pg_catalog.has_function_privilege(p.oid, 'EXECUTE')) = 4
FROM pg_catalog.pg_proc AS p
WHERE p.pronamespace = pg_catalog.to_regnamespace('outlast')
  AND p.proname IN ('halt_roles', 'halt_shut_out', 'halt_let_in', 'halt_end')
  AND pg_catalog.has_schema_privilege(p.pronamespace, 'USAGE');
