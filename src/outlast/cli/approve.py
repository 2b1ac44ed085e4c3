"""`outlast approve RECEIPT`: somebody other than whoever rehearsed says, by a signed name, that it may run."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.opening import DEFAULT_SOURCE, Invocation
from outlast.cli.render import effect_table
from outlast.cli.running import check_approvals, hold, whoever
from outlast.core.errors import ExitCode, OutlastError, Refused, UsageError

if TYPE_CHECKING:
    from rich.console import Console


def approve(
    context: typer.Context,
    receipt: Annotated[str, typer.Argument(metavar="RECEIPT", help="A receipt's id, or how it begins.")],
    name: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Your name under [rehearsal] approvers; else your user's."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Your private key, or the public one of a key in ssh-agent.")
    ] = None,
    source: Annotated[str, typer.Option(metavar="NAME", help="The source in outlast.toml.")] = DEFAULT_SOURCE,
) -> ExitCode:
    """Approve a receipt by your signed name, after a look at what it will do.

    The signature is over the receipt's own bytes, and made by your key, as `ssh-keygen -Y sign` does it.
    """
    invocation = Invocation.of(context)
    held = hold(invocation, source, receipt)
    found = held.receipt
    who = name or whoever()
    public = _public_key(invocation, who)
    if who.casefold() == found.by.casefold():
        raise Refused(
            f"{who} rehearsed receipt {found.id}, and cannot approve it as well",
            hint="Somebody else has to look at it.",
            code="same-person",
        )
    if found.expired(datetime.now(UTC)):
        raise Refused(f"receipt {found.id} has expired", hint="Have it rehearsed again.", code="expired")
    private = (key or Path.home() / ".ssh" / "id_ed25519").expanduser()
    content = {"by": who, "at": datetime.now(UTC).isoformat()}
    line = held.shelf.to_approve(found.id, held.record.digest, content)
    signature = _signed(private, line)
    _verify(public, line, signature, who)
    held.shelf.approve(found.id, line, signature)
    return _shown(invocation, source, found.id, who)


def _public_key(invocation: Invocation, name: str) -> str:
    approvers = invocation.config.document.rehearsal.approvers
    if name not in approvers:
        listed = (
            f"It has: {', '.join(sorted(approvers))}." if approvers else f'approvers = {{ {name} = "ssh-ed25519 …" }}'
        )
        raise UsageError(
            f"{name!r} is nobody of [rehearsal] approvers in outlast.toml", hint=listed, code="no-approver"
        )
    return approvers[name]


def _signed(key: Path, line: bytes) -> bytes:
    """The signature by a key that is a plain file; else by ssh-keygen, which asks for its passphrase or its agent."""
    from outlast.vault.receipt import NAMESPACE_APPROVAL
    from outlast.vault.signature import Signer

    try:
        text = key.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        told = error.strerror if isinstance(error, OSError) else "it is no key"
        raise UsageError(f"cannot read your key {key}: {told}", hint="Name it: --key FILE") from None
    try:
        return Signer(text).sign(NAMESPACE_APPROVAL, line)
    except (OutlastError, ValueError, TypeError):
        return _by_ssh_keygen(key, line, NAMESPACE_APPROVAL)


def _by_ssh_keygen(key: Path, line: bytes, namespace: str) -> bytes:
    with TemporaryDirectory(prefix="outlast-") as folder:
        file = Path(folder) / "line"  # sealed content and a hash: nothing of it is secret
        file.write_bytes(line)
        try:
            done = subprocess.run(["ssh-keygen", "-Y", "sign", "-n", namespace, "-f", str(key), str(file)], check=False)
        except OSError as error:
            raise OutlastError(f"cannot run ssh-keygen: {error.strerror}", hint="Install OpenSSH's client.") from None
        if done.returncode:
            raise OutlastError(f"ssh-keygen could not sign with {key}", hint="Try it by hand: ssh-keygen -Y sign")
        return Path(f"{file}.sig").read_bytes()


def _verify(public: str, line: bytes, signature: bytes, name: str) -> None:
    from outlast.vault.receipt import NAMESPACE_APPROVAL
    from outlast.vault.signature import verify

    try:
        verify((public,), NAMESPACE_APPROVAL, line, signature, "the approval")
    except OutlastError as error:
        raise Refused(
            f"that key is not {name}'s, as outlast.toml has it", hint="Name yours: --key FILE", code="other-key"
        ) from error


def _shown(invocation: Invocation, source: str, receipt: str, who: str) -> ExitCode:
    held = hold(invocation, source, receipt)
    try:
        check_approvals(invocation, held)
        enough = True
    except Refused:
        enough = False
    found = held.receipt
    fields = {
        "receipt": found.id,
        "approved_by": list(held.approved_by),
        "enough": enough,
        "effect": found.effect.to_json(),
    }

    def show(console: Console) -> None:
        effect_table(found.effect, found.tenants, done=False, summarize=False)(console)
        console.print(f"Receipt {found.id} ({found.name}, rehearsed by {found.by}) is approved by {who}.")
        nexts = f"Next: outlast run {found.name} --receipt {found.id}" if enough else "It needs more approvals yet."
        console.print(nexts)

    return invocation.output.finish(fields, show)
