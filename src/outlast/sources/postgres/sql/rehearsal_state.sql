-- name: rehearsal_state
-- purpose: every object of the catalog as (kind, name, definition): two readings, compared, are what a script did to the
--          schema, its roles and its grants. Outlast's own things in a copy are left out.
WITH spaces AS (
    SELECT n.oid, n.nspname, n.nspacl, n.nspowner FROM pg_namespace AS n
     WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'outlast_rehearsal')
       AND n.nspname NOT LIKE 'pg\_temp%' AND n.nspname NOT LIKE 'pg\_toast\_temp%'
), relations AS (
    SELECT c.*, format('%s.%s', s.nspname, c.relname) AS name FROM pg_class AS c JOIN spaces AS s ON s.oid = c.relnamespace
)
SELECT 'schema' AS kind, s.nspname::text AS name, format('owner %s', pg_get_userbyid(s.nspowner)) AS definition FROM spaces AS s
UNION ALL
SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table' ELSE 'table' END,
       c.name,
       concat_ws(' ', 'owner ' || pg_get_userbyid(c.relowner),
                 CASE c.relpersistence WHEN 'u' THEN 'unlogged' END,
                 CASE WHEN c.relrowsecurity THEN 'row security' END, CASE WHEN c.relforcerowsecurity THEN 'forced' END,
                 CASE WHEN c.relispartition THEN 'partition ' || pg_get_expr(c.relpartbound, c.oid) END,
                 CASE WHEN c.relkind IN ('v', 'm') THEN md5(pg_get_viewdef(c.oid)) END, c.reloptions::text)
  FROM relations AS c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
UNION ALL
SELECT 'column', format('%s.%s', c.name, a.attname),
       concat_ws(' ', format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'not null' END,
                 'default ' || pg_get_expr(d.adbin, d.adrelid),
                 CASE a.attidentity WHEN 'a' THEN 'identity always' WHEN 'd' THEN 'identity' END,
                 CASE a.attgenerated WHEN 's' THEN 'stored' WHEN 'v' THEN 'virtual' END)
  FROM relations AS c
  JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
 WHERE c.relkind IN ('r', 'p', 'f')
UNION ALL
SELECT 'index', c.name, concat_ws(' ', pg_get_indexdef(c.oid), CASE WHEN NOT i.indisvalid THEN 'INVALID' END)
  FROM relations AS c JOIN pg_index AS i ON i.indexrelid = c.oid WHERE c.relkind IN ('i', 'I')
UNION ALL
SELECT 'constraint', format('%s.%s', c.name, k.conname),
       concat_ws(' ', pg_get_constraintdef(k.oid), CASE WHEN NOT k.convalidated THEN 'not validated' END)
  FROM pg_constraint AS k JOIN relations AS c ON c.oid = k.conrelid WHERE k.contype <> 'n'
UNION ALL
SELECT 'trigger', format('%s.%s', c.name, t.tgname), pg_get_triggerdef(t.oid) || ' ' || t.tgenabled::text
  FROM pg_trigger AS t JOIN relations AS c ON c.oid = t.tgrelid
 WHERE NOT t.tgisinternal AND t.tgname NOT LIKE 'aa\_outlast\_rehearsal\_%'
UNION ALL
SELECT 'rule', format('%s.%s', c.name, r.rulename), pg_get_ruledef(r.oid)
  FROM pg_rewrite AS r JOIN relations AS c ON c.oid = r.ev_class WHERE r.rulename <> '_RETURN'
UNION ALL
SELECT 'policy', format('%s.%s', c.name, p.polname),
       concat_ws(' ', p.polcmd::text, CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END,
                 (SELECT string_agg(CASE WHEN r.oid = 0 THEN 'public' ELSE pg_get_userbyid(r.oid)::text END, ',' ORDER BY 1)
                    FROM unnest(p.polroles) AS r (oid)),
                 'using ' || pg_get_expr(p.polqual, p.polrelid), 'check ' || pg_get_expr(p.polwithcheck, p.polrelid))
  FROM pg_policy AS p JOIN relations AS c ON c.oid = p.polrelid
UNION ALL
SELECT 'sequence', c.name, format('%s start %s increment %s min %s max %s%s owner %s', q.seqtypid::regtype, q.seqstart,
              q.seqincrement, q.seqmin, q.seqmax, CASE WHEN q.seqcycle THEN ' cycle' ELSE '' END, pg_get_userbyid(c.relowner))
  FROM pg_sequence AS q JOIN relations AS c ON c.oid = q.seqrelid
