"""Taking following out of a database again: everything that setup made, and the identities that it changed. Pure, apart
from one reading of the tables that are remembered.

The order lets an interruption be resumed, and never leaves the application worse off: first the publication stops to
name updates and deletes (no identity matters then), then identities go back, then the event triggers, then the
publications, which carry the memory of what was changed, and the slot last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
from psycopg import sql

from outlast.sources.postgres import publication, schema_trigger
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.following import (
    LOCKS_EXCLUSIVE,
    LOCKS_NONE,
    FollowingSettings,
    remembered,
)
from outlast.sources.postgres.following_facts import FollowingFacts
from outlast.sources.postgres.following_plan import FollowingPlan, PlanKind, Refusal, Step
from outlast.sources.postgres.following_refusals import of_another_vault
from outlast.sources.postgres.identities import Identity
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.statements import statement


@dataclass(frozen=True, slots=True)
class Changed:
    """A relation whose identity setup changed, and how it stands now. `name` is quoted by the server."""

    oid: int
    name: str
    now: Identity
    indexes: tuple[str, ...]
    owner: str
    may_alter: bool


def read_changed(connection: Session, facts: FollowingFacts, settings: FollowingSettings) -> tuple[Changed, ...]:
    """Those that setup remembers. Raises SourceError."""
    oids = [int(oid) for oid in remembered(facts, settings.names) if oid.isdigit()]
    try:
        rows = connection.execute(statement("following_remembered"), {"relations": oids}).fetchall()
    except psycopg.Error as error:
        raise explain(error, "read which identities setup changed") from error
    return tuple(
        Changed(oid, name, Identity(kind, index if kind == "i" else None), tuple(indexes), owner, may)
        for oid, name, kind, index, indexes, owner, may in rows
    )


def plan_teardown(
    facts: FollowingFacts, changed: tuple[Changed, ...], settings: FollowingSettings, plan_id: str
) -> FollowingPlan:
    """The steps for what is there; none where nothing is."""
    steps = [
        *_quiet(facts, settings),
        *_identities(facts, changed, settings),
        *_events(facts, settings),
        *_publications(facts, settings),
        *_slot(facts, settings),
    ]
    return FollowingPlan(
        plan_id,
        PlanKind.TEARDOWN,
        settings.source,
        facts.server.database,
        settings.names.slot,
        settings.names.publications,
        tuple(steps),
        remarks=tuple(_remarks(facts, changed, settings)),
        refusals=tuple(_refusals(facts, settings)),
    )


def _quiet(facts: FollowingFacts, settings: FollowingSettings) -> Iterator[Step]:
    there = facts.publications.get(settings.names.publication)
    if there is None or not there.ours or not remembered(facts, settings.names) or there.publish == "truncate":
        return
    name = sql.Identifier(there.name)
    yield Step(
        f"quiet {there.name}",
        f"publish nothing but TRUNCATE by {there.name} from now on",
        (sql.SQL("ALTER PUBLICATION {} SET (publish = 'truncate')").format(name).as_string(None),),
        LOCKS_NONE,
        "what is changed from here on is kept by sweeps alone",
        None if there.may_alter else f"only its owner {there.owner} or a superuser may",
    )


def _identities(facts: FollowingFacts, changed: tuple[Changed, ...], settings: FollowingSettings) -> Iterator[Step]:
    known = remembered(facts, settings.names)
    for one in changed:
        before, given = (_identity(entry) for entry in known[str(one.oid)][1:3])
        if one.now != given or before == given or (before.index is not None and before.index not in one.indexes):
            continue
        yield Step(
            f"identity {one.name}",
            f"{one.name}: back to REPLICA IDENTITY {before.words.as_string(None)}",
            (f"ALTER TABLE ONLY {one.name} REPLICA IDENTITY {before.words.as_string(None)}",),
            LOCKS_EXCLUSIVE,
            lacks=None if one.may_alter else f"only its owner {one.owner} or a superuser may",
        )


def _identity(entry: object) -> Identity:
    if isinstance(entry, list) and len(entry) == 2:
        kind, index = entry
        return Identity(str(kind), None if index is None else str(index))
    return Identity("")


def _events(facts: FollowingFacts, settings: FollowingSettings) -> Iterator[Step]:
    if _others(facts, settings):
        return
    statements = schema_trigger.removal(facts.events)
    if statements:
        yield Step(
            "schema events",
            "drop the event triggers and their functions",
            statements,
            LOCKS_NONE,
        )


def _others(facts: FollowingFacts, settings: FollowingSettings) -> list[str]:
    """Publications of other sources of Outlast in this database: the event triggers are theirs too."""
    return [name for name, one in facts.publications.items() if one.ours and name not in settings.names.publications]


def _publications(facts: FollowingFacts, settings: FollowingSettings) -> Iterator[Step]:
    # The partial one first: the other one carries the memory of what was changed.
    for name in reversed(settings.names.publications):
        there = facts.publications.get(name)
        if there is not None and there.ours:
            yield Step(
                f"publication {name}",
                f"drop the publication {name}",
                (publication.drop_publication(name).as_string(None),),
                LOCKS_NONE,
                lacks=None if there.may_alter else f"only its owner {there.owner} or a superuser may",
            )


def _slot(facts: FollowingFacts, settings: FollowingSettings) -> Iterator[Step]:
    slot = facts.slot
    if slot is None or slot.plugin != "pgoutput" or not slot.here:
        return
    name = sql.Literal(settings.names.slot)
    may = facts.server.superuser or facts.server.may_replicate
    yield Step(
        f"slot {settings.names.slot}",
        f"drop the replication slot {settings.names.slot}",
        (sql.SQL("SELECT pg_catalog.pg_drop_replication_slot({})").format(name).as_string(None),),
        LOCKS_NONE,
        f"{slot.lag_bytes:,} bytes of log that it has not confirmed cannot be read any more",
        None if may else "only a superuser or a role with REPLICATION may (the one that follows has it)",
    )


def _refusals(facts: FollowingFacts, settings: FollowingSettings) -> Iterator[Refusal]:
    yield from of_another_vault(facts.publications, settings.names, settings.vault)
    if facts.slot is not None and facts.slot.active and facts.slot.here:
        yield Refusal(
            "following",
            f"somebody reads the slot {settings.names.slot} right now: `outlast follow` is running",
            "Let it end first: stop the service, or `outlast follow --until-current` to take in what is left.",
        )


def _remarks(facts: FollowingFacts, changed: tuple[Changed, ...], settings: FollowingSettings) -> Iterator[str]:
    known = remembered(facts, settings.names)
    for oid, entry in sorted(known.items()):
        one = next((one for one in changed if str(one.oid) == oid), None)
        if one is None:
            yield f"{entry[0]}, whose identity setup changed, is gone"
        elif one.now not in (_identity(entry[2]), _identity(entry[1])):
            yield f"{one.name}: its identity was changed again since setup, and is left as it is"
    others = _others(facts, settings)
    if others and facts.events.triggers:
        yield f"the event triggers stay: {', '.join(others)} uses them too"
    for name in settings.names.publications:
        there = facts.publications.get(name)
        if there is not None and not there.ours:
            yield f"the publication {name} stays: setup did not make it"
