-- name: schema_trigger_dropped
-- purpose: sql_drop: says in the log which tables are gone, and how those look now that lost a column to a cascade.
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT d.objid::bigint AS oid, d.schema_name, d.object_name, d.object_type, d.original
          FROM pg_catalog.pg_event_trigger_dropped_objects() AS d
         WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objsubid = 0 AND NOT d.is_temporary
           AND d.object_type IN ('table', 'foreign table')
    LOOP
        PERFORM pg_catalog.pg_logical_emit_message(true, 'outlast.schema', pg_catalog.convert_to(pg_catalog.json_build_object(
            'event', 'drop', 'command', tg_tag, 'original', found.original, 'table', pg_catalog.json_build_object(
                'oid', found.oid, 'schema', found.schema_name, 'name', found.object_name))::text, 'UTF8')), <filler>;
    END LOOP;
    IF tg_tag <> 'ALTER TABLE' THEN  -- after which ddl_command_end says it
        FOR found IN
            <shape: SELECT DISTINCT d.objid FROM pg_catalog.pg_event_trigger_dropped_objects() AS d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND NOT d.objsubid = 0 AND NOT d.is_temporary>
        LOOP
            PERFORM pg_catalog.pg_logical_emit_message(true, 'outlast.schema', pg_catalog.convert_to(pg_catalog.json_build_object(
                'event', 'table', 'command', tg_tag, 'because', 'cascade', 'table', found.shape)::text, 'UTF8')), <filler>;
        END LOOP;
    END IF;
    FOR found IN SELECT d.object_identity FROM pg_catalog.pg_event_trigger_dropped_objects() AS d
                  WHERE d.object_type = 'publication' OR d.object_type LIKE 'publication%' AND d.original LOOP
        PERFORM pg_catalog.pg_logical_emit_message(true, 'outlast.schema', pg_catalog.convert_to(pg_catalog.json_build_object(
            'event', 'publication', 'command', tg_tag, 'because', found.object_identity)::text, 'UTF8')), <filler>;
    END LOOP;
    PERFORM outlast.schema_guard();
EXCEPTION WHEN OTHERS THEN
    <missed>
END
