-- Whether the session's role may INSERT into every one of some columns of a table, and who that is.
-- %(table)s: its oid; %(columns)s: their names.
SELECT current_user::pg_catalog.text,
       pg_catalog.bool_and(pg_catalog.has_column_privilege(%(table)s::pg_catalog.oid, name, 'INSERT'))
FROM pg_catalog.unnest(%(columns)s::pg_catalog.text[]) AS name
