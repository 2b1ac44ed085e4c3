"""Fixtures that all tests share. What is here, and how the rest is imported:

`tests` is a package (every folder has an __init__.py), and this file puts the project's root on sys.path: any test can
say `from tests.worlds import World`. Support modules are nouns under tests/: servers, commands, buckets, worlds,
types_catalogue, fault/faults.

    server          PostgreSQL 18 (embedded), one a session and xdist worker, fsync off. server.url(db, user) goes
                    through the socket, trusted; server.tcp_url(db, user, password) is asked for a password.
    durable_server  the same with fsync on and by itself, for tests that kill or stop it.
    database        a fresh database's URL on `server`, dropped afterwards.
    debian_server   PostgreSQL 15 of Debian (xml, ICU default collation en); only under @pytest.mark.system.
    debian_database a fresh database's URL on it.
    (worlds)        tests/worlds.py makes whole multi-tenant databases from a seed; see its docstring for the use.
    moto_s3         tests.buckets.Bucket on a real S3 protocol server; the AWS_* variables are set for the test too.
    outlast         tests.commands.Outlast: run the installed command in a project folder of its own. A command that is
                    waited for is forked from a process that has the imports done (tests/warm.py); one that is started
                    and left running, or killed, is started as users start it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.commands import Outlast  # noqa: E402 - needs the path above
from tests.servers import DEBIAN_BINARIES, DURABLE, Server, embedded_binaries, running  # noqa: E402

if TYPE_CHECKING:
    from tests.buckets import Bucket


# How long something takes says nothing on a machine that others use as well.
settings.register_profile("outlast", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("outlast")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with running(embedded_binaries()) as server:
        yield server


@pytest.fixture
def durable_server() -> Iterator[Server]:
    with running(embedded_binaries(), settings=DURABLE) as server:
        yield server


@pytest.fixture
def database(server: Server) -> Iterator[str]:
    with server.new_database() as url:
        yield url


@pytest.fixture(scope="session")
def debian_server() -> Iterator[Server]:
    # ICU's English as the default collation: what forgets COLLATE "C" is found out here.
    with running(
        DEBIAN_BINARIES, account="postgres", initdb=("--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en")
    ) as server:
        yield server


@pytest.fixture
def debian_database(debian_server: Server) -> Iterator[str]:
    with debian_server.new_database() as url:
        yield url


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    from tests.buckets import s3_server

    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def moto_s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    from tests.buckets import new_bucket

    bucket = new_bucket(s3_endpoint)
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    return bucket


@pytest.fixture
def outlast(tmp_path: Path) -> Outlast:
    folder = tmp_path / "project"
    folder.mkdir()
    return Outlast(folder)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What came of the mutants that were rehearsed, on whatever worker."""
    from outlast.rehearsal.verdict import Outcome
    from tests.mutation import Held, summary

    told = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == "mutant" and report.when == "call"
    ]
    if told:
        held = [Held(one["script"], one["what"], one["differs"], Outcome(one["outcome"])) for one in told]
        terminalreporter.write_sep("-", "mutants of scripts")
        terminalreporter.write_line(summary(held))
        for one in held:
            if not one.differs:
                terminalreporter.write_line(f"the same effect: {one.script}: {one.what}")
