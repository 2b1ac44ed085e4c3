-- name: following_publications
-- purpose: every publication that is ours by name or by its comment, and the tables that each names.
SELECT p.pubname,
       pg_catalog.pg_get_userbyid(p.pubowner),
       pg_catalog.pg_has_role(p.pubowner, 'USAGE'),
       p.puballtables
       OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace AS s WHERE s.pnpubid = p.oid) AS by_rule,
       pg_catalog.concat_ws(', ', CASE WHEN p.pubinsert THEN 'insert' END, CASE WHEN p.pubupdate THEN 'update' END,
                            CASE WHEN p.pubdelete THEN 'delete' END, CASE WHEN p.pubtruncate THEN 'truncate' END),
       p.pubviaroot,
       coalesce(pg_catalog.to_jsonb(p) ->> 'pubgencols', 'n') NOT IN ('n', 'false') AS generated,
       coalesce(pg_catalog.obj_description(p.oid, 'pg_publication'), ''),
       ARRAY (SELECT m.prrelid::bigint FROM pg_catalog.pg_publication_rel AS m WHERE m.prpubid = p.oid ORDER BY 1),
       ARRAY (SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname)
                FROM pg_catalog.pg_publication_rel AS m
                JOIN pg_catalog.pg_class AS c ON c.oid = m.prrelid
                JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
               WHERE m.prpubid = p.oid ORDER BY m.prrelid::bigint)
  FROM pg_catalog.pg_publication AS p
 WHERE p.pubname = ANY (%(names)s)
    OR pg_catalog.obj_description(p.oid, 'pg_publication') LIKE '{"outlast":%%'
 ORDER BY p.pubname COLLATE "C"
