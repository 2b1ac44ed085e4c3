-- name: following_remembered
-- purpose: the relations whose identity setup changed, as they are now.
SELECT c.oid::bigint,
       pg_catalog.format('%%I.%%I', n.nspname, c.relname),
       c.relreplident::text,
       (SELECT x.relname FROM pg_catalog.pg_index AS i
          JOIN pg_catalog.pg_class AS x ON x.oid = i.indexrelid
         WHERE i.indrelid = c.oid AND i.indisreplident),
       ARRAY (SELECT x.relname::text FROM pg_catalog.pg_index AS i
                JOIN pg_catalog.pg_class AS x ON x.oid = i.indexrelid WHERE i.indrelid = c.oid),
       pg_catalog.pg_get_userbyid(c.relowner),
       pg_catalog.pg_has_role(c.relowner, 'USAGE')
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.oid = ANY (%(relations)s::bigint[]::oid[])
 ORDER BY c.oid
