from __future__ import annotations
from tests.integration.follow.conftest import Factory
from outlast.vault.log import LogReader
from outlast.core.entries import read_entries

SCHEMA = """
CREATE TABLE account (id bigint PRIMARY KEY, name text UNIQUE NOT NULL);
CREATE TABLE project (id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES account, title text);
CREATE TABLE task (id bigint PRIMARY KEY, project_id bigint REFERENCES project, body text);
INSERT INTO account SELECT n, 'tenant-' || n FROM generate_series(1, 3) n;
INSERT INTO project SELECT n, 1 + n % 3, 'project ' || n FROM generate_series(1, 6) n;
INSERT INTO task SELECT n, 1 + n % 6, 'task ' || n FROM generate_series(1, 20) n;
"""

def test_smoke(database: str, followed: Factory) -> None:
    one = followed(database, SCHEMA)
    result = one.drain()
    print(result)
    one.execute("INSERT INTO task VALUES (100, 2, 'new')", "DELETE FROM task WHERE id = 5", "UPDATE project SET account_id = 1 WHERE id = 1")
    result = one.drain()
    print(result)
    reader = LogReader(one.store, one.keys.signers)
    vault = one.vault()
    for header in reader.headers("main"):
        print(header.segment, header.start, header.position, list(header.frames))
        print(reader.details(header, one.operator))
