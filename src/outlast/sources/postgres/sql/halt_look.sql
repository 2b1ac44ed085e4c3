-- The sessions that are at work on some transactions, by the 32-bit number that pg_stat_activity shows.
SELECT a.pid, a.usename::text, a.application_name, pg_catalog.host(a.client_addr), a.backend_xid::text, false
FROM pg_catalog.pg_stat_activity AS a
WHERE a.backend_xid::text = ANY (%s::text[])
