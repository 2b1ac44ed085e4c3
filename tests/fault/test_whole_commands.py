"""Whole commands under faults: whatever statement or request fails, however they are killed, nothing is lost or halved.

Each test measures how many operations an undisturbed run takes and then strikes at points spread over all of them; the
slow variants strike at every single one.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, product

import psycopg
import pytest

from tests.buckets import Bucket
from tests.commands import Outlast, Result
from tests.fault.faults import DatabaseProxy, Fault, StoreProxy, When, ended, kill
from tests.projects import Project
from tests.servers import Server
from tests.worlds import Fingerprints, World, WorldTenant

HOW = list(product((False, True), When))

SHAPES = ("chain", "tree", "cycle", "duplicates", "generated", "reference_data")


@dataclass
class Scene:
    """A world with one backup behind it, its project, and the way to the server on which faults can lie."""

    world: World
    url: str
    direct: str  # the same database over TCP, without a proxy
    project: Project
    server: Server

    def through(self, proxy: DatabaseProxy | None) -> None:
        """From now on the commands reach the database through the proxy, or directly."""
        url = self.direct if proxy is None else proxy.url_of(self.direct)
        lines = self.project.config.read_text().splitlines()
        at = next(number for number, line in enumerate(lines) if line.startswith('url = "postgresql://'))
        self.project.config.write_text("\n".join([*lines[:at], f'url = "{url}"', *lines[at + 1 :]]) + "\n")

    def change(self, number: int) -> None:
        with psycopg.connect(self.url) as connection:
            for tenant in self.world.tenants[:3]:
                for statement in self.world.work_on(tenant, number):
                    connection.execute(statement.encode())

    def run(self, *arguments: str) -> Result:
        result = self.project.outlast(*arguments)
        assert "bug in Outlast" not in result.stderr, str(result)
        assert "Traceback" not in result.stderr, str(result)
        return result

    def settled(self) -> Fingerprints:
        """The fingerprints once no command's session is left: a session that was cut off ends a moment later."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            while connection.execute(
                "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name ~ '^outlast'"
            ).fetchone():
                pass
        return self.world.fingerprints(self.url)


@pytest.fixture
def scene(server: Server, database: str, outlast: Outlast) -> Scene:
    return _scene(server, database, outlast, "vault")


def _scene(server: Server, database: str, outlast: Outlast, vault: str) -> Scene:
    world = World.random(5, only=SHAPES, names="plain", tenants=5, rows_max=12)
    world.create(database)
    name = str(psycopg.conninfo.conninfo_to_dict(database)["dbname"])
    direct = server.tcp_url(name, password=None)
    outlast.environment["PGPASSWORD"] = str(psycopg.conninfo.conninfo_to_dict(server.tcp_url())["password"])
    project = Project(outlast, direct, vault)
    project.init(world.tenant_table_name, world.label_column)
    project.backup()
    return Scene(world, database, direct, project, server)


def spread(total: int, points: int) -> Iterator[Fault]:
    """Faults at `points` places from the first operation to the last, each kind in turn; 0: at all, of all kinds."""
    if not points:
        yield from (Fault(at, lasting, when) for at in range(1, total + 1) for lasting, when in HOW)
        return
    places = sorted({1 + round(number * (total - 1) / (points - 1)) for number in range(points)})
    for at, (lasting, when) in zip(places, cycle(HOW)):
        yield Fault(at, lasting, when)


def _tenants_whole(scene: Scene, before: Fingerprints, destroyed: Fingerprints, gone: list[str]) -> None:
    """Each destroyed tenant is there as a whole or not at all, and nobody else was touched."""
    now = scene.settled()
    for tenant in before.keys() | now.keys():
        allowed = (before.get(tenant), destroyed.get(tenant)) if tenant in gone else (destroyed.get(tenant),)
        assert now.get(tenant) in allowed, f"{tenant} is half restored"


POINTS = [pytest.param(3, id="some"), pytest.param(0, id="every", marks=pytest.mark.slow)]


@pytest.mark.parametrize("points", POINTS)
def test_a_backup_loses_its_database(scene: Scene, points: int) -> None:
    """A backup that is cut off from the database leaves the vault whole, and the next one finishes the work."""
    with DatabaseProxy(scene.server.port) as proxy:
        scene.through(proxy)
        scene.change(1)
        scene.project.backup()
        total = proxy.fault.seen
        for number, fault in enumerate(spread(total, points), start=2):
            scene.change(number)
            proxy.fault = fault
            scene.run("backup")
            proxy.fault = Fault()
            assert scene.run("verify").exit_code == 0
    _backup_and_restore(scene)


@pytest.mark.parametrize("points", POINTS)
@pytest.mark.parametrize("status", [503, 0], ids=["refused", "cut"])
def test_a_backup_loses_its_store(
    server: Server, database: str, outlast: Outlast, moto_s3: Bucket, points: int, status: int
) -> None:
    """A backup whose store fails leaves the vault whole, and the next one finishes the work."""
    outlast.environment |= dict(moto_s3.environment)
    with StoreProxy(moto_s3.endpoint, status=status) as proxy:
        vault = f"s3://{moto_s3.name}/vault?endpoint={proxy.endpoint}&region=us-east-1&allow_http=1"
        scene = _scene(server, database, outlast, vault)
        scene.change(1)
        proxy.fault = Fault()
        scene.project.backup()
        total = proxy.fault.seen
        for number, fault in enumerate(spread(total, points), start=2):
            scene.change(number)
            proxy.fault = fault
            scene.run("backup")
            proxy.fault = Fault()
            assert scene.run("verify").exit_code == 0
        _backup_and_restore(scene)


