-- Fills the schema with %(tenants)s tenants of unequal size: the first is by far the largest, most are small.
-- Everything follows from %(seed)s, so that a replay can be repeated exactly.
SELECT setseed(%(seed)s::double precision / 1000000);

INSERT INTO plans SELECT n, 'plan ' || n, jsonb_build_object('seats', n * 10) FROM generate_series(1, 4) n;
INSERT INTO currencies VALUES ('EUR', 2), ('USD', 2), ('JPY', 0);

INSERT INTO accounts (slug, name, plan_id, settings, created_at)
SELECT 'tenant-' || n, 'Tenant no. ' || n || E' \\ "quoted"\n', 1 + n %% 4,
       jsonb_build_object('rank', n, 'locale', 'de'), timestamptz '2020-01-01 UTC' + n * interval '1 hour'
FROM generate_series(1, %(tenants)s) n;

CREATE TEMPORARY TABLE weight AS
SELECT id AS account_id, greatest(2, (%(issues)s * power(id, -0.8)
       / (SELECT sum(power(id, -0.8)) FROM accounts))::integer) AS issues
FROM accounts;

INSERT INTO users (account_id, email, full_name, last_seen)
SELECT account_id, 'user' || n || '@tenant-' || account_id || '.example', nullif('Us' || chr(233) || 'r ' || n, 'User 2'),
       timestamptz '2022-04-04 UTC' - random() * interval '90 days'
FROM weight, generate_series(1, 1 + (sqrt(issues) / 2)::integer) n;

INSERT INTO projects (id, account_id, key)
SELECT md5('project' || account_id || ':' || n)::uuid, account_id, 'P' || n
FROM weight, generate_series(1, 1 + issues / 200) n;
UPDATE projects SET parent_id = md5('project' || account_id || ':' || 1)::uuid WHERE key <> 'P1';

INSERT INTO issues (project_id, number, reporter_id, title, body, state, estimate, labels)
SELECT md5('project' || w.account_id || ':' || 1 + n %% (1 + w.issues / 200))::uuid, n,
       (SELECT min(id) FROM users u WHERE u.account_id = w.account_id),
       'Issue ' || n || ' of ' || w.account_id, repeat(md5(random()::text) || E'\n', 1 + (random() * 8)::integer),
       (enum_range(NULL::issue_state))[1 + n %% 3], (random() * 100)::numeric(8, 2), ARRAY['a' || n %% 7, NULL, E'b\t']
FROM weight w, generate_series(1, w.issues) n;

INSERT INTO comments (issue_id, author_id, body, written_at)
SELECT i.id, i.reporter_id, repeat('comment ' || n || ' ', 1 + (random() * 20)::integer),
       timestamptz '2022-01-01 UTC' + n * interval '1 hour'
FROM issues i, generate_series(1, 3) n;

INSERT INTO attachments (id, comment_id, name, content)
SELECT md5('attachment' || id)::uuid, id, 'file' || id, decode(repeat(md5(body), 8), 'hex') FROM comments WHERE id %% 10 = 0;

INSERT INTO versions SELECT id, n, daterange('2022-01-01', date '2022-01-01' + n) FROM projects, generate_series(1, 3) n;
INSERT INTO version_notes
SELECT project_id, number, locale, 'notes in ' || locale FROM versions, (VALUES ('de'), ('en')) AS l (locale);
INSERT INTO members
SELECT p.account_id, p.id, u.id, 'writer' FROM projects p JOIN users u USING (account_id) WHERE u.id %% 3 > 0;

INSERT INTO invoices (account_id, number, amount, currency, lines)
SELECT id, to_char(n, 'FM"R-"000'), n * 99.9, (ARRAY['EUR', 'USD', 'JPY'])[1 + n %% 3],
       jsonb_build_array(jsonb_build_object('text', 'seats', 'count', n))
FROM accounts, generate_series(1, 12) n;

-- Some lines stand there twice, as they do in a table without a key.
INSERT INTO audit_log
SELECT account_id, timestamptz '2021-06-01 UTC' + (n / 2) * interval '3 hours', 'login', jsonb_build_object('n', n / 2)
FROM weight, generate_series(1, 4 + issues / 2) n;

ANALYZE;
