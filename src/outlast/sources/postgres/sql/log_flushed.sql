-- name: log_flushed
-- purpose: whether the log is on disk up to a position, so that what a snapshot saw cannot be lost in a crash; and the
--          time in ms that the log's writer sleeps, on which depends how long a commit that does not wait can take.
SELECT pg_catalog.pg_is_in_recovery() OR pg_catalog.pg_current_wal_flush_lsn() >= %s::pg_lsn,
       (SELECT setting::integer FROM pg_catalog.pg_settings WHERE name = 'wal_writer_delay')
