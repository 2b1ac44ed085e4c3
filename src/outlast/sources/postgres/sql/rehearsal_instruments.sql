-- name: rehearsal_instruments
-- purpose: what a copy gets before a script runs on it, and a source never: functions that say in the log what decoding
--          alone does not show. All of it is in one schema, and no table of the application is changed by it.
CREATE SCHEMA outlast_rehearsal;
GRANT USAGE ON SCHEMA outlast_rehearsal TO PUBLIC;

-- Whether a statement on this table is the script's own or a trigger's, said only where it is not as it was before in the
-- transaction: a trigger that writes a row for each of a million says so once.
CREATE FUNCTION outlast_rehearsal.began() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    known text := 'outlast_rehearsal.r' || TG_RELID || lower(left(TG_OP, 1));
    inside text := CASE WHEN pg_trigger_depth() > 1 THEN 'y' ELSE '' END;
BEGIN
    IF coalesce(current_setting(known, true), '') <> inside THEN
        PERFORM set_config(known, inside, true),
                pg_logical_emit_message(true, 'outlast.inside', TG_RELID || left(TG_OP, 1) || inside);
    END IF;
    -- A row that an UPDATE takes to another partition stands in the log as deleted and inserted: so say what was meant.
    IF TG_NARGS > 0 AND coalesce(current_setting('outlast_rehearsal.d' || TG_RELID, true), '') <> TG_OP THEN
        PERFORM set_config('outlast_rehearsal.d' || TG_RELID, TG_OP, true),
                pg_logical_emit_message(true, 'outlast.doing', TG_RELID || left(TG_OP, 1));
    END IF;
    RETURN NULL;
END $$;

-- Rows by tenant of a table that is about to be emptied; the query comes with the trigger.
CREATE FUNCTION outlast_rehearsal.emptied() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    found text;
BEGIN
    EXECUTE TG_ARGV[0] INTO found;
    PERFORM pg_logical_emit_message(true, 'outlast.emptied', json_build_array(TG_RELID::bigint, found::json)::text);
    RETURN NULL;
END $$;

CREATE FUNCTION outlast_rehearsal.dropped() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog AS $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT d.object_type, d.schema_name, d.object_name, d.object_identity, d.objid::bigint AS oid
          FROM pg_event_trigger_dropped_objects() AS d
         WHERE NOT d.is_temporary AND d.schema_name IS DISTINCT FROM 'outlast_rehearsal'
           AND d.object_type IN ('table', 'table column', 'foreign table', 'materialized view', 'sequence', 'schema',
                                 'type', 'extension')
    LOOP
        PERFORM pg_logical_emit_message(true, 'outlast.dropped', json_build_object(
            'kind', found.object_type, 'schema', found.schema_name, 'name', found.object_name,
            'identity', found.object_identity, 'oid', found.oid)::text);
    END LOOP;
END $$;

-- A table that the script makes is seen as well: published, with whole rows.
CREATE FUNCTION outlast_rehearsal.made() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog AS $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT n.nspname, c.relname
          FROM pg_event_trigger_ddl_commands() AS d
          JOIN pg_class AS c ON c.oid = d.objid AND c.relkind = 'r' AND c.relpersistence = 'p'
          JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE d.classid = 'pg_class'::regclass AND d.command_tag IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO')
           AND NOT EXISTS (SELECT FROM pg_publication_rel AS m JOIN pg_publication AS p ON p.oid = m.prpubid
                            WHERE m.prrelid = c.oid AND p.pubname = 'outlast_rehearsal')
    LOOP
        EXECUTE format('ALTER TABLE %I.%I REPLICA IDENTITY FULL', found.nspname, found.relname);
        EXECUTE format('ALTER PUBLICATION outlast_rehearsal ADD TABLE ONLY %I.%I', found.nspname, found.relname);
    END LOOP;
END $$;

-- What is sent to listeners by function; the command NOTIFY stands in the script.
SET LOCAL allow_system_table_mods = on;
ALTER FUNCTION pg_catalog.pg_notify(text, text) RENAME TO pg_notify_itself;
CREATE FUNCTION pg_catalog.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_catalog.pg_logical_emit_message(true, 'outlast.notified', $1), pg_catalog.pg_notify_itself($1, $2);
END $$;
SET LOCAL allow_system_table_mods = off;

CREATE EVENT TRIGGER outlast_rehearsal_dropped ON sql_drop EXECUTE FUNCTION outlast_rehearsal.dropped();
CREATE EVENT TRIGGER outlast_rehearsal_made ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO') EXECUTE FUNCTION outlast_rehearsal.made();
ALTER EVENT TRIGGER outlast_rehearsal_dropped ENABLE ALWAYS;
ALTER EVENT TRIGGER outlast_rehearsal_made ENABLE ALWAYS;
CREATE PUBLICATION outlast_rehearsal;
