"""`outlast keys`: which of the vault's keys this host has, and new ones for a host that is to write."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.opening import Invocation
from outlast.cli.render import table_of
from outlast.core.errors import ExitCode, OutlastError, Refused

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

_NAMING = "naming.key"
_SIGNING = "signing.key"
_NEW = "signing.new.key"  # made, and not used before outlast.toml names it
_RIGHT = "right"


class Action(StrEnum):
    LIST = "list"
    NEW = "new"
    USE = "use"


@dataclass(frozen=True, slots=True)
class Held:
    """A key, whether this host has the right one (in a word or two), and what it is needed for."""

    key: str
    state: str
    needed_to: str


def keys(
    context: typer.Context,
    action: Annotated[
        Action,
        typer.Argument(
            help="list: what this host has; new: make a signing key, and fetch the naming key where it is missing; "
            "use: sign with the new key from now on."
        ),
    ] = Action.LIST,
) -> ExitCode:
    """Say which of the vault's keys this host has, and give it new ones to write with.

    For a new host that is to back up, and for a signing key that was lost or seen by others: `new` makes a key and
    prints its line for `signers` under [vault]; once outlast.toml has the line, on every host, `use` puts the key in
    place. The line of the key before stays there: what it signed is believed no longer without it.

    Exit codes: 0 done, or all that writing needs is here; 1 something of it is missing; 3 refused, nothing was changed.
    """
    invocation = Invocation.of(context)
    if action is Action.NEW:
        return _make(invocation)
    return _use(invocation) if action is Action.USE else _list(invocation)


def _list(invocation: Invocation) -> ExitCode:
    opening = Held("operator's identity", _state(lambda: _opens(invocation)), "open the vault: restore, show, verify")
    naming = Held(_NAMING, _state(lambda: _names(invocation)), "find tenants' folders: backup, follow, restore's undo")
    signing = Held(_SIGNING, _state(lambda: _signs(invocation)), "sign what is written: the same")
    held = (opening, naming, signing)
    writes = naming.state == signing.state == _RIGHT
    waiting = (invocation.config.key_dir / _NEW).exists()

    def text(console: Console) -> None:
        console.print(table_of(("key", "state", "needed to"), [(one.key, one.state, one.needed_to) for one in held]))
        if waiting:
            console.print(f"A new signing key waits ({_NEW}). Next: outlast keys use")
        elif not writes:
            console.print("This host cannot write to the vault. Next: outlast keys new")

    fields = {"keys": [asdict(one) for one in held], "writes": writes, "waiting": waiting}
    return invocation.output.finish(fields, text, exit_code=ExitCode.DONE if writes else ExitCode.FAILED)


def _state(look: Callable[[], str]) -> str:
    try:
        return look()
    except OutlastError as error:
        return {"missing-key": "missing", "wrong-key": "not this vault's"}.get(error.code, "unreadable")


def _opens(invocation: Invocation) -> str:
    invocation.vault.naming()
    return _RIGHT


def _names(invocation: Invocation) -> str:
    from outlast.vault.keys import read_naming

    naming = read_naming(invocation.config.key_dir)
    return _RIGHT if not invocation.may_open or naming == invocation.vault.naming() else "not this vault's"


def _signs(invocation: Invocation) -> str:
    from outlast.vault.keys import read_signer

    named = read_signer(invocation.config.key_dir).public in invocation.pin.signers
    return _RIGHT if named else "not among signers"


def _make(invocation: Invocation) -> ExitCode:
    from outlast.vault.keys import save_naming, write_secret
    from outlast.vault.signature import Signer

    folder = invocation.config.key_dir
    new = folder / _NEW
    if new.exists():
        raise Refused(f"a new signing key waits already: {new}", hint=_next(_public(new)), code="exists")
    fetched = not (folder / _NAMING).exists()
    if fetched:
        save_naming(folder, invocation.vault.naming())
    signer = Signer.generate()
    write_secret(new, signer.private)
    lines = [f"Took {_NAMING} out of the vault."] if fetched else []
    lines += [f"Made {_NEW}. Nothing is signed with it yet.", _next(signer.public)]
    fields = {"signer": signer.public, "naming_key_fetched": fetched}
    return invocation.output.finish(fields, "\n".join(lines))


def _next(public: str) -> str:
    return (
        "Add its line to signers under [vault] in the outlast.toml of every host that uses this vault, and keep the "
        f'lines that are there:\n  "{public}",\nThen, here: outlast keys use'
    )


def _use(invocation: Invocation) -> ExitCode:
    folder = invocation.config.key_dir
    new, current = folder / _NEW, folder / _SIGNING
    if not new.exists():
        raise Refused("no new signing key waits here", hint="Make one: outlast keys new", code="no-new-key")
    public = _public(new)
    if public not in invocation.pin.signers:
        raise Refused(f"outlast.toml does not name the new signing key {new}", hint=_next(public), code="not-named")
    kept = None
    if current.exists():
        kept = folder / f"signing.{datetime.now(UTC):%Y%m%dT%H%M%SZ}.key"
        os.link(current, kept)  # at no moment is there no key
    new.replace(current)
    lines = ["What this host writes is signed with the new key from now on. Restart what runs: follow, serve, worker."]
    if kept is not None:
        lines.append(f"The key before is kept as {kept.name}; remove it when you need it no more.")
    fields = {"signer": public, "kept": str(kept) if kept else None}
    return invocation.output.finish(fields, "\n".join(lines))


def _public(path: Path) -> str:
    from outlast.vault.keys import read_signer

    return read_signer(path.parent, path.name).public
