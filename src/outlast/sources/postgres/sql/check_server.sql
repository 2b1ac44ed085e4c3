-- name: check_server
-- purpose: the settings and the role's powers on which a promise leans. old_snapshot_threshold is gone since 17.
SELECT pg_catalog.current_setting('fsync'),
       pg_catalog.current_setting('full_page_writes'),
       pg_catalog.current_setting('data_checksums'),
       coalesce(pg_catalog.current_setting('old_snapshot_threshold', true), '-1'),
       pg_catalog.pg_is_in_recovery(),
       pg_catalog.current_setting('hot_standby_feedback'),
       pg_catalog.has_parameter_privilege('session_replication_role', 'SET'),
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMP'),
       r.rolsuper,
       r.rolreplication,
       extract(epoch FROM pg_catalog.clock_timestamp())::float8,
       current_user::text
  FROM pg_catalog.pg_roles AS r
 WHERE r.rolname = current_user
