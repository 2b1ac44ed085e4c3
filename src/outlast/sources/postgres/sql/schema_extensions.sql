-- name: schema_extensions
-- purpose: the extensions with their versions, as comments: pg_dump's own CREATE EXTENSION names no version, and a newer
--          one may be all that a new server has.
SELECT pg_catalog.translate(
           pg_catalog.format('-- CREATE EXTENSION %I WITH SCHEMA %I VERSION %L;', e.extname, n.nspname, e.extversion),
           E'\n\r', '  ')
  FROM pg_catalog.pg_extension AS e
  JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
 ORDER BY e.extname COLLATE "C"
