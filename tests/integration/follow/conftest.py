"""A followed database: setup, slot and publications made as `follow --setup` makes them, and a follower in a thread.

followed       a factory: followed(url, ddl, tables=…, …) -> Followed
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from outlast.capture.backup import Place
from outlast.capture.follow import Follower
from outlast.capture.follow_options import FollowOptions, FollowResult
from outlast.capture.guarding import Guard
from outlast.core.errors import OutlastError
from outlast.core.moment import Lsn
from outlast.sources.postgres.catalog import OwnershipSettings, read_catalog
from outlast.sources.postgres.following import FollowingSettings
from outlast.sources.postgres.following_facts import Names
from outlast.sources.postgres.session import Target, connect
from outlast.sources.postgres.setup import set_up
from outlast.sources.postgres.slot import drop_slot
from outlast.sources.postgres.source import PostgresSource
from outlast.state.local import LocalState
from outlast.vault.header import create_vault
from outlast.vault.keys import Identity, WriterKeys, generate_identity
from outlast.vault.reader import Vault
from outlast.vault.store import Store, open_store

TIMEOUT_S = 60.0


def wait_until(condition: Callable[[], object], what: str = "it", timeout_s: float = TIMEOUT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {timeout_s:.0f} s"
        time.sleep(0.01)


@dataclass
class Followed:
    """A database, its vault, and the host that follows it."""

    url: str
    folder: Path
    store: Store
    keys: WriterKeys
    operator: Identity
    pin: Any
    settings: OwnershipSettings
    names: Names
    flush_interval_s: float = 0.1
    memory_bytes: int = 16 * 1024 * 1024
    vault_id: str = ""
    states: list[LocalState] = field(default_factory=list)

    def execute(self, *statements: str) -> None:
        """Each statement in a transaction of its own; several in one string share one."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(statement.encode()).fetchall()

    def copy(self, query: str) -> list[bytes]:
        statement = f"COPY ({query}) TO STDOUT".encode()
        with connect(Target(self.url), role="test") as connection, connection.cursor().copy(statement) as copy:
            return b"".join(bytes(part) for part in copy).splitlines()

    @property
    def following(self) -> FollowingSettings:
        return FollowingSettings("main", self.names, self.vault_id)

    def set_up(self) -> None:
        with connect(Target(self.url), role="setup", autocommit=True, read_only=False) as session:
            with session.transaction():
                catalog = read_catalog(session, self.settings)
            set_up(session, catalog, self.following)

    def place(self, state: LocalState | None = None, store: Store | None = None) -> Place:
        if state is None:
            state = LocalState(self.folder / "state")
            self.states.append(state)
        return Place("main", PostgresSource(Target(self.url), self.settings), store or self.store, self.keys, state)

    def options(self, **given: Any) -> FollowOptions:
        values = {"flush_interval_s": self.flush_interval_s, "memory_bytes": self.memory_bytes, "jobs": 1}
        return FollowOptions(self.following, Target(self.url), **{**values, **given})

    def follower(self, *, store: Store | None = None, guard: Guard | None = None, **given: Any) -> Follower:
        return Follower(
            self.place(store=store),
            self.options(**given),
            guard=guard,
            open_place=lambda: self.place(LocalState(self.folder / "state"), store),
        )

    def drain(self, **given: Any) -> FollowResult:
        """Follow until everything that is committed now is in the vault."""
        return self.follower(until_current=True, **given).run()

    def position(self) -> Lsn:
        return Lsn.parse(str(self.query("SELECT pg_current_wal_insert_lsn()")[0][0]))

    def vault(self) -> Vault:
        return Vault.open(self.store, self.pin, self.operator)

    def running(self, **given: Any) -> Running:
        return Running(self, self.follower(**given))


@dataclass
class Running:
    """A follower in a thread, for as long as the block lasts."""

    followed: Followed
    follower: Follower
    result: FollowResult | None = None
    error: BaseException | None = None
    _thread: threading.Thread | None = None

    def __enter__(self) -> Running:
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._thread.start()
        wait_until(lambda: self.error or self.follower.watch.figures.connected, "the follower's start")
        if self.error is not None:
            raise self.error
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.stop()
        if error is None and self.error is not None:
            raise self.error

    def stop(self) -> None:
        self.follower.stop.set()
        assert self._thread is not None
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive(), "the follower does not stop"

    def caught_up(self) -> None:
        """Wait until all that is committed now is in the vault, and nothing is in doubt."""
        self.flushed()
        wait_until(lambda: self.error or not self.follower.watch.figures.tables_in_doubt, "the end of all doubt")
        if self.error is not None:
            raise self.error

    def flushed(self) -> None:
        """Wait until all that is committed now is in the vault."""
        # The server may commit without waiting for its disk: the mark must be there, or the target is an older one.
        self.followed.execute("SET synchronous_commit = on; SELECT pg_logical_emit_message(true, 'test', 'mark')")
        target = Lsn.parse(str(self.followed.query("SELECT pg_current_wal_flush_lsn()")[0][0]))
        wait_until(lambda: self.error or self.follower.watch.figures.flushed >= target, f"reaching {target}")
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            self.result = self.follower.run()
        except BaseException as error:  # noqa: BLE001 - raised again where the block ends
            self.error = error


Factory = Callable[..., Followed]


@pytest.fixture
def followed(tmp_path: Path) -> Iterator[Factory]:
    made: list[Followed] = []

    def make(
        url: str,
        *ddl: str,
        tenant_table: str = "account",
        label: str | None = "name",
        tables: Mapping[str, str] | None = None,
        setup: bool = True,
    ) -> Followed:
        folder = tmp_path / f"host{len(made)}"
        folder.mkdir()
        store = open_store(str(folder / "vault"), make=True)
        text, recipient = generate_identity("operator")
        keys = WriterKeys.generate([recipient])
        one = Followed(
            url,
            folder,
            store,
            keys,
            Identity.from_text(text, "test"),
            create_vault(store, keys),
            OwnershipSettings(tenant_table, label, tables),
            Names.of("main", f"outlast_{tmp_path.name.replace('-', '_').lower()[-40:]}_{len(made)}"),
        )
        made.append(one)
        for statement in ddl:
            one.execute(statement)
        if setup:
            one.set_up()
        return one

    yield make
    for one in made:
        for state in one.states:
            with suppress(Exception):
                state.close()
        with suppress(OutlastError):
            drop_slot(Target(one.url), one.names.slot)
