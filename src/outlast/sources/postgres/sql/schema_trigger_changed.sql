-- name: schema_trigger_changed
-- purpose: ddl_command_end: says in the log how every table that a command touched looks now. A table's plain inheritance
--          children are touched with it, and so are the tables that hold a type or stand in a schema that was altered.
DECLARE
    found record;
BEGIN
    -- Temporary tables come by the thousand in some applications, and are nobody's.
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_event_trigger_ddl_commands() AS d
                    WHERE d.schema_name IS DISTINCT FROM 'pg_temp') THEN
        RETURN;
    END IF;
    FOR found IN
        SELECT s.shape, s.because FROM (
            WITH RECURSIVE commands AS MATERIALIZED (
                SELECT d.classid, d.objid, d.object_identity FROM pg_catalog.pg_event_trigger_ddl_commands() AS d
                 WHERE d.schema_name IS DISTINCT FROM 'pg_temp'
            ), types (oid, because) AS (
                SELECT d.objid, d.object_identity FROM commands AS d
                 WHERE d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND tg_tag IN ('ALTER TYPE', 'ALTER DOMAIN')
                UNION
                SELECT t.oid, y.because FROM types AS y
                  JOIN pg_catalog.pg_type AS t
                    ON y.oid IN (t.typbasetype, t.typelem)
                    OR t.typrelid IN (SELECT a.attrelid FROM pg_catalog.pg_attribute AS a
                                        JOIN pg_catalog.pg_class AS k ON k.oid = a.attrelid AND k.relkind = 'c'
                                       WHERE a.atttypid = y.oid)
                    OR t.oid IN (SELECT u.rng FROM pg_catalog.pg_range AS g
                                  CROSS JOIN LATERAL (VALUES (g.rngtypid), (g.rngmultitypid)) AS u (rng)
                                  WHERE g.rngsubtype = y.oid)
            ), direct (oid, because) AS (
                SELECT d.objid, NULL::text FROM commands AS d
                 WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                UNION  -- a partition that has partitions: its root's leaves are others now
                SELECT pg_catalog.pg_partition_root(c.oid)::oid, NULL::text FROM commands AS d
                  JOIN pg_catalog.pg_class AS c ON c.oid = d.objid AND c.relispartition AND c.relkind = 'p'
                 WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                UNION
                SELECT c.oid, NULL::text FROM commands AS d
                  JOIN pg_catalog.pg_class AS c ON c.relnamespace = d.objid
                 WHERE d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND tg_tag = 'ALTER SCHEMA'
                UNION
                SELECT a.attrelid, y.because FROM types AS y
                  JOIN pg_catalog.pg_attribute AS a ON a.atttypid = y.oid AND NOT a.attisdropped
            ), touched (oid, because) AS (
                SELECT d.oid, d.because FROM direct AS d
                UNION
                SELECT i.inhrelid, t.because FROM touched AS t
                  JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.oid
                  JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid AND NOT c.relispartition AND c.relkind = 'r'
            )
            SELECT shapes.shape, t.because
              FROM (<shape: SELECT DISTINCT oid FROM touched>) AS shapes
              JOIN (SELECT oid, max(because) AS because FROM touched GROUP BY oid) AS t ON t.oid = shapes.oid
        ) AS s
    LOOP
        PERFORM pg_catalog.pg_logical_emit_message(true, 'outlast.schema', pg_catalog.json_build_object(
            'event', 'table', 'command', tg_tag, 'because', found.because, 'table', found.shape)::text);
    END LOOP;
    FOR found IN SELECT d.object_identity FROM pg_catalog.pg_event_trigger_ddl_commands() AS d
                  WHERE d.object_type LIKE 'publication%' LOOP
        PERFORM pg_catalog.pg_logical_emit_message(true, 'outlast.schema', pg_catalog.json_build_object(
            'event', 'publication', 'command', tg_tag, 'because', found.object_identity)::text);
    END LOOP;
    PERFORM outlast.schema_guard();
EXCEPTION WHEN OTHERS THEN
    -- The application's DDL must never fail for us. That something was missed is said instead.
    <missed>
END
