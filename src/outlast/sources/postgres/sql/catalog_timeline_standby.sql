-- name: catalog_timeline_standby
-- purpose: the timeline that a standby receives; no row, or NULL, where it has no receiver or the role may not see it.
SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver
