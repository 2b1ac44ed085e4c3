-- name: snapshot
-- purpose: the transaction's snapshot, exported, and where it stands in the log. Run as a transaction's first statement.
SELECT pg_catalog.pg_export_snapshot(),
       pg_catalog.pg_current_snapshot()::text,
       pg_catalog.clock_timestamp(),
       CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
            ELSE pg_catalog.pg_current_wal_insert_lsn() END::text
