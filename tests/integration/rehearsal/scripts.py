"""Forty correct scripts with their intents, on one small schema: the originals of the mutants."""

from __future__ import annotations

from dataclasses import dataclass

from tests.mutants import World

SCHEMA = """
CREATE TABLE plans (id int PRIMARY KEY, name text NOT NULL, price int NOT NULL DEFAULT 0);
CREATE TABLE sites (id int PRIMARY KEY, name text NOT NULL, plan_id int REFERENCES plans, deleted_at timestamptz,
                    note text);
CREATE TABLE installs (id int PRIMARY KEY, site_id int NOT NULL REFERENCES sites ON DELETE CASCADE, app text NOT NULL,
                       deleted_at timestamptz, updated_at timestamptz, note text);
CREATE TABLE pages (id int PRIMARY KEY, site_id int NOT NULL REFERENCES sites ON DELETE CASCADE, title text NOT NULL,
                    hits int NOT NULL DEFAULT 0, note text);
CREATE TABLE comments (id int PRIMARY KEY, page_id int NOT NULL REFERENCES pages ON DELETE CASCADE, body text,
                       is_deleted bool NOT NULL DEFAULT false, note text);
CREATE TABLE audit (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, site_id int NOT NULL, what text NOT NULL);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO public.audit (site_id, what) VALUES (OLD.site_id, 'install ' || OLD.id || ' deleted');
  RETURN OLD;
END $$;
CREATE TRIGGER audit AFTER DELETE ON installs FOR EACH ROW EXECUTE FUNCTION audit();
ALTER TABLE audit ADD FOREIGN KEY (site_id) REFERENCES sites ON DELETE CASCADE;
INSERT INTO plans VALUES (1, 'free', 0), (2, 'pro', 10), (3, 'old', 5);
INSERT INTO sites SELECT n, 'site-' || n, 1 + n % 2 FROM generate_series(1, 8) n;
INSERT INTO installs SELECT 1000 + s * 10 + n, s, CASE n WHEN 1 THEN 'legacy' ELSE 'app-' || n END
  FROM generate_series(1, 8) s, generate_series(1, 3) n;
INSERT INTO pages SELECT 2000 + s * 10 + n, s, 'page ' || n, n * 10
  FROM generate_series(1, 8) s, generate_series(1, 4) n;
INSERT INTO comments SELECT id * 10 + n, id, 'comment' FROM pages, generate_series(1, 2) n;
"""

WORLD = World(
    frozenset({"site_id", "id"}),
    {"sites": "note", "installs": "note", "pages": "note", "comments": "note"},
    "sites",
)


@dataclass(frozen=True)
class Example:
    """A script that does what its intent says."""

    name: str
    tenants: str
    effects: tuple[str, ...]
    sql: str

    @property
    def header(self) -> str:
        lines = [f"-- outlast: tenants {self.tenants}"] if self.tenants else ["-- outlast: undo required"]
        return "\n".join([*lines, *(f"-- outlast: effect {one}" for one in self.effects), ""])


def _one(name: str, tenants: str, *rest: str) -> Example:
    return Example(name, tenants, rest[:-1], rest[-1])


