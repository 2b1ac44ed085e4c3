-- name: schema_roles
-- purpose: statements that make every role which owns something here, was granted something here or belongs to such a
--          role, with its settings. Passwords are left out, and so are the attributes that only a superuser can give: those
--          are remarked.
WITH RECURSIVE named (oid) AS (
    SELECT s.refobjid FROM pg_catalog.pg_shdepend AS s
     WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
       AND s.dbid = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())
    UNION
    SELECT c.relowner FROM pg_catalog.pg_class AS c
      JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
     WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
    UNION
    SELECT n.nspowner FROM pg_catalog.pg_namespace AS n
    UNION
    SELECT d.datdba FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()
    UNION
    SELECT a.grantee FROM pg_catalog.pg_database AS d
     CROSS JOIN LATERAL pg_catalog.aclexplode(d.datacl) AS a
     WHERE d.datname = pg_catalog.current_database() AND a.grantee <> 0
), belonging (oid) AS (
    SELECT oid FROM named
    UNION
    SELECT a.member FROM belonging AS b JOIN pg_catalog.pg_auth_members AS a ON a.roleid = b.oid
), known AS (
    SELECT r.* FROM pg_catalog.pg_roles AS r
     WHERE r.oid IN (SELECT oid FROM belonging) AND r.rolname !~ '^pg_'
)
SELECT pg_catalog.format('DO %L;', pg_catalog.format(
           'BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = %L) THEN '
           'CREATE ROLE %I WITH %s %s%s%s; END IF; END',
           r.rolname, r.rolname,
           CASE WHEN r.rolcanlogin THEN 'LOGIN' ELSE 'NOLOGIN' END,
           CASE WHEN r.rolinherit THEN 'INHERIT' ELSE 'NOINHERIT' END,
           CASE WHEN r.rolcreatedb THEN ' CREATEDB' ELSE '' END,
           CASE WHEN r.rolcreaterole THEN ' CREATEROLE' ELSE '' END))
       || CASE WHEN r.rolsuper OR r.rolreplication OR r.rolbypassrls THEN
              ' -- was also:' || CASE WHEN r.rolsuper THEN ' SUPERUSER' ELSE '' END
              || CASE WHEN r.rolreplication THEN ' REPLICATION' ELSE '' END
              || CASE WHEN r.rolbypassrls THEN ' BYPASSRLS' ELSE '' END
          ELSE '' END AS line
  FROM (SELECT * FROM known ORDER BY rolname COLLATE "C") AS r
UNION ALL
SELECT * FROM (
    SELECT DISTINCT pg_catalog.format('GRANT %I TO %I%s;', g.rolname, m.rolname,
               CASE WHEN a.admin_option THEN ' WITH ADMIN OPTION' ELSE '' END) AS line
      FROM pg_catalog.pg_auth_members AS a
      JOIN pg_catalog.pg_roles AS g ON g.oid = a.roleid
      JOIN known AS m ON m.oid = a.member
     WHERE g.oid IN (SELECT oid FROM known) OR g.rolname ~ '^pg_'
     ORDER BY 1
) AS memberships
UNION ALL
SELECT * FROM (
    SELECT pg_catalog.translate(pg_catalog.format('ALTER ROLE %I SET %I = %s;', r.rolname,
               pg_catalog.split_part(one.assignment, '=', 1),
               -- A list of names is stored as it was written and must not become one quoted name.
               CASE WHEN pg_catalog.split_part(one.assignment, '=', 1) IN
                         ('search_path', 'session_preload_libraries', 'local_preload_libraries', 'temp_tablespaces')
                    THEN pg_catalog.substr(one.assignment, pg_catalog.strpos(one.assignment, '=') + 1)
                    ELSE pg_catalog.quote_literal(
                             pg_catalog.substr(one.assignment, pg_catalog.strpos(one.assignment, '=') + 1))
               END), E'\n\r', '  ')
      FROM pg_catalog.pg_db_role_setting AS s
      JOIN known AS r ON r.oid = s.setrole
     CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) AS one (assignment)
     WHERE s.setdatabase = 0
     ORDER BY 1
) AS settings
UNION ALL
SELECT * FROM (
    SELECT pg_catalog.translate(
               pg_catalog.format('-- GRANT %s ON DATABASE %I TO %s;', a.privilege_type, d.datname,
                   CASE WHEN a.grantee = 0 THEN 'PUBLIC'
                        ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END),
               E'\n\r', '  ')  -- a name with a line break must not end the comment
      FROM pg_catalog.pg_database AS d
     CROSS JOIN LATERAL pg_catalog.aclexplode(d.datacl) AS a
     WHERE d.datname = pg_catalog.current_database()
     ORDER BY 1
) AS database_grants
