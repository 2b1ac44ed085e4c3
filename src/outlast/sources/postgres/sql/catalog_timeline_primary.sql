-- name: catalog_timeline_primary
-- purpose: the timeline that a primary writes now. The control file would lag behind a promotion until a checkpoint.
SELECT ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8))::bit(32)::integer
