-- name: rehearsal_watch
-- purpose: what watches a script on a copy, by table (0: none): another reading afterwards means that the script laid hands
--          on it, if only for a while, and that not all may have been seen.
SELECT t.tgrelid::bigint, t.tgname::text, t.xmin::text FROM pg_catalog.pg_trigger AS t
 WHERE t.tgname LIKE 'aa\_outlast\_rehearsal\_%'
UNION ALL
SELECT m.prrelid::bigint, p.pubname::text, m.xmin::text FROM pg_catalog.pg_publication_rel AS m
  JOIN pg_catalog.pg_publication AS p ON p.oid = m.prpubid WHERE p.pubname = 'outlast_rehearsal'
UNION ALL
SELECT 0, p.pubname::text, p.xmin::text FROM pg_catalog.pg_publication AS p WHERE p.pubname = 'outlast_rehearsal'
UNION ALL
SELECT 0, e.evtname::text, e.xmin::text FROM pg_catalog.pg_event_trigger AS e WHERE e.evtname LIKE 'outlast\_rehearsal\_%'
UNION ALL
SELECT 0, p.proname::text, p.xmin::text FROM pg_catalog.pg_proc AS p
  JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
 WHERE n.nspname = 'outlast_rehearsal' OR n.nspname = 'pg_catalog' AND p.proname LIKE 'pg\_notify%'
