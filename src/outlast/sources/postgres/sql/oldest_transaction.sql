-- name: oldest_transaction
-- purpose: of the transactions that have a number, the one that has run longest, apart from ours: who, and for how long.
--          Of others' sessions a role without pg_read_all_stats sees no more than the process. No statement is shown: it
--          may hold a customer's data.
SELECT *
  FROM (SELECT 'that of process ' || a.pid || coalesce(' of ' || a.usename, '') || coalesce(' (' || a.state || ')', ''),
               extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::float8
          FROM pg_catalog.pg_stat_activity AS a
         WHERE a.backend_xid IS NOT NULL AND a.pid <> %s
         UNION ALL
        SELECT 'the prepared transaction ' || pg_catalog.quote_literal(p.gid) || ' of ' || p.owner,
               extract(epoch FROM pg_catalog.clock_timestamp() - p.prepared)::float8
          FROM pg_catalog.pg_prepared_xacts AS p) AS running (who, seconds)
 ORDER BY seconds DESC NULLS LAST
 LIMIT 1
