-- name: slot_health
-- purpose: one slot as the server has it, everything as text (a replication session gives nothing else). The columns of
--          later versions (16: conflicting, 17: invalidation_reason, inactive_since) are read by name where they exist.
--          A condition on slot_name is added behind it.
SELECT s.plugin::text,
       s.slot_type,
       s.database::text,
       s.active_pid::text,
       s.wal_status,
       s.safe_wal_size::text,
       s.restart_lsn::text,
       s.confirmed_flush_lsn::text,
       s.two_phase::text,
       pg_catalog.pg_wal_lsn_diff(n.written, s.confirmed_flush_lsn)::bigint::text,
       pg_catalog.pg_wal_lsn_diff(n.written, s.restart_lsn)::bigint::text,
       (pg_catalog.to_jsonb(s) ->> 'conflicting'),
       (pg_catalog.to_jsonb(s) ->> 'invalidation_reason'),
       extract(epoch FROM pg_catalog.now() - (pg_catalog.to_jsonb(s) ->> 'inactive_since')::timestamptz)::text,
       pg_catalog.current_database()::text
  FROM pg_catalog.pg_replication_slots AS s,
       (SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                    ELSE pg_catalog.pg_current_wal_insert_lsn() END) AS n (written)
 WHERE s.slot_name =
