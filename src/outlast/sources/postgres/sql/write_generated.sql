-- Generated columns of some tables, and what they are made of, as SQL over unqualified columns.
-- %(tables)s: oids of the tables.
SELECT a.attrelid::pg_catalog.int8, a.attname::text, pg_catalog.pg_get_expr(d.adbin, d.adrelid)
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = ANY (%(tables)s::pg_catalog.oid[]) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> ''
ORDER BY 1, a.attnum