@pytest.mark.parametrize("points", POINTS)
def test_a_restore_loses_its_database(scene: Scene, points: int) -> None:
    """A restore that is cut off has put back each tenant as a whole or not at all; rerunning it finishes the work."""
    before = scene.world.fingerprints(scene.url)
    gone = scene.world.tenants[:3]
    keys = [tenant.key for tenant in gone]
    with DatabaseProxy(scene.server.port) as proxy:
        scene.world.destroy(scene.url, gone)
        scene.through(proxy)
        destroyed = scene.world.fingerprints(scene.url)
        scene.project.restore(*keys)
        total = proxy.fault.seen
        for fault in spread(total, points):
            scene.world.destroy(scene.url, gone)
            proxy.fault = fault
            scene.run("restore", "--execute", "--", *keys)
            proxy.fault = Fault()
            _tenants_whole(scene, before, destroyed, keys)
            scene.project.restore(*keys)
            assert scene.world.fingerprints(scene.url) == before


@pytest.mark.parametrize("command", ["backup", "restore"])
@pytest.mark.parametrize("points", POINTS)
def test_a_killed_command_leaves_nothing_half(scene: Scene, command: str, points: int) -> None:
    """kill -9 at any statement of a backup or a restore: the vault is valid, no tenant is half restored."""
    gone = scene.world.tenants[:3]
    keys = [tenant.key for tenant in gone]
    arguments = ["backup"] if command == "backup" else ["restore", "--execute", "--", *keys]
    with DatabaseProxy(scene.server.port) as proxy:
        scene.through(proxy)
        before = scene.world.fingerprints(scene.url)
        scene.world.destroy(scene.url, gone)
        destroyed = scene.world.fingerprints(scene.url)
        proxy.fault = Fault()
        scene.project.restore(*keys)
        total = proxy.fault.seen
        if command == "backup":
            scene.change(0)
            proxy.fault = Fault()
            scene.project.backup()
            total = proxy.fault.seen
        struck = 0
        for number, fault in enumerate(spread(total, points), start=1):
            before = _prepared(scene, command, number, gone) or before
            process = scene.project.outlast.start(*arguments)
            fault.strike = lambda process=process: kill(process)
            proxy.fault = fault
            code, _, stderr = ended(process)
            assert code in (-9, 0), stderr
            struck += code == -9
            proxy.fault = Fault()
            assert scene.run("verify").exit_code == 0
            if command == "restore":
                _tenants_whole(scene, before, destroyed, keys)
                scene.project.restore(*keys)
            assert scene.settled() == before
        assert struck, "no kill came before the end"
    _backup_and_restore(scene)


@pytest.mark.parametrize("command", ["backup", "restore"])
@pytest.mark.parametrize("times", [2, pytest.param(40, marks=pytest.mark.slow)])
def test_killed_at_any_time(scene: Scene, command: str, times: int) -> None:
    """kill -9 some time after its start, whatever it is doing then: the same."""
    chance = random.Random(times)
    gone = scene.world.tenants[:3]
    keys = [tenant.key for tenant in gone]
    arguments = ["backup"] if command == "backup" else ["restore", "--execute", "--", *keys]
    before = scene.world.fingerprints(scene.url)
    scene.world.destroy(scene.url, gone)
    destroyed = scene.world.fingerprints(scene.url)
    started = time.monotonic()
    scene.project.restore(*keys)
    if command == "backup":
        scene.change(0)
        started = time.monotonic()
        scene.project.backup()
    takes_s = time.monotonic() - started
    for number in range(1, times + 1):
        before = _prepared(scene, command, number, gone) or before
        process = scene.project.outlast.start(*arguments)
        time.sleep(chance.uniform(0, takes_s))  # the moment is what is tried
        kill(process)
        code, _, stderr = ended(process)
        assert code in (-9, 0), stderr
        assert scene.run("verify").exit_code == 0
        if command == "restore":
            _tenants_whole(scene, before, destroyed, keys)
            scene.project.restore(*keys)
        assert scene.settled() == before
    _backup_and_restore(scene)


def _prepared(scene: Scene, command: str, number: int, gone: Sequence[WorldTenant]) -> Fingerprints | None:
    """Give the command something to do: rows that changed, or tenants that are gone. What is to be there afterwards,
    where that is something else than before."""
    if command == "restore":
        scene.world.destroy(scene.url, gone)
        return None
    scene.change(number)
    return scene.world.fingerprints(scene.url)


def _backup_and_restore(scene: Scene) -> None:
    """What everything is for still works."""
    before = scene.settled()
    scene.through(None)
    scene.project.backup()
    gone = random.Random(1).sample(scene.world.tenants, 2)
    scene.world.destroy(scene.url, gone)
    scene.project.restore(*[tenant.key for tenant in gone])
    assert scene.world.fingerprints(scene.url) == before
