"""The object store: the only thing that touches the vault's bytes. A local folder, S3, Google Cloud Storage or Azure.

Every object is created once (put-if-absent) and never overwritten. Objects are durable when `flush` has returned, and
`flush` is called before a run record is written: data before the record that points to it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore import exceptions
from obstore.store import LocalStore, ObjectStore

from outlast.buckets import open_bucket
from outlast.core.errors import CorruptionError, OutlastError, TransientError, VaultError

T = TypeVar("T")


class AlreadyExistsError(VaultError):
    """An object of that path exists; nothing was written."""

    default_code = "already-exists"


class ObjectMissingError(CorruptionError):
    """There is no object of that path. Whether that is damage is for the caller to say."""

    default_code = "missing-object"


@dataclass(frozen=True, slots=True)
class StoredObject:
    path: str
    size_bytes: int
    modified: datetime


class Store(Protocol):
    """A flat map from path to bytes. Every method raises VaultError (or TransientError) with the path, and a hint."""

    @property
    def url(self) -> str:
        """Where it is, as `open_store` takes it. Holds no secret."""

    @property
    def is_remote(self) -> bool:
        """Whether a request is mostly waiting, so that several at once pay."""

    def get(self, path: str) -> bytes:
        """The whole object. Raises ObjectMissingError."""

    def get_range(self, path: str, offset_bytes: int, length_bytes: int) -> bytes:
        """Exactly that part of it. Raises ObjectMissingError, and CorruptionError where the object ends earlier."""

    def create(self, path: str, data: bytes) -> None:
        """Put if absent: atomic, all or nothing. Raises AlreadyExistsError. Retried within bounds on passing faults, so
        that an answer lost on the way can show as AlreadyExistsError for the caller's own bytes. Records, segments of
        the log and before-images (…/undo/…) are durable when it returns, everything else after `flush`."""

    def exists(self, path: str) -> bool: ...

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Every object below the folder `prefix`, by path."""

    def delete(self, path: str) -> None:
        """Remove one object; one that is gone already is fine. Only retention calls this."""

    def flush(self) -> None:
        """Return when everything created so far survives a power cut."""


def open_store(url: str, *, make: bool = False) -> Store:
    """Open a store by URL: a path, file://, s3://bucket/prefix?endpoint=…&region=…&allow_http=1, gs://, az://.

    Credentials come from the environment (AWS_*, GOOGLE_*, AZURE_*), never from the URL. Raises UsageError for a URL
    that cannot be one. A folder that is not there is made only with `make`.
    """
    parts = urlsplit(url)
    if parts.scheme in ("", "file"):
        return FolderStore(Path(parts.path if parts.scheme else url).expanduser(), make=make)
    return RemoteStore(url, open_bucket(url, "the vault's URL"))


