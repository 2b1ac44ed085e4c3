-- CHECK constraints of some tables, as SQL over unqualified columns. %(tables)s: oids of the tables.
SELECT c.conrelid::pg_catalog.int8, c.conname::text, pg_catalog.pg_get_expr(c.conbin, c.conrelid)
FROM pg_catalog.pg_constraint c
WHERE c.contype = 'c' AND c.conrelid = ANY (%(tables)s::pg_catalog.oid[])
  AND COALESCE((pg_catalog.to_jsonb(c) ->> 'conenforced')::pg_catalog.bool, true)
ORDER BY 1, 2
