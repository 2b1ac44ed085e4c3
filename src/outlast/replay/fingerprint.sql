-- Every tenant's rows of every table, counted and hashed by the server. Written by hand for this schema, and none of
-- Outlast's own code has a part in it: it is the judge.
SELECT tenant, tab, count(*), md5(string_agg(hash, '' ORDER BY hash COLLATE "C")) FROM (
  SELECT '@shared' AS tenant, 'plans' AS tab, md5(t::text) AS hash FROM plans t
  UNION ALL SELECT '@shared', 'currencies', md5(t::text) FROM currencies t
  UNION ALL SELECT t.id::text, 'accounts', md5(t::text) FROM accounts t
  UNION ALL SELECT t.account_id::text, 'users', md5(t::text) FROM users t
  UNION ALL SELECT t.account_id::text, 'projects', md5(t::text) FROM projects t
  UNION ALL SELECT t.account_id::text, 'members', md5(t::text) FROM members t
  UNION ALL SELECT t.account_id::text, 'invoices', md5(t::text) FROM invoices t
  UNION ALL SELECT t.account_id::text, 'audit_log', md5(t::text) FROM audit_log t
  UNION ALL SELECT p.account_id::text, 'issues', md5(t::text) FROM issues t JOIN projects p ON p.id = t.project_id
  UNION ALL SELECT p.account_id::text, 'comments', md5(t::text)
    FROM comments t JOIN issues i ON i.id = t.issue_id JOIN projects p ON p.id = i.project_id
  UNION ALL SELECT p.account_id::text, 'attachments', md5(t::text)
    FROM attachments t JOIN comments c ON c.id = t.comment_id JOIN issues i ON i.id = c.issue_id
    JOIN projects p ON p.id = i.project_id
  UNION ALL SELECT p.account_id::text, 'versions', md5(t::text) FROM versions t JOIN projects p ON p.id = t.project_id
  UNION ALL SELECT p.account_id::text, 'version_notes', md5(t::text)
    FROM version_notes t JOIN projects p ON p.id = t.project_id
) AS every_row
GROUP BY tenant, tab;
