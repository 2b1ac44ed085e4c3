"""What is stored of many tenants is read by a process beside the command, and by the command where that fails."""

from __future__ import annotations

from outlast.restore.ahead import TENANTS_MIN, ReadingAhead, Wanted
from outlast.restore.history import past_of
from outlast.vault.header import VaultPin
from outlast.vault.keys import Identity
from outlast.vault.reader import Vault
from outlast.vault.store import open_store
from tests.commands import Outlast
from tests.integration.jobs.shop import Shop, make


def wanted(shop: Shop, vault: Vault, pin: VaultPin) -> Wanted:
    return Wanted(vault.store.url, pin, vault.identity, "main", "then", vault.tenants("main"))


def opened(shop: Shop) -> tuple[Vault, VaultPin]:
    from outlast.config.file import load

    config = load(shop.outlast.folder / "outlast.toml")
    pin = VaultPin(config.vault.id, config.vault.recipients, config.vault.signers)
    recovery = shop.outlast.folder / "outlast-recovery.key"
    identity = Identity.from_text(recovery.read_text(), str(recovery))
    return Vault.open(open_store(config.vault_url), pin, identity), pin


def test_many_tenants_are_read_ahead(outlast: Outlast, database: str) -> None:
    """Each state and each row is what is read here; without the process all is; restored whole."""
    shop = make(outlast, database, TENANTS_MIN)
    vault, pin = opened(shop)
    asked = wanted(shop, vault, pin)
    here = {entry.prefix: past_of(vault, "main", entry, "then") for entry in asked.entries}
    read: list[str] = []

    def read_here(entry):  # type: ignore[no-untyped-def]
        read.append(entry.prefix)
        return here[entry.prefix]

    with ReadingAhead() as ahead:
        ahead.begin(asked)
        for entry in asked.entries:
            past = ahead.past(entry, read_here)
            same = here[entry.prefix]
            assert (past.tenant, past.run, past.root, past.tables) == (same.tenant, same.run, same.root, same.tables)
            for name, table in past.tables.items():
                assert b"".join(past.read(table)) == b"".join(same.read(same.tables[name]))
        assert read == []
        ahead.past(asked.entries[0], read_here)  # a second time it is read here
    with ReadingAhead() as ahead:
        ahead.begin(asked)
        ahead._process.kill()
        ahead._process.join()
        for entry in asked.entries:
            assert ahead.past(entry, read_here).root == here[entry.prefix].root
    assert len(read) > len(asked.entries) / 2
    shop.outlast.done("restore", "--tenants-file", shop.names, "--execute")
    shop.check()
