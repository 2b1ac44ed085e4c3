-- name: load
-- purpose: how far the standby that is furthest behind is, in seconds (NULL: there is none, or this role may not see it:
--          pg_monitor may), and how many other client sessions are at work now.
SELECT (SELECT extract(epoch FROM max(r.replay_lag))::float8 FROM pg_catalog.pg_stat_replication AS r),
       (SELECT count(*) FROM pg_catalog.pg_stat_activity AS a
         WHERE a.state = 'active' AND a.backend_type = 'client backend'
           AND a.application_name NOT LIKE 'outlast %')
