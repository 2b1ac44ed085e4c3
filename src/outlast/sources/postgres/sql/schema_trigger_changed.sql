-- name: schema_trigger_changed
-- purpose: ddl_command_end: says in the log how every table that a command touched looks now. A table's plain inheritance
--          children are touched with it, and so are the tables that hold a type or stand in a schema that was altered.
DECLARE
    found record;
    touched oid[];
    because text;
BEGIN
    -- Temporary tables come by the thousand in some applications, and are nobody's.
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_event_trigger_ddl_commands() AS d
                    WHERE d.schema_name IS DISTINCT FROM 'pg_temp') THEN
        RETURN;
    END IF;
    touched := ARRAY (
        SELECT d.objid FROM pg_catalog.pg_event_trigger_ddl_commands() AS d
         WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.schema_name IS DISTINCT FROM 'pg_temp'
        UNION  -- a new unique index may be the key from now on
        SELECT i.indrelid FROM pg_catalog.pg_event_trigger_ddl_commands() AS d
          JOIN pg_catalog.pg_index AS i ON i.indexrelid = d.objid AND i.indisunique
          JOIN pg_catalog.pg_class AS c ON c.oid = i.indrelid AND NOT c.relispartition
         WHERE tg_tag = 'CREATE INDEX'
        UNION  -- a partition that has partitions: its root's leaves are others now
        SELECT pg_catalog.pg_partition_root(c.oid)::oid FROM pg_catalog.pg_event_trigger_ddl_commands() AS d
          JOIN pg_catalog.pg_class AS c ON c.oid = d.objid AND c.relispartition AND c.relkind = 'p'
         WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass);
    IF tg_tag = 'ALTER SCHEMA' THEN
        touched := touched || ARRAY (
            SELECT c.oid FROM pg_catalog.pg_event_trigger_ddl_commands() AS d
              JOIN pg_catalog.pg_class AS c ON c.relnamespace = d.objid AND NOT c.relispartition
             WHERE d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass);
    ELSIF tg_tag IN ('ALTER TYPE', 'ALTER DOMAIN') THEN
        because := (SELECT pg_catalog.string_agg(d.object_identity, ', ')
                      FROM pg_catalog.pg_event_trigger_ddl_commands() AS d);
        touched := touched || ARRAY (
            WITH RECURSIVE types (oid) AS (
                SELECT d.objid FROM pg_catalog.pg_event_trigger_ddl_commands() AS d
                 WHERE d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass
                UNION
                SELECT t.typrelid_type FROM types AS y
                 CROSS JOIN LATERAL (
                       SELECT t.oid FROM pg_catalog.pg_type AS t WHERE y.oid IN (t.typbasetype, t.typelem)
                       UNION ALL
                       SELECT k.reltype FROM pg_catalog.pg_attribute AS a
                         JOIN pg_catalog.pg_class AS k ON k.oid = a.attrelid AND k.relkind = 'c'
                        WHERE a.atttypid = y.oid
                       UNION ALL
                       SELECT u.range FROM pg_catalog.pg_range AS g
                        CROSS JOIN LATERAL (VALUES (g.rngtypid), (g.rngmultitypid)) AS u (range)
                        WHERE g.rngsubtype = y.oid
                 ) AS t (typrelid_type)
            )
            SELECT CASE WHEN c.relispartition THEN pg_catalog.pg_partition_root(c.oid)::oid ELSE c.oid END
              FROM types AS y
              JOIN pg_catalog.pg_attribute AS a ON a.atttypid = y.oid AND NOT a.attisdropped
              JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p'));
    END IF;
    FOR found IN
        <shape: WITH RECURSIVE family (oid) AS (
                    SELECT DISTINCT u.oid FROM pg_catalog.unnest(touched) AS u (oid)
                    UNION
                    SELECT i.inhrelid FROM family AS f
                      JOIN pg_catalog.pg_inherits AS i ON i.inhparent = f.oid
                      JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid AND NOT c.relispartition AND c.relkind = 'r'
                )
                SELECT f.oid FROM family AS f>
    LOOP
        PERFORM pg_catalog.pg_logical_emit_message(true, 'outlast.schema', pg_catalog.convert_to(pg_catalog.json_build_object(
            'event', 'table', 'command', tg_tag, 'because', because, 'table', found.shape)::text, 'UTF8')), <filler>;
    END LOOP;
    FOR found IN SELECT d.object_identity FROM pg_catalog.pg_event_trigger_ddl_commands() AS d
                  WHERE d.object_type LIKE 'publication%' LOOP
        PERFORM pg_catalog.pg_logical_emit_message(true, 'outlast.schema', pg_catalog.convert_to(pg_catalog.json_build_object(
            'event', 'publication', 'command', tg_tag, 'because', found.object_identity)::text, 'UTF8')), <filler>;
    END LOOP;
    PERFORM outlast.schema_guard();
EXCEPTION WHEN OTHERS THEN
    -- The application's DDL must never fail for us. That something was missed is said instead.
    <missed>
END
