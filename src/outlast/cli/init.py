"""`outlast init`: outlast.toml, the vault, its keys, and a proposal for every table."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.opening import Invocation
from outlast.cli.render import count, table_of
from outlast.core.errors import ExitCode, Refused, UsageError
from outlast.core.kinds import KINDS

if TYPE_CHECKING:
    from rich.console import Console

    from outlast.config.document import VaultSettings
    from outlast.config.writing import TableEntry
    from outlast.sources.postgres.schema import Catalog
    from outlast.vault.keys import WriterKeys

KEY_FOLDER = ".outlast"
RECOVERY_FILE = "outlast-recovery.key"


def init(
    context: typer.Context,
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL",
            help="The database: postgresql://user@host:5432/database. Or a tool: opsgenie, pagerduty, jira, "
            "confluence, statuspage.",
        ),
    ],
    tenant_table: Annotated[
        str | None, typer.Option("--tenant-table", metavar="T", help="The table that has one row a customer.")
    ] = None,
    tenant_label: Annotated[
        str | None,
        typer.Option("--tenant-label", metavar="COLUMN", help="Its column that people know a customer by."),
    ] = None,
    tenant_key: Annotated[
        str | None, typer.Option("--tenant-key", metavar="COLUMN", help="Its key, where it has several.")
    ] = None,
    vault: Annotated[str, typer.Option("--vault", metavar="URL", help="A folder, or s3://, gs:// or az://.")] = "vault",
    print_grants: Annotated[
        bool, typer.Option("--print-grants", help="Print SQL for one least-privilege role a job, and write nothing.")
    ] = False,
    site: Annotated[
        str | None, typer.Option("--site", metavar="URL", help="Of a tool: where it is (https://acme.atlassian.net).")
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", metavar="EMAIL", help="Of Jira and Confluence: whose token it is.")
    ] = None,
    page: Annotated[str | None, typer.Option("--page", metavar="ID", help="Of Statuspage: the page's id.")] = None,
) -> ExitCode:
    """Write outlast.toml, make the vault and its keys, and propose whose each table is.

    Reads the database's catalog and changes nothing in it. Every table is proposed as owned by a tenant, shared or
    ignored, with the reason beside it, for a person to read. Where several paths lead to a tenant, its rows are asked
    whether they agree (30 seconds a table, 5 minutes in all). What cannot be decided is left open, named, and stops
    backups until it is. A file that is already there is never overwritten.

    Of a tool it writes its section, and asks nothing of it yet.

    The recovery key is written to outlast-recovery.key: it alone can open the vault when this machine is gone. Take it
    offline, and keep two copies.

    Exit codes: 0 done; 1 database or vault could not be reached; 2 wrong URL or table; 3 refused: outlast.toml or the
    vault is there already.
    """
    from psycopg import IsolationLevel

    from outlast.config import file, writing
    from outlast.config.settings import without_password
    from outlast.sources.postgres.agreement import INIT_LIMIT_S, Asker
    from outlast.sources.postgres.catalog import OwnershipSettings, read_catalog
    from outlast.sources.postgres.grants import print_grants as grants
    from outlast.sources.postgres.session import Target, connect

    invocation = Invocation.of(context)
    path = _new_file(invocation.config_file)
    if url in KINDS:
        from outlast.cli import init_tool

        return init_tool.run(invocation, path, init_tool.Wanted(url, site, user, page, vault))
    if "://" not in url and "=" not in url:
        raise UsageError(
            f"{url!r} is neither a database's URL nor a tool",
            hint=f"postgresql://USER@HOST/DATABASE, or one of: {', '.join(sorted(KINDS))}.",
        )
    if tenant_table is None:
        raise UsageError(
            "a database needs --tenant-table",
            hint="Name the table that has one row a customer: --tenant-table accounts",
        )
    if not print_grants:
        refuse_existing(path)
    target = Target(url)
    with connect(target, role="init") as session:
        session.isolation_level = IsolationLevel.REPEATABLE_READ
        settings = OwnershipSettings(tenant_table, tenant_label, None, tenant_key)
        catalog = read_catalog(session, settings, Asker(session, INIT_LIMIT_S))
    if print_grants:
        halted = file.load(path).document.tripwire.halt_roles if path.is_file() else ()
        text = grants(catalog, halted)
        return invocation.output.finish({"sql": text}, text)
    bare_url, password = without_password(url)
    entries = _entries(catalog)
    with ExitStack() as undo:
        made = make_vault(vault, path.parent, undo)
        content = writing.written(
            url=bare_url,
            tenant_table=str(catalog.tenant_table),
            tenant_key=tenant_key,
            tenant_label=tenant_label,
            vault=made,
            recovery_file=RECOVERY_FILE,
            tables=entries,
        )
        write(path, content)
        undo.pop_all()
    if password is not None:
        invocation.output.warn(
            "the password was taken out of the URL and is kept nowhere: set PGPASSWORD, ~/.pgpass or password_command"
        )
    return _finish(invocation, path, made, catalog, entries)


def _new_file(given: str | None) -> Path:
    from outlast.config.file import CONFIG_VARIABLE, FILE_NAME

    path = Path(given or os.environ.get(CONFIG_VARIABLE) or FILE_NAME).expanduser().absolute()
    return path / FILE_NAME if path.is_dir() else path


def refuse_existing(path: Path) -> None:
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}", hint=f"Make it: mkdir -p {path.parent}")
    for existing in (path, path.parent / RECOVERY_FILE, path.parent / KEY_FOLDER / "naming.key"):
        if existing.exists():
            raise Refused(
                f"{existing} is there already, and init overwrites nothing",
                hint="Work in another folder (or name another --config), or move the old files out of the way.",
                code="exists",
            )


def make_vault(url: str, folder: Path, undo: ExitStack) -> VaultSettings:
    """The vault and every key. What was made is removed again where a later step fails."""
    from outlast.config.document import VaultSettings
    from outlast.vault.keys import WriterKeys, generate_identity, write_secret
    from outlast.vault.reader import HEADER_PATH, NAMING_PATH, create_vault
    from outlast.vault.store import open_store

    recovery, recovery_recipient = generate_identity("recovery key of this vault. Keep it offline, twice.")
    operator, operator_recipient = generate_identity("operator's key of this host: it can open the vault")
    recipients = (recovery_recipient, operator_recipient)
    keys = WriterKeys.generate(recipients)
    key_folder = folder / KEY_FOLDER
    for path, text in ((folder / RECOVERY_FILE, recovery), (key_folder / "operator.key", operator)):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_secret(path, text)
        undo.callback(path.unlink)
    _save(keys, key_folder, undo)
    store = open_store(_place(url, folder, undo))
    pin = create_vault(store, keys)
    undo.callback(store.delete, NAMING_PATH)
    undo.callback(store.delete, HEADER_PATH)
    return VaultSettings(url=url, id=pin.id, recipients=pin.recipients, signers=pin.signers)


def _place(url: str, folder: Path, undo: ExitStack) -> str:
    """The vault's URL for the store. A folder is made here and nowhere else: one that is missing later is an error."""
    if "://" in url:
        return url
    place = (folder / Path(url).expanduser()).resolve()
    if not place.exists():
        try:
            place.mkdir(parents=True)
        except OSError as error:
            raise UsageError(
                f"cannot make the vault's folder {place}: {error.strerror}", hint="Name another place with --vault."
            ) from error
        undo.callback(place.rmdir)
    return str(place)


