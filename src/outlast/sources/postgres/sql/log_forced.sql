-- name: log_forced
-- purpose: a commit that puts the log on disk as far as it is written; on an idle server nothing else does for seconds.
SELECT pg_catalog.set_config('synchronous_commit', 'local', true),
       pg_catalog.pg_logical_emit_message(true, 'outlast_current', '')