class RemoteStore:
    """A store behind obstore's client."""

    def __init__(self, url: str, store: ObjectStore) -> None:
        self._url = url
        self._store = store

    @property
    def url(self) -> str:
        return self._url

    @property
    def is_remote(self) -> bool:
        return True

    def get(self, path: str) -> bytes:
        return self._do("read", path, lambda: bytes(obstore.get(self._store, path).bytes()))

    def get_range(self, path: str, offset_bytes: int, length_bytes: int) -> bytes:
        if not length_bytes:
            return b""
        data = self._do(
            "read", path, lambda: bytes(obstore.get_range(self._store, path, start=offset_bytes, length=length_bytes))
        )
        if len(data) != length_bytes:
            raise CorruptionError(f"object {path} of the vault ends early", code="cut-object")
        return data

    def create(self, path: str, data: bytes) -> None:
        self._do("write", path, lambda: obstore.put(self._store, path, data, mode="create", use_multipart=False))

    def exists(self, path: str) -> bool:
        try:
            self._do("look up", path, lambda: obstore.head(self._store, path))
        except ObjectMissingError:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        pages = self._do("list", prefix, lambda: iter(obstore.list(self._store, prefix.rstrip("/") or None)))
        while True:
            page = self._do("list", prefix, lambda: next(pages, None))
            if page is None:
                return
            for one in page:
                yield StoredObject(one["path"], one["size"], one["last_modified"])

    def delete(self, path: str) -> None:
        with suppress(ObjectMissingError):
            self._do("delete", path, lambda: obstore.delete(self._store, path))

    def flush(self) -> None:
        """Nothing to do: these services answer a put when it is durable."""

    def _do(self, doing: str, path: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except (exceptions.BaseError, OSError, ValueError) as error:
            _raise(error, doing, path, self.url)


class FolderStore(RemoteStore):
    """A folder. Objects appear whole (written aside, then linked), and survive a power cut once flushed."""

    def __init__(self, folder: Path, *, make: bool = False) -> None:
        self._folder = folder.absolute()
        if not make and not self._folder.is_dir():
            raise VaultError(
                f"there is no vault at {self._folder}: the folder does not exist",
                hint="Correct [vault] url in outlast.toml, or mount what should be there.",
                code="no-vault",
            )
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            store = LocalStore(self._folder)
        except OSError as error:
            _raise(error, "open", str(self._folder), str(folder))
        super().__init__(str(self._folder), store)
        # Other processes, of other hosts too, may write the same object at the same time: each begins somewhere else.
        self._unfinished = count(secrets.randbits(60))

    @property
    def is_remote(self) -> bool:
        return False

    def get(self, path: str) -> bytes:
        # Not by obstore: a restore reads two small files a tenant, and the way there and back takes ten times as long.
        try:
            return (self._folder / path).read_bytes()
        except OSError as error:
            _raise(error, "read", path, self.url)

    def create(self, path: str, data: bytes) -> None:
        # Not by obstore: a first backup makes two small files a tenant, and its way to the kernel takes four times as
        # long as these few calls.
        folder, _, name = path.rpartition("/")
        try:
            # A record or a segment of the log must never be there without its bytes: after a power cut, an empty file
            # under the next number would bar every later one. So they are synced before their name; packs wait for
            # `flush`. A before-image is one file, waited for: syncing it beats syncing all that anybody wrote here.
            synced = path.endswith(".json") or "/log/" in path or "/undo/" in path
            self._link_whole(f"{self._folder}/{folder}", name, data, synced=synced)
        except OSError as error:
            _raise(error, "write", path, self.url)

    def _link_whole(self, folder: str, name: str, data: bytes, *, synced: bool) -> None:
        # obstore's own form of a name for an unfinished file, which its listing passes over.
        unfinished = f"{folder}/{name}#{next(self._unfinished)}"
        descriptor = self._open_new(unfinished, folder)
        try:
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                if synced:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.link(unfinished, f"{folder}/{name}")
        finally:
            os.unlink(unfinished)  # noqa: PTH108 - a Path costs more than the call, and there are two files a tenant
        if synced:
            place = Path(folder)
            while place != self._folder.parent:  # its folder may be new, and is then an entry of the one above
                _sync_folder(str(place))
                place = place.parent

    def _open_new(self, path: str, folder: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o666)
        except FileNotFoundError:
            _make_folders(folder)
            return os.open(path, flags, 0o666)

    def flush(self) -> None:
        # One barrier for thousands of small files, instead of an fsync for each.
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            _syncfs(descriptor)
        except OSError as error:
            _raise(error, "write", "", self.url)
        finally:
            os.close(descriptor)


def _make_folders(folder: str) -> None:
    with suppress(FileExistsError):  # another process was faster
        try:
            os.mkdir(folder)  # noqa: PTH102 - as above: three folders a tenant
        except FileNotFoundError:
            _make_folders(folder.rpartition("/")[0])
            os.mkdir(folder)  # noqa: PTH102


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _syncfs(descriptor: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "syncfs"):
        if libc.syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    else:
        os.sync()


def _raise(error: Exception, doing: str, path: str, url: str) -> NoReturn:
    """Our error for one of the store's. Their texts are long and may quote requests: only the kind is told."""
    what = f"cannot {doing} {path or 'objects'} in the vault {url}"
    if isinstance(error, exceptions.AlreadyExistsError | FileExistsError):
        raise AlreadyExistsError(f"{what}: it exists already") from error
    text = f"{error} (os error {error.errno})" if isinstance(error, OSError) else str(error)
    if isinstance(error, FileNotFoundError | exceptions.NotFoundError) and "NoSuchBucket" not in text:
        raise ObjectMissingError(f"{what}: it is not there") from error
    for words, kind, why, hint in _FAILURES:
        if any(word in text for word in words):
            raise kind(f"{what}: {why}", hint=hint) from None
    if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError | PermissionError):
        raise VaultError(f"{what}: access was denied", hint=_ACCESS, code="access-denied") from None
    raise TransientError(
        f"{what}: {text.partition(chr(10))[0][:200]}", hint="If it persists, check the vault's URL and the network."
    ) from None


_ACCESS = (
    "Check the credentials (AWS_*, GOOGLE_*, AZURE_* or the machine's role), the bucket's policy, the folder's owner."
)
_FAILURES: tuple[tuple[tuple[str, ...], type[OutlastError], str, str], ...] = (
    (("No space left on device", "os error 28"), VaultError, "the disk is full", "Make room there; nothing is lost."),
    (("File too large", "os error 27"), VaultError, "a file may not grow that large", "Check ulimit -f and quotas."),
    (("Disk quota exceeded", "os error 122"), VaultError, "the quota is used up", "Raise it; nothing is lost."),
    (("Read-only file system", "os error 30"), VaultError, "it is read-only", "Mount it writable for a backup."),
    (("Permission denied", "os error 13", "AccessDenied", "403 Forbidden"), VaultError, "access was denied", _ACCESS),
    (
        ("Requested range was invalid", "InvalidRange", "416 Range Not Satisfiable"),
        CorruptionError,
        "it ends early",
        "Its bytes are not those that were written; `outlast verify` lists all damage.",
    ),
    (("NoSuchBucket",), VaultError, "there is no such bucket", "Create it, or correct the vault's URL."),
    (
        ("InvalidAccessKeyId", "SignatureDoesNotMatch", "401 Unauthorized"),
        VaultError,
        "the credentials were not accepted",
        _ACCESS,
    ),
    (
        ("Missing credentials", "credential", "metadata/instance", "169.254.169.254"),
        VaultError,
        "no credentials were found",
        _ACCESS,
    ),
)
