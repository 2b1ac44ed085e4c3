-- name: rehearsal_locks
-- purpose: the table locks that the session %(pid)s holds; of all of this database's sessions but ours where it is 0.
SELECT DISTINCT n.nspname || '.' || c.relname, l.mode
  FROM pg_catalog.pg_locks AS l
  JOIN pg_catalog.pg_class AS c ON c.oid = l.relation
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
 WHERE l.locktype = 'relation' AND l.granted AND c.relkind IN ('r', 'p', 'm')
   AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'outlast_rehearsal')
   AND CASE WHEN %(pid)s = 0 THEN l.pid <> pg_catalog.pg_backend_pid() AND a.application_name NOT LIKE 'outlast %%'
            ELSE l.pid = %(pid)s END