UNION ALL
SELECT CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END,
       format('%s.%s(%s)', s.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
       md5(concat_ws(' ', p.prosrc, p.probin, p.prosqlbody::text, p.proconfig::text, p.prosecdef, p.provolatile, p.prolang,
                     p.proowner, pg_get_function_result(p.oid)))
  FROM pg_proc AS p JOIN spaces AS s ON s.oid = p.pronamespace
UNION ALL
SELECT 'type', format('%s.%s', s.nspname, t.typname),
       concat_ws(' ', t.typtype::text,
                 (SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_enum AS e WHERE e.enumtypid = t.oid),
                 CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) END,
                 (SELECT string_agg(pg_get_constraintdef(k.oid), ' ' ORDER BY k.conname)
                    FROM pg_constraint AS k WHERE k.contypid = t.oid),
                 (SELECT string_agg(format('%s %s', a.attname, format_type(a.atttypid, a.atttypmod)), ',' ORDER BY a.attnum)
                    FROM pg_attribute AS a
                    JOIN pg_class AS k ON k.oid = a.attrelid AND k.relkind = 'c'
                   WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped))
  FROM pg_type AS t JOIN spaces AS s ON s.oid = t.typnamespace
 WHERE t.typtype IN ('e', 'd', 'r') OR t.typtype = 'c' AND EXISTS (SELECT FROM pg_class AS k WHERE k.oid = t.typrelid AND k.relkind = 'c')
UNION ALL
SELECT 'extension', e.extname::text, e.extversion FROM pg_extension AS e
UNION ALL
SELECT 'event trigger', e.evtname::text, format('%s %s %s', e.evtevent, e.evtenabled, e.evttags)
  FROM pg_event_trigger AS e WHERE e.evtname NOT LIKE 'outlast\_rehearsal%'
UNION ALL
SELECT 'publication', p.pubname::text,
       format('%s %s %s %s %s %s', p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate,
              (SELECT string_agg(m.prrelid::regclass::text, ',' ORDER BY 1) FROM pg_publication_rel AS m WHERE m.prpubid = p.oid))
  FROM pg_publication AS p WHERE p.pubname NOT LIKE 'outlast\_rehearsal%'
UNION ALL
SELECT 'foreign server', f.srvname::text, md5(f.srvoptions::text) FROM pg_foreign_server AS f
UNION ALL
SELECT 'subscription', s.subname::text, concat_ws(' ', CASE WHEN s.subenabled THEN 'enabled' END, s.subslotname, s.subpublications::text)
  FROM pg_subscription AS s WHERE s.subdbid = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
UNION ALL
SELECT 'statistics', format('%s.%s', s.nspname, x.stxname), pg_get_statisticsobjdef(x.oid)
  FROM pg_statistic_ext AS x JOIN spaces AS s ON s.oid = x.stxnamespace
UNION ALL
SELECT 'role', r.rolname::text,
       concat_ws(' ', CASE WHEN r.rolsuper THEN 'superuser' END, CASE WHEN r.rolcanlogin THEN 'login' END,
                 CASE WHEN r.rolcreatedb THEN 'createdb' END, CASE WHEN r.rolcreaterole THEN 'createrole' END,
                 CASE WHEN r.rolreplication THEN 'replication' END, CASE WHEN r.rolbypassrls THEN 'bypassrls' END,
                 CASE WHEN NOT r.rolinherit THEN 'noinherit' END, 'limit ' || r.rolconnlimit, r.rolvaliduntil::text)
  FROM pg_roles AS r WHERE r.rolname !~ '^pg_'
UNION ALL
SELECT 'membership', format('%s in %s', m.member::regrole, m.roleid::regrole), CASE WHEN bool_or(m.admin_option) THEN 'admin' ELSE '' END
  FROM pg_auth_members AS m GROUP BY m.member, m.roleid
UNION ALL
SELECT 'setting', format('%s%s', CASE WHEN s.setrole = 0 THEN 'database' ELSE pg_get_userbyid(s.setrole)::text END,
                         CASE WHEN s.setdatabase <> 0 AND s.setrole <> 0 THEN ' here' ELSE '' END), md5(s.setconfig::text)
  FROM pg_db_role_setting AS s WHERE s.setdatabase IN (0, (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()))
UNION ALL
SELECT 'grant', format('%s on %s', CASE WHEN a.grantee = 0 THEN 'public' ELSE pg_get_userbyid(a.grantee)::text END, o.name),
       string_agg(a.privilege_type || CASE WHEN a.is_grantable THEN '*' ELSE '' END, ',' ORDER BY a.privilege_type)
  FROM (
       SELECT c.name, c.relacl AS acl FROM relations AS c WHERE c.relacl IS NOT NULL
       UNION ALL
       SELECT format('%s.%s', c.name, a.attname), a.attacl FROM pg_attribute AS a JOIN relations AS c ON c.oid = a.attrelid
        WHERE a.attacl IS NOT NULL AND NOT a.attisdropped
       UNION ALL
       SELECT 'schema ' || s.nspname, s.nspacl FROM spaces AS s WHERE s.nspacl IS NOT NULL
       UNION ALL
       SELECT format('%s.%s(%s)', s.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), p.proacl
         FROM pg_proc AS p JOIN spaces AS s ON s.oid = p.pronamespace WHERE p.proacl IS NOT NULL
       UNION ALL
       SELECT 'database', d.datacl FROM pg_database AS d WHERE d.datname = current_database() AND d.datacl IS NOT NULL
       ) AS o (name, acl)
 CROSS JOIN LATERAL aclexplode(o.acl) AS a
 GROUP BY a.grantee, o.name
UNION ALL
SELECT 'default privileges', concat_ws(' ', pg_get_userbyid(d.defaclrole), n.nspname, d.defaclobjtype::text), d.defaclacl::text
  FROM pg_default_acl AS d LEFT JOIN pg_namespace AS n ON n.oid = d.defaclnamespace
