"""Publishing: the status page's files into a folder or a bucket that shares nothing with what it reports on.

What was written last is remembered beside the state (`page.json`), so that the page can be published, and say its own
age, while the database, the vault and `serve` are all down. A file is replaced whole or not at all, the entry pages
last.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from outlast.core.errors import NotFoundError, OutlastError
from outlast.incident.timeline import stamp

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".atom": "application/atom+xml; charset=utf-8",
    ".rss": "application/rss+xml; charset=utf-8",
}


def content_type(name: str) -> str:
    """A file's media type, by its name."""
    return _TYPES[Path(name).suffix]


class Place(Protocol):
    """Where files are published. `put` replaces one whole, or raises OutlastError and leaves the old one."""

    def put(self, name: str, content: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Folder:
    path: Path

    def put(self, name: str, content: bytes) -> None:
        target = self.path / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".outlast-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                    os.fchmod(file.fileno(), 0o644)  # a web server of another user reads it
                Path(temporary).replace(target)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise OutlastError(
                f"cannot publish the status page to {self.path}: {error.strerror}",
                hint="Check [page] to in outlast.toml, and the folder's permissions. What is published stays as it is.",
                code="publish",
            ) from error


class Bucket:
    """A bucket by URL (s3://, gs://, az://; see outlast.buckets), with the environment's credentials."""

    def __init__(self, url: str) -> None:
        from obstore.exceptions import BaseError

        from outlast.buckets import open_bucket

        self._url = url
        try:
            self._store = open_bucket(url, "[page] to")
        except (BaseError, ValueError) as error:
            raise self._failed(error) from error

    def put(self, name: str, content: bytes) -> None:
        import obstore
        from obstore.exceptions import BaseError

        try:
            obstore.put(
                self._store,
                name,
                content,
                attributes={"Content-Type": content_type(name), "Cache-Control": "public, max-age=30"},
            )
        except (BaseError, OSError) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> OutlastError:
        return OutlastError(
            f"cannot publish the status page to {self._url} ({type(error).__name__})",
            hint="Check [page] to in outlast.toml and the environment's credentials for it. What is published stays.",
            code="publish",
        )


def place(url: str, base: Path) -> Place:
    """Where [page] to points: a bucket, or a folder relative to outlast.toml."""
    return Bucket(url) if "://" in url else Folder((base / Path(url).expanduser()).resolve())


def publish(target: Place, files: Mapping[str, bytes]) -> int:
    """Put every file, in their order; gives how many."""
    for name, content in files.items():
        target.put(name, content)
    return len(files)


@dataclass(frozen=True, slots=True)
class Kept:
    """What was last published, as it was written, and when."""

    at: datetime
    files: Mapping[str, bytes]


def keep(path: Path, files: Mapping[str, bytes], at: datetime) -> None:
    """Remember what is being published. Public data only, so it lies in the clear."""
    document = {
        "at": stamp(at),
        "files": {name: base64.b64encode(content).decode("ascii") for name, content in files.items()},
    }
    Folder(path.parent).put(path.name, json.dumps(document).encode())


def kept(path: Path) -> Kept:
    """What was remembered. Raises NotFoundError where nothing was yet."""
    try:
        document = json.loads(path.read_text(encoding="ascii"))
        files = {name: base64.b64decode(content) for name, content in document["files"].items()}
        return Kept(datetime.fromisoformat(document["at"]), files)
    except FileNotFoundError:
        raise NotFoundError(
            "nothing was published on this host yet", hint="It has to be made once while the state can be read."
        ) from None
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise OutlastError(
            f"cannot read what was published last ({path})",
            hint="Remove that file, and run outlast publish while the state can be read.",
            code="publish",
        ) from error
