-- name: schema_trigger_guard
-- purpose: the application's UPDATE and DELETE must not fail because a migration took the identity of a table that we
--          publish: such a table is published for inserts and truncates only, from that same transaction on. If a later
--          command of it gives the identity back (a primary key dropped and made anew), it is published whole again.
DECLARE
    found record;
    moved text := coalesce(pg_catalog.current_setting('outlast.moved', true), '');
BEGIN
    FOR found IN
        SELECT ours.pubname, ours.pubupdate, n.nspname, c.relname, c.oid::text AS oid
          FROM (SELECT p.oid, p.pubname, p.pubupdate FROM pg_catalog.pg_publication AS p
                 WHERE pg_catalog.obj_description(p.oid, 'pg_publication') LIKE '{"outlast":%') AS ours
          JOIN pg_catalog.pg_publication_rel AS m ON m.prpubid = ours.oid
          JOIN pg_catalog.pg_class AS c ON c.oid = m.prrelid
          JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
         CROSS JOIN LATERAL (
               SELECT CASE WHEN c.relreplident = 'f' THEN NOT EXISTS (
                               SELECT FROM pg_catalog.pg_attribute AS a
                                WHERE a.attrelid = c.oid AND a.attgenerated <> '' AND NOT a.attisdropped)
                           ELSE EXISTS (
                               SELECT FROM pg_catalog.pg_index AS i
                                WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
                                  AND CASE c.relreplident WHEN 'd' THEN i.indisprimary
                                                          WHEN 'i' THEN i.indisreplident ELSE false END) END
         ) AS identity (holds)
         WHERE ours.pubupdate AND NOT identity.holds
            OR NOT ours.pubupdate AND identity.holds AND c.oid::text = ANY (pg_catalog.string_to_array(moved, ','))
    LOOP
        IF found.pubupdate THEN
            EXECUTE pg_catalog.format('ALTER PUBLICATION %I DROP TABLE ONLY %I.%I', found.pubname, found.nspname, found.relname);
            EXECUTE pg_catalog.format('ALTER PUBLICATION %I ADD TABLE ONLY %I.%I',
                                      found.pubname || '_partial', found.nspname, found.relname);
            moved := pg_catalog.concat_ws(',', nullif(moved, ''), found.oid);
        ELSE
            EXECUTE pg_catalog.format('ALTER PUBLICATION %I DROP TABLE ONLY %I.%I', found.pubname, found.nspname, found.relname);
            EXECUTE pg_catalog.format('ALTER PUBLICATION %I ADD TABLE ONLY %I.%I',
                                      pg_catalog.regexp_replace(found.pubname, '_partial$', ''), found.nspname, found.relname);
        END IF;
        PERFORM pg_catalog.set_config('outlast.moved', moved, true);
    END LOOP;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'outlast: a table that lost its replica identity is still published (%): %', sqlstate,
        'UPDATE and DELETE of it fail until `outlast follow --setup --execute` is run';
END
