"""Copies that are kept: the data folder of a copy that was built, sealed under this host's key, to be unpacked again.

A copy in the clear lies on the disk only while a rehearsal runs (workspace.py); what is kept between rehearsals is
ciphertext, as all of this host's state is. Each rehearsal unpacks it anew, so nothing of one is seen by the next.
A kept copy goes when a newer one of the same kind is kept, when a tenant in it was erased, and after a week.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Self

from cryptography.exceptions import InvalidTag

from outlast import __version__
from outlast.core.tenant import Tenant, TenantKey
from outlast.rehearsal.copy import CopyFacts
from outlast.rehearsal.observed import Doubt, Inconclusive
from outlast.state.local import HostKey

FORMAT = 1
AGE_MAX_S = 7 * 86400

_SUFFIX = ".copy"
_FRAME_BYTES = 4 * 1024 * 1024
_LENGTH_BYTES = 4
_AHEAD = 3


@dataclass(frozen=True, slots=True)
class Kind:
    """What a kept copy must agree in to be of use: everything but its moment."""

    source: str
    binaries: str
    settings: str  # how the tables are classified, in any one text
    only: tuple[str, ...]

    @property
    def text(self) -> str:
        return json.dumps([FORMAT, __version__, self.source, self.binaries, self.settings, list(self.only)])


class Cache:
    """The copies that one host keeps, in a folder of its state."""

    def __init__(self, folder: Path, host_key: HostKey) -> None:
        self._folder = folder
        self._key = host_key

    def facts(self, kind: Kind) -> CopyFacts | None:
        """What is known of the copy that is kept of a kind. None where there is none, or none that can be read."""
        path = self._path(kind)
        try:
            with path.open("rb") as file:
                if time.time() - os.fstat(file.fileno()).st_mtime <= AGE_MAX_S:
                    return _facts(json.loads(next(self._frames(file, kind))))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, InvalidTag, StopIteration):
            pass  # cut short, of another release, or too old: a copy can always be built anew
        path.unlink(missing_ok=True)
        return None

    def keep(self, kind: Kind, facts: CopyFacts, folder: Path) -> None:
        """Seal a stopped copy's data folder. The one that was kept before is replaced when this one is whole."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(kind)
        new = path.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file, _Sealing(file, self._key, self._context(kind)) as sealing:
                sealing.frame(json.dumps(_content(facts)).encode())
                names = _listed(folder)
                sealing.frame(json.dumps(names).encode())
                for name, _, size in names:
                    if size:
                        sealing.file(folder / name, size)
            new.replace(path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise

    def unpack(self, kind: Kind, folder: Path) -> bool:
        """Put the kept copy's files into a folder. False where they are not what was sealed: build it anew then."""
        try:
            with self._path(kind).open("rb") as file:
                frames = self._frames(file, kind)
                next(frames)
                listed = json.loads(next(frames))
                stream = _Reading(_ahead(frames))
                for name, mode, size in listed:
                    _restore(stream, folder / name, mode, size)
        except (OSError, InvalidTag, StopIteration, ValueError):
            self.forget(kind)
            shutil.rmtree(folder / "data", ignore_errors=True)
            return False
        return True

    def forget(self, kind: Kind) -> None:
        self._path(kind).unlink(missing_ok=True)

    def _path(self, kind: Kind) -> Path:
        return self._folder / f"{self._key.name(kind.text).hex()}{_SUFFIX}"

    def _context(self, kind: Kind) -> bytes:
        return b"copy " + self._key.name(kind.text)

    def _frames(self, file: BinaryIO, kind: Kind) -> Iterator[bytes]:
        context = self._context(kind)
        number = 0
        while head := file.read(_LENGTH_BYTES):
            sealed = file.read(int.from_bytes(head, "big"))
            yield self._key.open(sealed, context + number.to_bytes(8, "big"))
            number += 1


def forget_all(folder: Path) -> int:
    """Remove every copy that is kept here (a tenant is being erased). Returns how many there were."""
    found = [*folder.glob(f"*{_SUFFIX}"), *folder.glob("*.new")]
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


_Listed = list[tuple[str, int, int | None]]
"""(name, permissions, size in bytes; None for a folder), folders before what is in them."""


def _listed(folder: Path) -> _Listed:
    found: _Listed = []
    for place, _, names in os.walk(folder / "data"):
        found.append((str(Path(place).relative_to(folder)), stat.S_IMODE(Path(place).stat().st_mode), None))
        for name in names:
            path = Path(place) / name
            if name not in ("postmaster.pid", "postmaster.opts"):
                kept = path.stat()
                found.append((str(path.relative_to(folder)), stat.S_IMODE(kept.st_mode), kept.st_size))
    return found


def _restore(stream: _Reading, path: Path, mode: int, size: int | None) -> None:
    if size is None:
        path.mkdir(mode=mode)
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        while size:
            part = stream.take(size)
            size -= len(part)
            while part:
                part = part[os.write(descriptor, part) :]
    finally:
        os.close(descriptor)


class _Sealing:
    """Writes sealed frames; sealing and writing go on in a thread beside whoever reads what is sealed."""

    def __init__(self, file: BinaryIO, key: HostKey, context: bytes) -> None:
        self._file, self._key, self._context = file, key, context
        self._number = 0
        self._held = bytearray()
        self._pool = ThreadPoolExecutor(1, "seal")
        self._waiting: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._flush()
            for one in self._waiting:
                one.result()
        finally:
            self._pool.shutdown()

    def file(self, path: Path, size: int) -> None:
        """So many bytes of a file; small files share a frame."""
        with path.open("rb", buffering=0) as file:
            while size:
                part = file.read(min(size, _FRAME_BYTES))
                if not part:
                    raise OSError(f"{path} is shorter than it was")
                size -= len(part)
                if len(part) == _FRAME_BYTES:
                    self._flush()
                    self.frame(part)
                    continue
                self._held += part
                if len(self._held) >= _FRAME_BYTES:
                    self._flush()

    def _flush(self) -> None:
        if self._held:
            self.frame(bytes(self._held))
            self._held.clear()

    def frame(self, data: bytes) -> None:
        while len(self._waiting) >= _AHEAD:
            self._waiting.pop(0).result()
        self._waiting.append(self._pool.submit(self._put, data, self._number))
        self._number += 1

    def _put(self, data: bytes, number: int) -> None:
        sealed = self._key.seal(data, self._context + number.to_bytes(8, "big"))
        self._file.write(len(sealed).to_bytes(_LENGTH_BYTES, "big"))
        self._file.write(sealed)


class _Reading:
    """The bytes of frames, one after the other."""

    def __init__(self, frames: Iterator[bytes]) -> None:
        self._frames = frames
        self._held = memoryview(b"")

    def take(self, most: int) -> memoryview:
        """At least one byte, and at most so many. Raises StopIteration at the end."""
        if not self._held:
            self._held = memoryview(next(self._frames))
        part, self._held = self._held[:most], self._held[most:]
        return part


def _ahead(frames: Iterator[bytes]) -> Iterator[bytes]:
    """The same frames, opened a few ahead in a thread."""
    with ThreadPoolExecutor(1, "open") as pool:
        waiting: list[Future[bytes | None]] = []
        take: Callable[[], bytes | None] = lambda: next(frames, None)  # noqa: E731
        while True:
            while len(waiting) < _AHEAD:
                waiting.append(pool.submit(take))
            found = waiting.pop(0).result()
            if found is None:
                return
            yield found


@contextmanager
def best_effort() -> Iterator[None]:
    """What is kept only saves time: a full disk must not fail a rehearsal."""
    with suppress(OSError):
        yield


def _content(facts: CopyFacts) -> dict[str, Any]:
    return {
        "moment": facts.moment,
        "as_of": facts.as_of.isoformat(),
        "run": facts.run,
        "database": facts.database,
        "tenants": [[one.key, one.label] for one in facts.tenants.values()],
        "rows": [[tenant, table, rows] for (tenant, table), rows in facts.rows.items()],
        "points": [[one.doubt.value, one.what] for one in facts.points],
        "missing": list(facts.missing),
        "only": list(facts.only),
        "heads": {prefix: list(head) for prefix, head in facts.heads.items()},
    }


def _facts(content: dict[str, Any]) -> CopyFacts:
    return CopyFacts(
        content["moment"],
        datetime.fromisoformat(content["as_of"]),
        content["run"],
        content["database"],
        {TenantKey(key): Tenant(TenantKey(key), label) for key, label in content["tenants"]},
        {(TenantKey(tenant), table): rows for tenant, table, rows in content["rows"]},
        tuple(Inconclusive(Doubt(doubt), what) for doubt, what in content["points"]),
        tuple(content["missing"]),
        tuple(content["only"]),
        {prefix: (run, pack, recipient) for prefix, (run, pack, recipient) in content["heads"].items()},
    )
