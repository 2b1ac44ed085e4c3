-- name: follow_sequences
-- purpose: the last values of the users' sequences, as following notes them with each flush; without those never used
--          or not readable for this role.
SELECT CASE WHEN s.schemaname ~ '[."]' THEN '"' || pg_catalog.replace(s.schemaname, '"', '""') || '"'
            ELSE s.schemaname END
       || '.' ||
       CASE WHEN s.sequencename ~ '[."]' THEN '"' || pg_catalog.replace(s.sequencename, '"', '""') || '"'
            ELSE s.sequencename END,
       s.last_value
  FROM pg_catalog.pg_sequences AS s
 WHERE s.last_value IS NOT NULL
   AND s.schemaname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
