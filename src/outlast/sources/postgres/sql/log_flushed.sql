-- name: log_flushed
-- purpose: whether the log is on disk up to a position: what a snapshot saw can then not be lost in a crash.
SELECT pg_catalog.pg_is_in_recovery() OR pg_catalog.pg_current_wal_flush_lsn() >= %s::pg_lsn
