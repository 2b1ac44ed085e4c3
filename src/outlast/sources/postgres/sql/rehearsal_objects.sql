-- name: rehearsal_objects
-- purpose: every large object with what tells whether its pages were written: decoding shows none of it.
SELECT m.oid::bigint, md5(concat_ws(' ', m.lomowner, m.lomacl::text,
           (SELECT string_agg(l.pageno || ' ' || l.xmin::text, ',' ORDER BY l.pageno) FROM pg_catalog.pg_largeobject AS l
             WHERE l.loid = m.oid)))
  FROM pg_catalog.pg_largeobject_metadata AS m
