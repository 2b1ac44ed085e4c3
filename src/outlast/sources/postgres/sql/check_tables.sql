-- name: check_tables
-- purpose: what the connected role may do with each table, given by number, and whether a policy would hide rows from it.
SELECT c.oid::bigint,
       pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE') AS may_use_schema,
       pg_catalog.has_table_privilege(c.oid, 'SELECT') AS may_select,
       pg_catalog.has_table_privilege(c.oid, 'INSERT')
       AND pg_catalog.has_table_privilege(c.oid, 'UPDATE')
       AND pg_catalog.has_table_privilege(c.oid, 'DELETE') AS may_write,
       pg_catalog.has_any_column_privilege(c.oid, 'UPDATE') AS may_lock,
       c.relrowsecurity AND NOT (
           (SELECT r.rolsuper OR r.rolbypassrls FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user)
           OR (pg_catalog.pg_has_role(c.relowner, 'USAGE') AND NOT c.relforcerowsecurity)
       ) AS hides_rows
  FROM pg_catalog.pg_class AS c
 WHERE c.oid = ANY (%(tables)s::bigint[]::oid[])
