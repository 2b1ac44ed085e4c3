-- Halting, as functions: <schema> is `outlast` (made by a superuser, run with their rights) or `pg_temp` (made by the
-- session that halts, with its own rights); <rights> says which. <schema>.halt_roles() gives the roles, and no others.

-- NOLOGIN, and a word in the role's comment that LOGIN was taken, so that any host can give it back.
CREATE OR REPLACE FUNCTION <schema>.halt_shut_out(role_name pg_catalog.name, told pg_catalog.text)
    RETURNS boolean LANGUAGE plpgsql <rights> SET search_path = '' AS $halt$
DECLARE known pg_catalog.record;
BEGIN
    IF NOT (role_name = ANY (<schema>.halt_roles())) THEN
        RAISE EXCEPTION 'role % is not one that may be halted', role_name USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT r.rolcanlogin, pg_catalog.shobj_description(r.oid, 'pg_authid') AS told INTO known
        FROM pg_catalog.pg_roles AS r WHERE r.rolname = role_name;
    IF NOT FOUND OR NOT known.rolcanlogin THEN
        RETURN false;
    END IF;
    EXECUTE pg_catalog.format('ALTER ROLE %I NOLOGIN', role_name);
    EXECUTE pg_catalog.format('COMMENT ON ROLE %I IS %L', role_name,
        pg_catalog.concat(pg_catalog.regexp_replace(known.told, '(\[outlast halt [^]]*\])+$', ''),
                          '[outlast halt ', pg_catalog.translate(told, '[]', ''), ']'));
    RETURN true;
END $halt$;

-- LOGIN again, for a role whose comment says that it was taken; for any other nothing is done.
CREATE OR REPLACE FUNCTION <schema>.halt_let_in(role_name pg_catalog.name)
    RETURNS boolean LANGUAGE plpgsql <rights> SET search_path = '' AS $halt$
DECLARE known pg_catalog.record;
BEGIN
    IF NOT (role_name = ANY (<schema>.halt_roles())) THEN
        RAISE EXCEPTION 'role % is not one that may be halted', role_name USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT pg_catalog.shobj_description(r.oid, 'pg_authid') AS told INTO known
        FROM pg_catalog.pg_roles AS r WHERE r.rolname = role_name;
    IF NOT FOUND OR known.told IS NULL OR known.told !~ '\[outlast halt [^]]*\]$' THEN
        RETURN false;
    END IF;
    EXECUTE pg_catalog.format('ALTER ROLE %I LOGIN', role_name);
    EXECUTE pg_catalog.format('COMMENT ON ROLE %I IS %L', role_name,
        NULLIF(pg_catalog.regexp_replace(known.told, '(\[outlast halt [^]]*\])+$', ''), ''));
    RETURN true;
END $halt$;

-- Ends sessions of the roles: those at work on the transactions given, or all of them where NULL is given. Sessions of
-- other roles that are at work on these transactions are told, and left alone.
CREATE OR REPLACE FUNCTION <schema>.halt_end(xids pg_catalog.text[])
    RETURNS TABLE (pid integer, role_name pg_catalog.text, application pg_catalog.text, client pg_catalog.text,
                   xid pg_catalog.text, ended boolean)
    LANGUAGE plpgsql <rights> SET search_path = '' AS $halt$
BEGIN
    FOR pid, role_name, application, client, xid IN
        SELECT a.pid, a.usename, a.application_name, pg_catalog.host(a.client_addr), a.backend_xid
        FROM pg_catalog.pg_stat_activity AS a
        WHERE a.pid <> pg_catalog.pg_backend_pid()
          AND CASE WHEN xids IS NULL THEN a.usename = ANY (<schema>.halt_roles())
                   ELSE a.backend_xid::pg_catalog.text = ANY (xids) END
    LOOP
        ended := false;
        IF role_name = ANY (<schema>.halt_roles()) THEN
            BEGIN
                PERFORM pg_catalog.pg_terminate_backend(pid);
                ended := true;  -- it says false of a session that has just ended by itself
            EXCEPTION WHEN insufficient_privilege THEN
                NULL;  -- a superuser's session: the row says that it was not ended, and the next one is
            END;
        END IF;
        RETURN NEXT;
    END LOOP;
END $halt$;
