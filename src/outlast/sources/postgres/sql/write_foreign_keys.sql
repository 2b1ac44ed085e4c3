-- The operators by which each foreign key of some tables compares (referenced = referencing), and whether it is one
-- that a set-based proof can follow. %(tables)s: oids of the tables.
SELECT c.conrelid::pg_catalog.int8,
       c.conname::text,
       pg_catalog.array_agg(n.nspname::text ORDER BY u.place),
       pg_catalog.array_agg(o.oprname::text ORDER BY u.place),
       -- FOR KEY SHARE asks for UPDATE on at least one column
       pg_catalog.has_any_column_privilege(c.confrelid, 'UPDATE'),
       COALESCE((pg_catalog.to_jsonb(c) ->> 'conperiod')::pg_catalog.bool, false)
FROM pg_catalog.pg_constraint c
CROSS JOIN LATERAL pg_catalog.unnest(c.conpfeqop) WITH ORDINALITY AS u (operator, place)
JOIN pg_catalog.pg_operator o ON o.oid = u.operator
JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
WHERE c.contype = 'f' AND c.conrelid = ANY (%(tables)s::pg_catalog.oid[])
GROUP BY c.oid
