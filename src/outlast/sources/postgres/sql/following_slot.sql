-- name: following_slot
-- purpose: a replication slot by its name: whose it is, whether somebody reads it, and how far behind it is.
SELECT s.plugin,
       s.database = pg_catalog.current_database(),
       s.active,
       coalesce(s.wal_status, ''),
       s.confirmed_flush_lsn::text,
       CASE WHEN pg_catalog.pg_is_in_recovery() THEN 0
            ELSE coalesce(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), s.confirmed_flush_lsn), 0)
       END::bigint
  FROM pg_catalog.pg_replication_slots AS s
 WHERE s.slot_name = %(slot)s
