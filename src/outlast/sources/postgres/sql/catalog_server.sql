-- name: catalog_server
-- purpose: which database and server this is, and whether its control data may be read.
SELECT pg_catalog.current_database(),
       d.oid::bigint,
       pg_catalog.pg_encoding_to_char(d.encoding),
       pg_catalog.current_setting('server_version_num')::integer,
       pg_catalog.pg_is_in_recovery(),
       pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE'),
       EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)
  FROM pg_catalog.pg_database AS d
 WHERE d.datname = pg_catalog.current_database()
