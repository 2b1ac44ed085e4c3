-- What is to be known of each role that a halt would shut out, and of whoever would do it (`actor`: ourselves, or the
-- owner of the functions in schema outlast). `tenant_table` is an oid.
WITH actor AS (
    SELECT r.* FROM pg_catalog.pg_roles AS r
    WHERE r.oid = COALESCE(
        (SELECT p.proowner FROM pg_catalog.pg_proc AS p
         WHERE %(functions)s AND p.oid = pg_catalog.to_regprocedure('outlast.halt_shut_out(name, text)')),
        (SELECT c.oid FROM pg_catalog.pg_roles AS c WHERE c.rolname = CURRENT_USER)
    )
), sessions AS (
    SELECT a.usename, pg_catalog.count(*) AS number
    FROM pg_catalog.pg_stat_activity AS a
    WHERE a.datname = pg_catalog.current_database() AND a.backend_type = 'client backend'
      AND a.application_name NOT LIKE 'outlast %%'
    GROUP BY a.usename
), writers AS (
    SELECT r.rolname FROM pg_catalog.pg_roles AS r
    WHERE r.rolcanlogin AND r.rolname <> ALL (%(roles)s) AND r.rolname <> ALL (%(ours)s)
      AND r.rolname NOT LIKE 'outlast\_%%'
      AND (NOT r.rolsuper OR EXISTS (SELECT FROM sessions AS s WHERE s.usename = r.rolname))
      AND pg_catalog.has_table_privilege(r.oid, %(tenant_table)s::pg_catalog.oid, 'INSERT, UPDATE, DELETE')
)
SELECT
    wanted.name::text,
    role.oid IS NOT NULL AS is_there,
    COALESCE(role.rolcanlogin, false) AS may_login,
    COALESCE(role.rolsuper, false) AS is_super,
    COALESCE(pg_catalog.shobj_description(role.oid, 'pg_authid') ~ '\[outlast halt [^]]*\]$', false) AS is_halted,
    actor.rolsuper
        OR actor.rolcreaterole AND NOT role.rolsuper
           AND (pg_catalog.current_setting('server_version_num')::integer < 160000
                OR pg_catalog.pg_has_role(actor.oid, role.oid, 'MEMBER WITH ADMIN OPTION')) AS may_alter,
    actor.rolsuper
        OR NOT role.rolsuper
           AND (pg_catalog.pg_has_role(actor.oid, role.oid, 'USAGE')
                OR pg_catalog.pg_has_role(actor.oid, 'pg_signal_backend', 'USAGE')) AS may_end,
    actor.rolsuper
        OR pg_catalog.pg_has_role(actor.oid, 'pg_read_all_stats', 'USAGE')
        OR pg_catalog.pg_has_role(actor.oid, role.oid, 'USAGE') AS may_see,
    COALESCE((SELECT s.number FROM sessions AS s WHERE s.usename = wanted.name), 0) AS sessions,
    COALESCE((SELECT pg_catalog.sum(s.number) FROM sessions AS s), 0)::bigint AS all_sessions,
    COALESCE(pg_catalog.has_table_privilege(role.oid, %(tenant_table)s::pg_catalog.oid, 'INSERT, UPDATE, DELETE'), false)
        AND NOT EXISTS (SELECT FROM writers) AS is_only_writer
FROM pg_catalog.unnest(%(roles)s::pg_catalog.name[]) AS wanted (name)
CROSS JOIN actor
LEFT JOIN pg_catalog.pg_roles AS role ON role.rolname = wanted.name
ORDER BY wanted.name;