EXAMPLES: tuple[Example, ...] = (
    _one(
        "hide a legacy install",
        "site-1",
        "public.installs soft-delete rows=1",
        "UPDATE installs SET deleted_at = now() WHERE app = 'legacy' AND site_id = 1",
    ),
    _one(
        "hide installs by id",
        "site-1, site-2, site-3",
        "public.installs soft-delete rows=3",
        "UPDATE installs SET deleted_at = now() WHERE id IN (1011, 1021, 1031)",
    ),
    _one(
        "hide with a second column",
        "site-4",
        "public.installs soft-delete(deleted_at, updated_at) rows=3",
        "UPDATE installs SET deleted_at = now(), updated_at = now() WHERE site_id = 4",
    ),
    _one(
        "hide one site", "site-5", "public.sites soft-delete rows=1", "UPDATE sites SET deleted_at = now() WHERE id = 5"
    ),
    _one(
        "hide comments",
        "site-2",
        "public.comments soft-delete rows=2",
        "UPDATE comments SET is_deleted = true WHERE page_id = 2021 AND NOT is_deleted",
    ),
    _one(
        "rename a page",
        "site-3",
        "public.pages update(title) rows=1",
        "UPDATE pages SET title = 'home' WHERE id = 2031 AND site_id = 3",
    ),
    _one(
        "count hits", "site-3", "public.pages update(hits) rows=4", "UPDATE pages SET hits = hits + 1 WHERE site_id = 3"
    ),
    _one(
        "reset hits above",
        "site-6",
        "public.pages update(hits) rows=2",
        "UPDATE pages SET hits = 0 WHERE site_id = 6 AND hits > 20",
    ),
    _one(
        "reset hits below",
        "site-6",
        "public.pages update(hits) rows=2",
        "UPDATE pages SET hits = 1 WHERE site_id = 6 AND hits <= 20",
    ),
    _one(
        "two columns of a page",
        "site-7",
        "public.pages update(title, hits) rows=1",
        "UPDATE pages SET title = 'x', hits = 5 WHERE id = 2071",
    ),
    _one(
        "rename an app everywhere",
        "all",
        "public.installs update(app) rows=8",
        "UPDATE installs SET app = 'classic' WHERE app = 'legacy'",
    ),
    _one(
        "rename an app of two",
        "site-1, site-2",
        "public.installs update(app) rows=2",
        "UPDATE installs SET app = 'classic' WHERE app = 'legacy' AND site_id < 3",
    ),
    _one(
        "upgrade a site",
        "site-2",
        "public.sites update(plan_id) rows=1",
        "UPDATE sites SET plan_id = 2 WHERE id = 2 AND plan_id = 1",
    ),
    _one(
        "upgrade all free sites",
        "site-2, site-4, site-6, site-8",
        "public.sites update(plan_id) rows=4",
        "UPDATE sites SET plan_id = 2 WHERE plan_id = 1",
    ),
    _one("a price", "", "public.plans update(price) rows=1", "UPDATE plans SET price = 12 WHERE id = 2"),
    _one("a plan more", "", "public.plans insert rows=1", "INSERT INTO plans (id, name, price) VALUES (4, 'team', 40)"),
    _one("an old plan goes", "", "public.plans hard-delete rows=1", "DELETE FROM plans WHERE id = 3 AND name = 'old'"),
    _one(
        "a page more",
        "site-1",
        "public.pages insert rows=1",
        "INSERT INTO pages (id, site_id, title) VALUES (9001, 1, 'new')",
    ),
    _one(
        "pages for two",
        "site-1, site-2",
        "public.pages insert rows=2",
        "INSERT INTO pages (id, site_id, title) VALUES (9001, 1, 'new'), (9002, 2, 'new')",
    ),
    _one(
        "an install for every site of a plan",
        "site-1, site-3, site-5, site-7",
        "public.installs insert rows=4",
        "INSERT INTO installs (id, site_id, app) SELECT 9000 + id, id, 'gift' FROM sites WHERE plan_id = 2",
    ),
    _one(
        "an audit line",
        "site-4",
        "public.audit insert rows=1",
        "INSERT INTO audit (site_id, what) VALUES (4, 'looked at')",
    ),
    _one(
        "a comment more",
        "site-1",
        "public.comments insert rows=1",
        "INSERT INTO comments (id, page_id, body) VALUES (90001, 2011, 'hello')",
    ),
    _one("delete a comment", "site-5", "public.comments hard-delete rows=1", "DELETE FROM comments WHERE id = 20511"),
    _one(
        "delete comments of a page",
        "site-5",
        "public.comments hard-delete rows=2",
        "DELETE FROM comments WHERE page_id = 2051",
    ),
    _one(
        "delete a page",
        "site-5",
        "public.pages hard-delete rows=1",
        "public.comments hard-delete rows=2 via=cascade",
        "DELETE FROM pages WHERE id = 2051 AND site_id = 5",
    ),
    _one(
        "delete pages that nobody reads",
        "site-6",
        "public.pages hard-delete rows=1",
        "public.comments hard-delete rows=2 via=cascade",
        "DELETE FROM pages WHERE site_id = 6 AND hits < 20",
    ),
    _one(
        "delete an install",
        "site-7",
        "public.installs hard-delete rows=1",
        "public.audit insert rows=1 via=trigger",
        "DELETE FROM installs WHERE id = 1071",
    ),
    _one(
        "delete legacy installs of two",
        "site-7, site-8",
        "public.installs hard-delete rows=2",
        "public.audit insert rows=2 via=trigger",
        "DELETE FROM installs WHERE app = 'legacy' AND site_id IN (7, 8)",
    ),
    _one(
        "close a site",
        "site-8",
        "public.sites hard-delete rows=1",
        "public.installs hard-delete rows=3 via=cascade",
        "public.pages hard-delete rows=4 via=cascade",
        "public.comments hard-delete rows=8 via=cascade",
        "DELETE FROM comments WHERE page_id IN (SELECT id FROM pages WHERE site_id = 8) AND false;"
        "ALTER TABLE installs DISABLE TRIGGER audit;"
        "DELETE FROM sites WHERE id = 8;"
        "ALTER TABLE installs ENABLE TRIGGER audit",
    ),
    _one(
        "archive and delete",
        "site-2",
        "public.pages insert rows=1",
        "public.pages hard-delete rows=1",
        "public.comments hard-delete rows=2 via=cascade",
        "INSERT INTO pages (id, site_id, title) SELECT 9000, site_id, 'archive' FROM pages WHERE id = 2022;"
        "DELETE FROM pages WHERE id = 2022",
    ),
    _one(
        "hide installs of a plan",
        "site-1, site-3, site-5, site-7",
        "public.installs soft-delete rows=4",
        "UPDATE installs SET deleted_at = now() FROM sites WHERE sites.id = installs.site_id AND plan_id = 2"
        " AND app = 'legacy'",
    ),
    _one(
        "hide by subquery",
        "site-2, site-4",
        "public.installs soft-delete rows=2",
        "UPDATE installs SET deleted_at = now() WHERE app = 'legacy' AND site_id IN"
        " (SELECT id FROM sites WHERE plan_id = 1 AND id < 5)",
    ),
    _one(
        "move comments to another page",
        "site-1",
        "public.comments update(page_id) rows=2",
        "UPDATE comments SET page_id = 2012 WHERE page_id = 2011",
    ),
    _one(
        "notes for all pages of a site",
        "site-1",
        "public.pages update(note) rows=4",
        "UPDATE pages SET note = 'checked' WHERE site_id = 1",
    ),
    _one(
        "two statements",
        "site-1, site-2",
        "public.pages update(hits) rows=4",
        "public.installs soft-delete rows=1",
        "UPDATE pages SET hits = 0 WHERE site_id = 1; UPDATE installs SET deleted_at = now() WHERE id = 1021",
    ),
    _one(
        "undelete",
        "site-3",
        "public.installs update(note) rows=1",
        "UPDATE installs SET note = 'kept' WHERE id = 1032 AND deleted_at IS NULL",
    ),
    _one(
        "by name", "site-6", "public.sites update(note) rows=1", "UPDATE sites SET note = 'vip' WHERE name = 'site-6'"
    ),
    _one(
        "a range of ids",
        "site-4",
        "public.pages update(hits) rows=3",
        "UPDATE pages SET hits = 99 WHERE id BETWEEN 2041 AND 2043",
    ),
    _one(
        "an array of ids",
        "site-1, site-8",
        "public.installs soft-delete rows=2",
        "UPDATE installs SET deleted_at = now() WHERE id = ANY ('{1011, 1081}'::int[])",
    ),
    _one(
        "what is hidden already stays",
        "site-2",
        "public.comments soft-delete rows=8",
        "UPDATE comments SET is_deleted = true FROM pages WHERE pages.id = comments.page_id AND pages.site_id = 2"
        " AND NOT is_deleted",
    ),
    _one(
        "in a DO block",
        "site-3",
        "public.pages update(hits) rows=4",
        "DO $$ BEGIN UPDATE public.pages SET hits = 7 WHERE site_id = 3; END $$",
    ),
)
