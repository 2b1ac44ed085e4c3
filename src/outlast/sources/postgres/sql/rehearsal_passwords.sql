-- name: rehearsal_passwords
-- purpose: a digest of each role's password, which pg_roles does not show: only for who may read pg_authid.
SELECT r.rolname::text, md5(r.rolpassword) FROM pg_catalog.pg_authid AS r
 WHERE r.rolpassword IS NOT NULL AND r.rolname !~ '^pg_'
