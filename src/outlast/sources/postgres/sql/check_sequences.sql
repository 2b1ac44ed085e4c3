-- name: check_sequences
-- purpose: sequences, by schema and name, that the connected role may not read, and that it may not set.
SELECT n.nspname, c.relname,
       pg_catalog.has_sequence_privilege(c.oid, 'SELECT'),
       pg_catalog.has_sequence_privilege(c.oid, 'UPDATE')
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relkind = 'S' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
