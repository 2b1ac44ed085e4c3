-- name: schema_trigger_rewritten
-- purpose: table_rewrite: says in the log that a table's rows are about to be written anew, of which the log shows nothing.
BEGIN
    PERFORM pg_catalog.pg_logical_emit_message(true, 'outlast.schema', pg_catalog.convert_to(pg_catalog.json_build_object(
                'event', 'rewrite', 'command', tg_tag, 'because', pg_catalog.pg_event_trigger_table_rewrite_reason()::text,
                'table', s.shape)::text, 'UTF8')), <filler>
       FROM (<shape: SELECT pg_catalog.pg_event_trigger_table_rewrite_oid()>) AS s;
EXCEPTION WHEN OTHERS THEN
    <missed>
END
