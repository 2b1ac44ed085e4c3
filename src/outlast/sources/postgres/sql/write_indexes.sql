-- The operators by which each unique index or exclusion constraint of some tables finds two rows in conflict.
-- %(tables)s: oids of the tables.
WITH indexes AS (
    SELECT i.indrelid, i.indexrelid, x.relname, i.indnkeyatts, i.indclass, c.conexclop
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
    LEFT JOIN pg_catalog.pg_constraint c ON c.conindid = i.indexrelid AND c.contype IN ('p', 'u', 'x')
                                        AND c.conrelid = i.indrelid
    WHERE i.indrelid = ANY (%(tables)s::pg_catalog.oid[]) AND (i.indisunique OR i.indisexclusion)
),
operators AS (
    SELECT s.indrelid, s.relname, place,
           COALESCE(s.conexclop[place + 1], (
               SELECT a.amopopr
               FROM pg_catalog.pg_opclass k
               JOIN pg_catalog.pg_amop a ON a.amopfamily = k.opcfamily AND a.amopstrategy = 3
                                        AND a.amoplefttype = k.opcintype AND a.amoprighttype = k.opcintype
               WHERE k.oid = s.indclass[place]
           )) AS operator
    FROM indexes s
    CROSS JOIN LATERAL pg_catalog.generate_series(0, s.indnkeyatts - 1) AS place
)
SELECT p.indrelid::pg_catalog.int8,
       p.relname::text,
       pg_catalog.array_agg(n.nspname::text ORDER BY p.place),
       pg_catalog.array_agg(o.oprname::text ORDER BY p.place)
FROM operators p
JOIN pg_catalog.pg_operator o ON o.oid = p.operator
JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
GROUP BY p.indrelid, p.relname
