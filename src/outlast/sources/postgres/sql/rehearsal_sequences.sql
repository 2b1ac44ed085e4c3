-- name: rehearsal_sequences
-- purpose: where every sequence stands; NULL before its first use.
SELECT format('%s.%s', s.schemaname, s.sequencename), s.last_value::bigint FROM pg_catalog.pg_sequences AS s
 WHERE s.schemaname NOT LIKE 'pg\_temp%'
