-- name: following_events
-- purpose: the schema `outlast`, who owns it and what else lies in it, and our event triggers with their functions' text
-- and which transaction wrote each: one that was disabled meanwhile is another one.
SELECT n.oid::bigint,
       pg_catalog.pg_get_userbyid(n.nspowner),
       pg_catalog.pg_has_role(n.nspowner, 'USAGE'),
       (SELECT r.rolsuper FROM pg_catalog.pg_roles AS r WHERE r.oid = n.nspowner) OR n.nspowner = d.datdba,
       coalesce(pg_catalog.obj_description(n.oid, 'pg_namespace'), ''),
       ARRAY (SELECT p.proname::text FROM pg_catalog.pg_proc AS p WHERE p.pronamespace = n.oid ORDER BY 1),
       ARRAY (SELECT p.prosrc FROM pg_catalog.pg_proc AS p WHERE p.pronamespace = n.oid ORDER BY p.proname::text),
       EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.relnamespace = n.oid)
       OR EXISTS (SELECT FROM pg_catalog.pg_type AS t WHERE t.typnamespace = n.oid),
       ARRAY (SELECT e.evtname::text FROM pg_catalog.pg_event_trigger AS e
               WHERE e.evtname LIKE 'outlast\_%%' ORDER BY 1),
       ARRAY (SELECT e.evtenabled::text FROM pg_catalog.pg_event_trigger AS e
               WHERE e.evtname LIKE 'outlast\_%%' ORDER BY e.evtname::text),
       ARRAY (SELECT pg_catalog.array_to_string(e.evttags, ',') FROM pg_catalog.pg_event_trigger AS e
               WHERE e.evtname LIKE 'outlast\_%%' ORDER BY e.evtname::text),
       ARRAY (SELECT e.oid::text || '.' || e.xmin::text FROM pg_catalog.pg_event_trigger AS e
               WHERE e.evtname LIKE 'outlast\_%%' ORDER BY e.evtname::text)
  FROM pg_catalog.pg_database AS d
  LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname = 'outlast'
 WHERE d.datname = pg_catalog.current_database()
