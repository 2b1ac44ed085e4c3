"""`outlast subscribers …`: who gets the updates."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from outlast.cli.affected import named_tenants
from outlast.cli.informing import database_of
from outlast.cli.opening import Invocation
from outlast.cli.render import count, table_of
from outlast.core.errors import ExitCode, NotFoundError, UsageError

commands = typer.Typer(name="subscribers", add_completion=False, rich_markup_mode=None, no_args_is_help=True)

_REPORT_MAX = 4 * 1024 * 1024


class ChannelWord(StrEnum):
    EMAIL = "email"
    WEBHOOK = "webhook"
    APPRISE = "apprise"


@commands.callback()
def subscribers() -> None:
    """List, add, import and remove those who get the updates."""


@commands.command("list")
def list_(context: typer.Context) -> ExitCode:
    """List the subscriptions. Addresses of web hooks and chats are secrets: only how they begin is shown."""
    from outlast.incident.subscribers import Subscriber, Subscribers

    invocation = Invocation.of(context)
    found = Subscribers(database_of(invocation)).all()

    def about(one: Subscriber) -> str:
        return (one.wish.tenant and f"tenant {one.wish.tenant}") or one.wish.component or "everything"

    rows = [
        (one.id, one.wish.channel.value, _address(one), about(one), one.state.value, str(one.bounces)) for one in found
    ]
    head = ("id", "channel", "address", "about", "state", "bounces")
    return invocation.output.finish(
        {"subscribers": [dict(zip(head, row, strict=True)) for row in rows]},
        lambda console: console.print(table_of(head, rows, right=(5,)) if rows else "Nobody has subscribed yet."),
    )


@commands.command()
def add(
    context: typer.Context,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="An e-mail address, or a URL.")],
    channel: Annotated[ChannelWord, typer.Option(help="By what it is reached.")] = ChannelWord.EMAIL,
    component: Annotated[str | None, typer.Option(metavar="NAME", help="Only what concerns this component.")] = None,
    tenant: Annotated[
        str | None, typer.Option(metavar="TENANT", help="Only this tenant's own notices; its key or label.")
    ] = None,
    language: Annotated[
        str | None, typer.Option(metavar="LANGUAGE", help="In which language of the page, if not its first.")
    ] = None,
) -> ExitCode:
    """Add a subscription that needs no confirmation: its owner has asked you for it."""
    from outlast.incident.subscribers import Channel, Subscribers, Wish

    invocation = Invocation.of(context)
    page = invocation.config.document.page
    _check_address(invocation, address, channel)
    _check_known("language", language, page.languages)
    _check_known("component", component, [one.name for one in page.components])
    whose = named_tenants(invocation, [] if tenant is None else [tenant], None)
    key = whose[0].key if whose else None
    wish = Wish(Channel(channel.value), address, language or page.languages[0], component, key)
    one = Subscribers(database_of(invocation)).add(wish, datetime.now(UTC), confirmed=True)
    told = f"Subscribed ({one.id})."
    if one.secret is not None:
        told += f"\nThe secret that each body is signed with, for the receiver: {one.secret}"
    return invocation.output.finish({"subscriber": one.id, "secret": one.secret}, told)


@commands.command()
def remove(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="ID", help="The subscription, as `subscribers list` has it.")],
) -> ExitCode:
    """End a subscription."""
    from outlast.incident.subscribers import Subscribers

    invocation = Invocation.of(context)
    try:
        one = Subscribers(database_of(invocation)).end(name)
    except NotFoundError as error:
        raise NotFoundError(error.message, hint="List them: outlast subscribers list") from error
    return invocation.output.finish({"subscriber": one.id}, "Ended.")


@commands.command("import")
def import_(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A Statuspage source of outlast.toml.")],
) -> ExitCode:
    """Take over the subscribers of a Statuspage page out of its backup. Who unsubscribed there stays away."""
    from outlast.incident.statuspage_import import wishes
    from outlast.incident.subscribers import Subscribers
    from outlast.library.copy import FILE_NAME, LocalCopy

    invocation = Invocation.of(context)
    with LocalCopy.open(invocation.config.key_dir / FILE_NAME) as copy:
        if copy.moment(source) is None:
            names = ", ".join(one.source for one in copy.sources()) or "none"
            raise NotFoundError(f"the local copy has no source {source!r}", hint=f"It has: {names}.")
        rows = [one.document for one in copy.documents("statuspage.subscribers", source)]
        components = {one.key: one.document for one in copy.documents("statuspage.components", source)}
    found, left_out = wishes(rows, components)
    added = Subscribers(database_of(invocation)).add_all(found, datetime.now(UTC), confirmed=True)
    told = f"{count(len(added), 'subscription')} taken over"
    why = "".join(f"; {number:,} left out: {reason}" for reason, number in sorted(left_out.items()))
    return invocation.output.finish({"imported": len(added), "left_out": left_out}, f"{told}{why}.")


@commands.command()
def bounced(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="The mail; else it is read from stdin.")] = None,
) -> ExitCode:
    """Count a letter that came back, from the mail server's report of it.

    For the mail server to pipe the mailbox of `[mail] sender` into. What reports no letter of ours is passed over.
    """
    from outlast.incident.bounces import refused_letter
    from outlast.incident.outbox import Outbox
    from outlast.incident.subscribers import Subscribers

    invocation = Invocation.of(context)
    try:
        data = sys.stdin.buffer.read(_REPORT_MAX) if file is None else file.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the mail {file}: {error.strerror}") from error
    letter = refused_letter(data)
    database = database_of(invocation)
    subscriber = None if letter is None else Outbox(database).came_back(letter)
    if subscriber is not None:
        Subscribers(database).bounced(subscriber)
    told = "No report of a letter that is ours." if subscriber is None else f"Counted for {subscriber}."
    return invocation.output.finish({"subscriber": subscriber}, told)


def _check_address(invocation: Invocation, address: str, channel: ChannelWord) -> None:
    """Say it now where nothing would ever arrive, and not in an incident."""
    document = invocation.config.document
    if channel is ChannelWord.EMAIL:
        if "://" in address:
            raise UsageError("that is no e-mail address", hint="Of a URL say --channel webhook, or --channel apprise.")
        if document.mail.url is None:
            invocation.output.warn("no e-mail can leave: outlast.toml names no mail server ([mail] url and sender)")
    elif channel is ChannelWord.WEBHOOK:
        _refuse_inner(address, document.incident.inside)
    else:
        from outlast.messages import Service

        try:
            Service(address)
        except ValueError as error:
            raise UsageError(f"that is no address that can be told: {error}", hint="See Apprise's list.") from error


def _check_known(what: str, name: str | None, known: Sequence[str]) -> None:
    if name is not None and name not in known:
        listed = ", ".join(known) or "none"
        raise UsageError(f"the status page has no {what} {name!r}", hint=f"[page] has: {listed}.")


def _refuse_inner(address: str, inside: tuple[str, ...]) -> None:
    """Say it now where a web hook would never be called; a name that is not known at this moment may be later."""
    import httpcore
    import httpx

    from outlast.incident.channels.outside import InsideError, Outside

    try:
        url = httpx.URL(address)
        Outside(inside).addresses(url.raw_host.decode("ascii"), url.port or 443)
    except InsideError as error:
        raise UsageError(
            f"that web hook would not be called: {error}",
            hint=f'If it is meant, write into outlast.toml under [incident]: inside = ["{url.host}"]',
        ) from error
    except (httpx.InvalidURL, httpcore.ConnectError):
        return


def _address(one: object) -> str:
    from outlast.incident.subscribers import Channel, Subscriber

    assert isinstance(one, Subscriber)
    if one.wish.channel is Channel.EMAIL:
        return one.wish.address
    scheme, _, rest = one.wish.address.partition("://")
    return f"{scheme}://{rest.partition('/')[0].rpartition('@')[2][:30]}…"
