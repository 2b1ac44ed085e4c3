-- What rows that were there before a column was added have in it, and the column's default.
-- %(tables)s: oids of the tables.
SELECT a.attrelid::pg_catalog.int8,
       a.attname::text,
       CASE WHEN a.atthasmissing THEN (a.attmissingval::text::text[])[1] END,
       pg_catalog.pg_get_expr(d.adbin, d.adrelid)
FROM pg_catalog.pg_attribute a
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = ANY (%(tables)s::pg_catalog.oid[]) AND a.attnum > 0 AND NOT a.attisdropped
  AND a.attgenerated = '' AND (a.atthasmissing OR d.oid IS NOT NULL)
