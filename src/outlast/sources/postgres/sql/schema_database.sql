-- name: schema_database
-- purpose: the statement that makes a database like this one, as a comment (it must be run elsewhere), and its settings.
SELECT pg_catalog.translate(pg_catalog.format(
           '-- CREATE DATABASE %I TEMPLATE template0 ENCODING %L LOCALE_PROVIDER %s LC_COLLATE %L LC_CTYPE %L%s;',
           d.datname, pg_catalog.pg_encoding_to_char(d.encoding),
           CASE d.datlocprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END,
           d.datcollate, d.datctype,
           CASE WHEN d.datlocprovider <> 'c' THEN pg_catalog.format(' %s %L',
                CASE d.datlocprovider WHEN 'i' THEN 'ICU_LOCALE' ELSE 'BUILTIN_LOCALE' END,
                coalesce(pg_catalog.to_jsonb(d) ->> 'datlocale', pg_catalog.to_jsonb(d) ->> 'daticulocale'))
           ELSE '' END), E'\n\r', '  ')
  FROM pg_catalog.pg_database AS d
 WHERE d.datname = pg_catalog.current_database()
UNION ALL
SELECT pg_catalog.translate(
           CASE WHEN s.setrole = 0 THEN
               pg_catalog.format('-- ALTER DATABASE %I SET %s;', d.datname, one.setting)
           ELSE pg_catalog.format('-- ALTER ROLE %I IN DATABASE %I SET %s;', r.rolname, d.datname, one.setting) END,
           E'\n\r', '  ')
  FROM (SELECT s.setdatabase, s.setrole, pg_catalog.unnest(s.setconfig) FROM pg_catalog.pg_db_role_setting AS s)
       AS raw (setdatabase, setrole, assignment)
  JOIN pg_catalog.pg_database AS d ON d.oid = raw.setdatabase AND d.datname = pg_catalog.current_database()
 CROSS JOIN LATERAL (SELECT raw.setrole) AS s (setrole)
  LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = s.setrole
 CROSS JOIN LATERAL (
       SELECT pg_catalog.format('%I = %s', pg_catalog.split_part(raw.assignment, '=', 1),
              -- A list of names is stored as it was written and must not become one quoted name.
              CASE WHEN pg_catalog.split_part(raw.assignment, '=', 1) IN
                        ('search_path', 'session_preload_libraries', 'local_preload_libraries', 'temp_tablespaces')
                   THEN pg_catalog.substr(raw.assignment, pg_catalog.strpos(raw.assignment, '=') + 1)
                   ELSE pg_catalog.quote_literal(pg_catalog.substr(raw.assignment, pg_catalog.strpos(raw.assignment, '=') + 1))
              END)) AS one (setting)
