"""What a backup and a restore cost in requests: they follow what changed, never how many tenants there are."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from tests.buckets import Bucket
from tests.commands import Outlast
from tests.fault.faults import StoreProxy
from tests.projects import Project

_SCHEMA = """
CREATE TABLE customer (id bigint PRIMARY KEY, slug text NOT NULL UNIQUE);
CREATE TABLE project (id bigint PRIMARY KEY, customer_id bigint NOT NULL REFERENCES customer, name text);
CREATE TABLE task (id bigint PRIMARY KEY, project_id bigint NOT NULL REFERENCES project, title text);
"""


def _fill(url: str, tenants: int) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(_SCHEMA)
        for statement in (
            "INSERT INTO customer SELECT n, 'customer-' || n FROM generate_series(1, %s) AS n",
            "INSERT INTO project SELECT n, n, 'project ' || n FROM generate_series(1, %s) AS n",
            "INSERT INTO task SELECT n * 3 + k, n, md5(n::text) FROM generate_series(1, %s) n, generate_series(0, 2) k",
        ):
            connection.execute(statement, [tenants])
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


def _change(url: str, tenants: Sequence[int]) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE task SET title = 'changed' WHERE project_id = ANY(%s)", [list(tenants)])


def test_ten_of_five_thousand(database: str, outlast: Outlast) -> None:
    """When 10 of 5,000 tenants changed, a backup adds at most 10 packs and the run record; an idle one the record."""
    _fill(database, 5000)
    project = Project(outlast, database)
    project.init("public.customer", "slug")
    project.backup()
    first = set(project.objects())
    _change(database, range(100, 110))
    project.backup()
    second = set(project.objects()) - first
    assert len([path for path in second if "/packs/" in path]) <= 10
    assert len([path for path in second if "/runs/" in path]) == 1
    assert len(second) <= 11
    project.backup()
    third = set(project.objects()) - first - second
    assert [path.split("/")[-2] for path in third] == ["runs"]


def test_requests_follow_change(database: str, outlast: Outlast, moto_s3: Bucket) -> None:
    """On S3: reading is bounded by a constant, writing by the tenants that changed; a restore reads one tenant only."""
    _fill(database, 120)
    with StoreProxy(moto_s3.endpoint) as proxy:
        outlast.environment |= dict(moto_s3.environment)
        vault = f"s3://{moto_s3.name}/vault?endpoint={proxy.endpoint}&region=us-east-1&allow_http=1"
        project = Project(outlast, database, vault)
        project.init("public.customer", "slug")
        project.backup()
        _change(database, [7, 8, 9])
        before = len(proxy.requests)
        project.backup()
        backup = proxy.requests[before:]
        with psycopg.connect(database) as connection:
            connection.execute("DELETE FROM task WHERE project_id = 8")
        before = len(proxy.requests)
        project.restore("8")
        restore = proxy.requests[before:]
    assert len([request for request in backup if request.is_write]) <= 4, backup
    assert len([request for request in backup if not request.is_write]) <= 8, backup
    assert ["/undo/" in request.path for request in restore if request.is_write] == [True]  # what `undo` puts back
    assert len(restore) <= 16, restore
