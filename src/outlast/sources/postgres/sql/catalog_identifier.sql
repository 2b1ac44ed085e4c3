-- name: catalog_identifier
-- purpose: the number that initdb gave this cluster; a restore into another one has another.
SELECT system_identifier::text FROM pg_catalog.pg_control_system()
