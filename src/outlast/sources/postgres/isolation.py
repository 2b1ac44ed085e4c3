"""A place of its own for what is rehearsed: no network, and no socket of another PostgreSQL server on this machine.

A network namespace parts addresses, not files, and production's socket is a file: in a mount namespace something else
lies over each one that listens. What a script could reach otherwise is not ours to take away (docs/THREATS.md).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

_SOCKETS = Path("/proc/net/unix")
_LISTENING = 0x10000
_NAME = "/.s.PGSQL."

_MOUNT = ("mount", "--bind", "/dev/null", "/dev/null")
# A server may end between our look and the mount: then there is nothing to hide. Whatever else fails ends it.
_HIDE = """
while [ "$1" != -- ]; do
  [ ! -S "$1" ] || mount --bind /dev/null "$1" 2>/dev/null || [ ! -S "$1" ] || exit 126
  shift
done
shift
exec "$@"
"""


@cache
def may_isolate() -> bool:
    """Whether this system lets us make a network namespace (root may; others where user namespaces are allowed)."""
    if shutil.which("unshare") is None or (os.geteuid() == 0 and shutil.which("setpriv") is None):
        return False
    return _works((*_network(), "true"))


@cache
def may_hide() -> bool:
    """Whether it lets us hide other servers' sockets as well."""
    return may_isolate() and shutil.which("setpriv") is not None and _works((*_spaces(), *_MOUNT))


def isolation(own: Path | None = None) -> tuple[str, ...]:
    """The words before a command that is to run by itself, as this user. `own` is the folder of the one server whose
    socket it is to reach."""
    return _hiding(sockets_but(own)) if may_hide() else _network()


def sockets_but(own: Path | None) -> tuple[str, ...]:
    """The sockets on which PostgreSQL servers, and poolers under their names, listen on this machine."""
    try:
        lines = _SOCKETS.read_text(errors="surrogateescape").splitlines()[1:]
    except OSError:
        return ()
    found = set()
    for line in lines:
        parts = line.split(None, 7)
        listening = len(parts) == 8 and int(parts[3], 16) & _LISTENING
        if listening and parts[7].startswith("/") and _NAME in parts[7] and Path(parts[7]).parent != own:
            found.add(parts[7])
    return tuple(sorted(found))


def _network() -> tuple[str, ...]:
    return ("unshare", *_user(), "--net", "--")


def _hiding(sockets: tuple[str, ...]) -> tuple[str, ...]:
    drop = ("setpriv", "--ambient-caps=-all", "--inh-caps=-all", "--") if _user() else ()
    return (*_spaces(), "sh", "-c", _HIDE, "hide", *sockets, "--", *drop)


def _spaces() -> tuple[str, ...]:
    keep = ("--keep-caps",) if _user() else ()
    return ("unshare", *_user(), *keep, "--net", "--mount", "--propagation", "private", "--")


def _user() -> tuple[str, ...]:
    return () if os.geteuid() == 0 else ("--user", "--map-current-user")


def _works(words: tuple[str, ...]) -> bool:
    try:
        done = subprocess.run(words, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    except OSError:
        return False
    return done.returncode == 0
