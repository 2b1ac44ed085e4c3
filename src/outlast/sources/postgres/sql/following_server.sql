-- name: following_server
-- purpose: the settings, the free room and the role's powers that following needs. The senders of others are counted, not
--          looked at, so no privilege is needed. event_triggers is a setting since 17.
SELECT pg_catalog.current_setting('server_version_num')::integer,
       d.datname,
       d.oid::bigint,
       pg_catalog.pg_is_in_recovery(),
       pg_catalog.current_setting('wal_level'),
       pg_catalog.current_setting('max_slot_wal_keep_size'),
       pg_catalog.current_setting('max_replication_slots')::integer,
       (SELECT pg_catalog.count(*)::integer FROM pg_catalog.pg_replication_slots),
       pg_catalog.current_setting('max_wal_senders')::integer,
       (SELECT pg_catalog.count(*)::integer FROM pg_catalog.pg_stat_replication),
       pg_catalog.current_setting('fsync'),
       pg_catalog.current_setting('synchronous_commit'),
       coalesce(pg_catalog.current_setting('event_triggers', true), 'on') = 'on',
       r.rolname,
       r.rolsuper,
       r.rolreplication
       OR EXISTS (SELECT FROM pg_catalog.pg_roles AS m
                   WHERE m.rolname = 'rds_replication' AND pg_catalog.pg_has_role(m.oid, 'USAGE')) AS may_replicate,
       pg_catalog.has_database_privilege(d.oid, 'CREATE') AS may_create,
       EXISTS (SELECT FROM pg_catalog.pg_language WHERE lanname = 'plpgsql') AS has_plpgsql
  FROM pg_catalog.pg_database AS d
 CROSS JOIN pg_catalog.pg_roles AS r
 WHERE d.datname = pg_catalog.current_database() AND r.rolname = current_user
