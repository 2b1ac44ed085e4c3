-- name: running_transactions
-- purpose: the transactions that have a number and have run for some seconds, the oldest first; with whether the given
--          process waits for it at this moment, and how many there are in all. Every database's, since a new slot waits for
--          all of them. Of others' sessions a role without pg_read_all_stats sees process, role and database only. No
--          statement is shown: it may hold a customer's data.
WITH running AS (
    SELECT a.pid, NULL AS gid, a.usename::text AS role, a.datname::text AS database, a.state,
           extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::float8 AS seconds,
           a.backend_xid AS xid
      FROM pg_catalog.pg_stat_activity AS a
     WHERE a.backend_xid IS NOT NULL AND a.pid <> %(pid)s
     UNION ALL
    SELECT NULL, p.gid, p.owner::text, p.database::text, NULL,
           extract(epoch FROM pg_catalog.clock_timestamp() - p.prepared)::float8,
           p.transaction
      FROM pg_catalog.pg_prepared_xacts AS p
)
SELECT r.pid, r.gid, r.role, r.database, r.state, r.seconds,
       EXISTS (SELECT FROM pg_catalog.pg_locks AS l
                WHERE l.pid = %(pid)s AND NOT l.granted AND l.locktype = 'transactionid' AND l.transactionid = r.xid),
       pg_catalog.count(*) OVER ()
  FROM running AS r
 WHERE r.seconds IS NULL OR r.seconds >= %(least_s)s
 ORDER BY pg_catalog.age(r.xid) DESC
 LIMIT %(most)s
