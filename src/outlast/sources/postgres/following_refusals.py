"""Why following may not be set up in a database as it stands. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from outlast.sources.postgres.following_facts import FollowingFacts, Names, Publication
from outlast.sources.postgres.following_plan import Refusal
from outlast.sources.postgres.identities import Wish
from outlast.sources.postgres.publication import Membership
from outlast.sources.postgres.schema import Catalog

SENDERS_NEEDED = 2
"""One to stream, one while the slot is made and its snapshot is read."""


def refusals(
    facts: FollowingFacts,
    catalog: Catalog,
    names: Names,
    membership: Membership,
    wishes: Mapping[str, Wish],
    *,
    accept: bool,
    vault: str = "",
) -> tuple[Refusal, ...]:
    """Every reason at once. `accept`: the user takes the risk of a log that is kept without limit.

    `vault` is the id of the one that the log is to go to.
    """
    return (
        *_of_catalog(catalog),
        *_of_server(facts, accept=accept),
        *_of_room(facts, names),
        *of_another_vault(facts.publications, names, vault),
        *_of_names(facts, names),
        *_of_wishes(catalog, membership, wishes),
    )


def _of_catalog(catalog: Catalog) -> Iterator[Refusal]:
    for notice in catalog.notices:
        if notice.level == "error":
            yield Refusal(notice.code, notice.message, notice.hint or "See: outlast check")


def _of_server(facts: FollowingFacts, *, accept: bool) -> Iterator[Refusal]:
    server = facts.server
    if server.in_recovery:
        yield Refusal(
            "standby", "this server is a standby, where no publication can be made", "Name the primary in outlast.toml."
        )
    if server.wal_level != "logical":
        yield Refusal(
            "wal-level",
            f"wal_level is {server.wal_level}, and changes can be read from the log only under logical",
            "ALTER SYSTEM SET wal_level = logical, then restart the server (docs/OPERATIONS.md, for managed ones too).",
        )
    if server.slot_limit == "-1" and not accept:
        yield Refusal(
            "slot-limit",
            "max_slot_wal_keep_size is not set: while nobody reads the slot the server keeps its log without limit, "
            "until the disk is full and the database stops",
            "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB' (what the disk can spare) and SELECT pg_reload_conf(); "
            "or take that risk with --accept-unbounded-wal.",
        )


def _of_room(facts: FollowingFacts, names: Names) -> Iterator[Refusal]:
    server, slot = facts.server, facts.slot
    if slot is None and server.slots >= server.slots_max:
        yield Refusal(
            "no-free-slot",
            f"all {server.slots_max} replication slots are taken (max_replication_slots)",
            "Drop one that nobody uses (pg_replication_slots), or raise max_replication_slots and restart.",
        )
    free = server.senders_max - server.senders
    if free < SENDERS_NEEDED and not (slot and slot.active):
        yield Refusal(
            "no-free-sender",
            f"of {server.senders_max} WAL senders {free} are free, and following needs {SENDERS_NEEDED}",
            "Raise max_wal_senders and restart the server.",
        )
    if slot is not None and (slot.plugin != "pgoutput" or not slot.here):
        whose = "of another database" if slot.plugin == "pgoutput" else f"of {slot.plugin or 'physical replication'}"
        yield Refusal(
            "slot-taken",
            f"there is a replication slot {names.slot} already, {whose}",
            'Give this source another name for it: slot = "outlast_…" under [sources.NAME] in outlast.toml.',
        )


def of_another_vault(publications: Mapping[str, Publication], names: Names, vault: str) -> Iterator[Refusal]:
    """What somebody else's `outlast follow` reads: were it dropped or read from here, their log would have a gap."""
    for name in names.publications:
        there = publications.get(name)
        if there is not None and there.of_another(vault):
            yield Refusal(
                "another-vault",
                f"the publication {name} and its slot belong to the vault {there.vault}, and this one is {vault}",
                'Give this source a slot of its own: slot = "outlast_…" under [sources.NAME] in outlast.toml. Where '
                f"that vault is given up for good: DROP PUBLICATION {', '.join(names.publications)}; then setup again.",
            )
            return


def _of_names(facts: FollowingFacts, names: Names) -> Iterator[Refusal]:
    for name in names.publications:
        there = facts.publications.get(name)
        if there is None:
            continue
        if not there.ours:
            yield Refusal(
                "publication-taken",
                f"there is a publication {name} that setup did not make (its comment says nothing of Outlast)",
                f"DROP PUBLICATION {name} if nobody subscribes to it, or set another slot under [sources.NAME].",
            )
        elif there.by_rule:
            yield Refusal(
                "publication-by-rule",
                f"somebody made the publication {name} FOR ALL TABLES or for schemas, which takes in tables whose "
                "UPDATE and DELETE then fail",
                f"DROP PUBLICATION {name}, and run setup again.",
            )


def _of_wishes(catalog: Catalog, membership: Membership, wishes: Mapping[str, Wish]) -> Iterator[Refusal]:
    known = {str(table.name) for table in (*catalog.owned, *catalog.shared)}
    for name in sorted(set(wishes) - known):
        yield Refusal(
            "unknown-identity",
            f"[follow] identities names {name}, which is no table that is owned or shared",
            "Write it as under [tables] in outlast.toml, or take it out.",
        )
    for choice in membership.choices:
        if choice.refused:
            yield Refusal(
                "full-generated", f"cannot follow {choice.member.name} as asked: {choice.reason}", choice.hint or ""
            )