def _save(keys: WriterKeys, folder: Path, undo: ExitStack) -> None:
    keys.save(folder)
    (folder / ".gitignore").write_text("*\n", encoding="ascii")  # `git add .` must not publish a key
    for name in ("naming.key", "signing.key"):
        undo.callback((folder / name).unlink)


def _entries(catalog: Catalog) -> tuple[TableEntry, ...]:
    from outlast.config.writing import TableEntry
    from outlast.sources.postgres.ownership import propose

    words = propose(catalog)
    return tuple(
        TableEntry(str(table.name), words[str(table.name)], table.ownership.reason) for table in catalog.tables
    )


def write(path: Path, content: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(content)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", hint="Check the folder's permissions.") from error


def _finish(
    invocation: Invocation, path: Path, vault: VaultSettings, catalog: Catalog, entries: tuple[TableEntry, ...]
) -> ExitCode:
    undecided = [entry for entry in entries if entry.words == "undecided"]
    recovery = path.parent / RECOVERY_FILE
    fields = {
        "config": str(path),
        "vault": vault.url,
        "vault_id": vault.id,
        "recovery_key_file": str(recovery),
        "tables": [{"table": one.name, "ownership": one.words, "reason": one.reason} for one in entries],
        "undecided": [one.name for one in undecided],
    }

    def text(console: Console) -> None:
        console.print(table_of(("table", "proposal", "why"), [(one.name, one.words, one.reason) for one in entries]))
        kinds = Counter(table.ownership.kind.value for table in catalog.tables)
        told = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
        console.print(f"{count(len(entries), 'table')}: {told}.")
        console.print(f"Wrote {path.name}: read it once, it decides what a customer gets back.")
        console.print(f"Made the vault ({vault.url}) and this host's keys ({KEY_FOLDER}/, not for version control).")
        console.print()
        console.print(f"Take {RECOVERY_FILE} offline now, in two copies: it alone opens the vault when this machine")
        console.print("is gone. Nothing here needs it; delete it here once it is safe elsewhere.")
        console.print()
        if undecided:
            console.print("Decide these in outlast.toml first; they stop every backup:")
            for one in undecided:
                console.print(f"  {one.name}: {one.reason}")
            console.print("Next: outlast check")
        else:
            console.print("Next: outlast check, then outlast backup")

    return invocation.output.finish(fields, text)
