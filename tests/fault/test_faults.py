"""The faults themselves: they strike where they say, and nowhere else."""

from __future__ import annotations

import subprocess
import sys

import boto3
import psycopg
import pytest
from botocore.config import Config

from tests.buckets import Bucket
from tests.fault.faults import DatabaseProxy, Fault, FaultyStore, InjectedError, StoreProxy, When, counted, ended, kill
from tests.servers import Server


class _Memory:
    url = "memory"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def create(self, path: str, data: bytes) -> None:
        self.objects[path] = data

    def get(self, path: str) -> bytes:
        return self.objects[path]


def test_counting_walks_every_operation_and_ends() -> None:
    """Each N is tried passing and lasting, before and after, until a run needs fewer operations than N."""
    kept = []
    for fault in counted():
        memory = _Memory()
        store = FaultyStore(memory, fault)
        for number in range(3):
            try:
                store.create(str(number), b"")
            except InjectedError:
                continue
        kept.append((fault.at, fault.lasting, fault.when, sorted(memory.objects)))
    assert len(kept) == 16
    assert (2, False, When.BEFORE, ["0", "2"]) in kept
    assert (2, False, When.AFTER, ["0", "1", "2"]) in kept
    assert (2, True, When.BEFORE, ["0"]) in kept
    assert (4, True, When.BEFORE, ["0", "1", "2"]) in kept


@pytest.mark.parametrize("when", list(When))
@pytest.mark.parametrize("status", [503, 0])
def test_a_request_to_the_store_fails(moto_s3: Bucket, when: When, status: int) -> None:
    """The Nth request is answered with an error or not at all; after it, or before it, the object is there."""
    with StoreProxy(moto_s3.endpoint, Fault(2, when=when), status) as proxy:
        client = boto3.client(
            "s3",
            endpoint_url=proxy.endpoint,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            config=Config(retries={"total_max_attempts": 1}),
        )
        client.put_object(Bucket=moto_s3.name, Key="first", Body=b"1")
        with pytest.raises(Exception, match=r"SlowDown|injected|closed|Connection"):
            client.put_object(Bucket=moto_s3.name, Key="second", Body=b"2")
        client.put_object(Bucket=moto_s3.name, Key="third", Body=b"3")
        found = {one["Key"] for one in client.list_objects_v2(Bucket=moto_s3.name)["Contents"]}
        client.close()
    assert found == {"first", "third"} | ({"second"} if when is When.AFTER else set())
    assert [request.method for request in proxy.requests] == ["PUT", "PUT", "PUT", "GET"]
    assert len(proxy.writes) == 3


@pytest.mark.parametrize("when", list(When))
@pytest.mark.parametrize("lasting", [False, True])
def test_a_statement_is_cut_off(server: Server, database: str, when: When, lasting: bool) -> None:
    """The connection breaks at the Nth statement: a COMMIT cut off before did not happen, one cut off after did."""
    name = database.partition("@/")[2].partition("?")[0]
    with psycopg.connect(database, autocommit=True) as direct:
        direct.execute("CREATE TABLE things (id integer)")
    # 1 start, 2 password, 3 BEGIN, 4 INSERT, 5 COMMIT
    with DatabaseProxy(server.port, Fault(0)) as proxy:
        _insert(proxy.url_of(server.tcp_url(name)))
        commit = proxy.fault.seen
    with DatabaseProxy(server.port, Fault(commit, lasting, when)) as proxy:
        with pytest.raises(psycopg.OperationalError):
            _insert(proxy.url_of(server.tcp_url(name)))
        if lasting:
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(proxy.url_of(server.tcp_url(name)))
        else:
            psycopg.connect(proxy.url_of(server.tcp_url(name))).close()
    expected = 2 if when is When.AFTER else 1
    _until_settled(database)
    with psycopg.connect(database) as direct:
        assert direct.execute("SELECT count(*) FROM things").fetchone() == (expected,)


def _insert(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO things VALUES (1)")


def _until_settled(url: str) -> None:
    """Wait until no other session of this database is at work: a cut one ends when the server notices."""
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        ).fetchone():
            pass


def test_a_killed_command_takes_its_children_along() -> None:
    """kill -9 reaches the whole session that a command was started in."""
    script = "import subprocess, sys; subprocess.Popen(['sleep', '60']); print('up', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    kill(process)
    # The child holds stdout open as well: communicate returns only when it is gone too.
    assert ended(process, 20)[0] == -9
