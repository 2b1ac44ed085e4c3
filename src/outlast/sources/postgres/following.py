"""Setting up following: out of what the catalog says, the plan of what must be made in the database. Pure.

What is published is publication.py's, by which identity is identities.py's, the event triggers are schema_trigger.py's.
The plan of a database that has everything is empty: running setup again makes what is missing, and nothing else.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from psycopg import sql

from outlast.sources.postgres import publication, schema_trigger
from outlast.sources.postgres.following_facts import FollowingFacts, Member, Names, Publication
from outlast.sources.postgres.following_plan import FollowingPlan, PlanKind, Step, Unprotected
from outlast.sources.postgres.following_refusals import refusals
from outlast.sources.postgres.identities import Choice, Identity, Share, Wish
from outlast.sources.postgres.publication import PARTIAL_ACTIONS, WHOLE_ACTIONS, Membership
from outlast.sources.postgres.schema import Catalog

LOCKS_SHARED = "SHARE UPDATE EXCLUSIVE for milliseconds: reads and writes go on, DDL and VACUUM of them wait"
LOCKS_EXCLUSIVE = "ACCESS EXCLUSIVE for milliseconds (nothing is rewritten): reads and writes of it wait that long"
LOCKS_NONE = "none on any table"


@dataclass(frozen=True, slots=True)
class FollowingSettings:
    """What outlast.toml says about following a source. `vault` is the id of the vault that its log goes to."""

    source: str
    names: Names
    vault: str = ""
    wishes: Mapping[str, Wish] = field(default_factory=dict)  # by table, as str(TableName) writes it
    accept_unbounded_wal: bool = False


def plan_setup(facts: FollowingFacts, catalog: Catalog, settings: FollowingSettings, plan_id: str) -> FollowingPlan:
    """The steps that are missing, what stays unprotected, and why it may not be done at all, if so."""
    tables = sorted((*catalog.owned, *catalog.shared), key=lambda table: table.name)
    membership = publication.wanted(facts, tables, settings.wishes, settings.names)
    steps = [
        *_publications(facts, settings, membership),
        *_members(facts, settings, membership),
        *_options(facts, settings),
    ]
    events, remark = schema_trigger.plan(facts)
    lesser = {choice.member.root_oid for choice in membership.choices if choice.share is not Share.WHOLE}
    return FollowingPlan(
        plan_id,
        PlanKind.SETUP,
        settings.source,
        facts.server.database,
        settings.names.slot,
        settings.names.publications,
        (*steps, *events),
        tuple(unprotected(facts, membership)),
        tuple(_remarks(facts, settings, remark)),
        refusals(
            facts,
            catalog,
            settings.names,
            membership,
            settings.wishes,
            accept=settings.accept_unbounded_wal,
            vault=settings.vault,
        ),
        len({choice.member.root_oid for choice in membership.choices} - lesser),
        len(lesser),
        {"accept_unbounded_wal": settings.accept_unbounded_wal},
    )


def plan_adoption(facts: FollowingFacts, catalog: Catalog, settings: FollowingSettings, plan_id: str) -> FollowingPlan:
    """The steps for partitions that came since setup to tables whose other partitions are named one by one."""
    membership = publication.wanted(facts, (*catalog.owned, *catalog.shared), settings.wishes, settings.names)
    there = facts.publications.get(settings.names.publication)
    named = there.members if there is not None and there.ours else {}
    followed = {member.root_oid for member in facts.members if member.oid in named and not member.is_root}
    fresh = [one for one in membership.whole if one.root_oid in followed and not one.is_root and one.oid not in named]
    oids = {member.oid for member in fresh}
    mine = Membership(tuple(fresh), (), tuple(choice for choice in membership.choices if choice.member.oid in oids))
    steps = [*_publications(facts, settings, mine), *_identified(facts, settings.names, mine, named)] if fresh else []
    return FollowingPlan(
        plan_id,
        PlanKind.SETUP,
        settings.source,
        facts.server.database,
        settings.names.slot,
        settings.names.publications,
        tuple(steps),
    )


# Publications ----------------------------------------------------------------------------------------------------


def _publications(facts: FollowingFacts, settings: FollowingSettings, membership: Membership) -> Iterator[Step]:
    names = settings.names
    memory = _memory(facts, settings, membership)
    for name, actions in ((names.publication, WHOLE_ACTIONS), (names.partial, PARTIAL_ACTIONS)):
        there = facts.publications.get(name)
        comment = memory if name == names.publication else _comment(there, settings, {}, {})
        if there is None:
            yield Step(
                f"publication {name}",
                f"make the publication {name} ({actions}), empty",
                _sql(publication.create(name, actions), publication.comment(name, comment)),
                LOCKS_NONE,
                lacks=None if facts.server.may_create else _may_not_create(facts),
            )
            continue
        if there.comment != comment:
            yield Step(
                f"memory {name}",
                f"note in the comment of {name} which replica identities are changed, for the way back",
                _sql(publication.comment(name, comment)),
                LOCKS_NONE,
                lacks=_lacks(facts, name, ()),
            )


def _options(facts: FollowingFacts, settings: FollowingSettings) -> Iterator[Step]:
    """Last of all: a publication that is set to updates before its tables have an identity makes them fail."""
    for name, actions in zip(settings.names.publications, (WHOLE_ACTIONS, PARTIAL_ACTIONS), strict=True):
        there = facts.publications.get(name)
        if there is not None and (there.publish != actions or there.via_root or there.generated):
            yield Step(
                f"options {name}",
                f"let {name} publish {actions}, by leaf and without generated columns",
                _sql(publication.reset(name, actions, facts.server.version)),
                LOCKS_NONE,
                lacks=_lacks(facts, name, ()),
                last=True,
            )


def _may_not_create(facts: FollowingFacts) -> str:
    return f"this role ({facts.server.role}) lacks CREATE on database {facts.server.database}"


def _marked(settings: FollowingSettings, identities: Mapping[str, object]) -> str:
    return json.dumps({"outlast": 1, "source": settings.source, "vault": settings.vault, "identities": identities})


def _comment(
    there: Publication | None,
    settings: FollowingSettings,
    known: Mapping[str, object],
    wanted: Mapping[str, object],
) -> str:
    """Left as it is where it says all of it already."""
    if there is not None and there.ours and known == wanted and settings.vault in ("", there.vault):
        return there.comment
    return _marked(settings, wanted)


def _memory(facts: FollowingFacts, settings: FollowingSettings, membership: Membership) -> str:
    """The publication's comment: which identities setup changes, from what to what, so that teardown can undo it.

    Written before the first change. What is not as setup made it when teardown comes is left alone.
    """
    known = dict(remembered(facts, settings.names))
    for choice in membership.choices:
        if choice.change is None:
            continue
        key = str(choice.member.oid)
        former = known[key][1] if key in known else Identity.of(choice.member).to_json()
        known[key] = [str(choice.member.name), former, choice.change.to_json()]
    there = facts.publications.get(settings.names.publication)
    return _comment(there, settings, remembered(facts, settings.names), known)


def remembered(facts: FollowingFacts, names: Names) -> dict[str, list[object]]:
    """What setup changed, by the relation's number: its name, the identity before, the identity it got."""
    there = facts.publications.get(names.publication)
    if there is None or not there.ours:
        return {}
    try:
        found = json.loads(there.comment)["identities"]
    except (ValueError, KeyError, TypeError):
        return {}  # a person wrote over it: refusals.py says so where it matters
    return found if isinstance(found, dict) else {}


# Tables ----------------------------------------------------------------------------------------------------------


def _members(facts: FollowingFacts, settings: FollowingSettings, membership: Membership) -> Iterator[Step]:
    names = settings.names
    whole, partial = (facts.publications.get(name) for name in names.publications)
    in_whole = dict(whole.members) if whole else {}
    in_partial = dict(partial.members) if partial else {}
    wanted_whole = {member.oid: member for member in membership.whole}
    wanted_partial = {member.oid: member for member in membership.partial}
    yield from _leaving(facts, names, in_whole, wanted_whole, wanted_partial, in_partial)
    yield from _identified(facts, names, membership, in_whole)
    yield from _widening(facts, names, membership)
    later = [member for member in membership.partial if member.oid not in in_partial]
    later = [member for member in later if member.oid not in in_whole]  # those moved in _leaving
    yield from _adding(facts, names.partial, later, "partial")
    yield from _dropping(facts, names.partial, [oid for oid in in_partial if oid not in wanted_partial])


def _identified(
    facts: FollowingFacts, names: Names, membership: Membership, in_whole: Mapping[int, str]
) -> Iterator[Step]:
    """What is published whole and is not yet, each with the identity that it needs for it."""
    wanted = {member.oid for member in membership.whole}
    changes: dict[int, list[Choice]] = defaultdict(list)
    for choice in membership.choices:
        if choice.change is not None:
            carrier = choice.member.root_oid if choice.member.root_oid in wanted else choice.member.oid
            changes[carrier].append(choice)
    plain: list[Member] = []
    for member in membership.whole:
        missing = member.oid not in in_whole
        if member.oid in changes:
            yield _with_identity(facts, names, member, changes[member.oid], missing=missing)
        elif missing:
            plain.append(member)
    yield from _adding(facts, names.publication, plain, "whole")


def _leaving(
    facts: FollowingFacts,
    names: Names,
    in_whole: Mapping[int, str],
    wanted_whole: Mapping[int, Member],
    wanted_partial: Mapping[int, Member],
    in_partial: Mapping[int, str],
) -> Iterator[Step]:
    """What may no longer be published whole goes first: the application's UPDATE and DELETE may be failing on it."""
    gone = [oid for oid in in_whole if oid not in wanted_whole and oid not in wanted_partial]
    for oid in [oid for oid in in_whole if oid in wanted_partial]:
        member = wanted_partial[oid]
        statements = [publication.drop(names.publication, [in_whole[oid]])]
        if oid not in in_partial:
            statements.append(publication.add(names.partial, [member]))
        yield Step(
            f"move {member.name}",
            f"publish inserts and truncates of {member.name} only",
            _sql(*statements),
            LOCKS_SHARED,
            lacks=_lacks(facts, names.publication, [member]),
        )
    yield from _dropping(facts, names.publication, gone)


def _widening(facts: FollowingFacts, names: Names, membership: Membership) -> Iterator[Step]:
    """Out and in again, in one transaction: a list of columns or a filter cannot be taken off otherwise."""
    for name, members in zip(names.publications, (membership.whole, membership.partial), strict=True):
        for member in members:
            if name in member.narrowed:
                quoted = facts.publications[name].members[member.oid]
                yield Step(
                    f"widen {name} {member.name}",
                    f"publish {member.name} without the list of columns or the filter that somebody gave it",
                    _sql(publication.drop(name, [quoted]), publication.add(name, [member])),
                    LOCKS_SHARED,
                    lacks=_lacks(facts, name, [member]),
                )


def _dropping(facts: FollowingFacts, name: str, oids: Sequence[int]) -> Iterator[Step]:
    if not oids:
        return
    there = facts.publications[name]
    quoted = [there.members[oid] for oid in oids]
    yield Step(
        f"drop from {name}",
        f"take out of {name} what is not published by itself any more: {_named(quoted)}",
        _sql(publication.drop(name, quoted)),
        LOCKS_SHARED,
        lacks=None if there.may_alter else f"only its owner {there.owner} or a superuser may",
    )


def _with_identity(
    facts: FollowingFacts, names: Names, member: Member, choices: Sequence[Choice], *, missing: bool
) -> Step:
    """The identity and the publication in one transaction: published without it, UPDATE would fail."""
    statements = []
    for choice in choices:
        assert choice.change is not None
        statements.append(alter_identity(choice.member, choice.change))
    if missing:
        statements.append(publication.add(names.publication, [member]))
    shown = choices[0].change
    assert shown is not None
    full = any(choice.change is not None and choice.change.kind == "f" for choice in choices)
    and_more = f" ({len(choices)} partitions)" if len(choices) > 1 else ""
    return Step(
        f"identity {member.name}",
        f"{member.name}{and_more}: REPLICA IDENTITY {shown.words.as_string(None)}, and publish it",
        _sql(*statements),
        LOCKS_EXCLUSIVE,
        "every UPDATE and DELETE writes the whole old row to the log" if full else "",
        _lacks(facts, names.publication, [member, *(choice.member for choice in choices)]),
    )


def alter_identity(member: Member, identity: Identity) -> sql.Composed:
    return sql.SQL("ALTER TABLE ONLY {} REPLICA IDENTITY {}").format(publication.identifier(member), identity.words)


def _adding(facts: FollowingFacts, name: str, members: Sequence[Member], how: str) -> Iterator[Step]:
    by_right: dict[str | None, list[Member]] = defaultdict(list)
    for member in members:
        by_right[_lacks(facts, name, [member])].append(member)
    for lacks, mine in by_right.items():
        for batch in publication.batches(mine):
            what = "every change" if how == "whole" else "inserts and truncates only"
            yield Step(
                f"publish {how} {batch[0].name}",
                f"publish {what} of {_named([str(member.name) for member in batch])}",
                _sql(publication.add(name, batch)),
                LOCKS_SHARED,
                lacks=lacks,
            )


def _lacks(facts: FollowingFacts, name: str, members: Iterable[Member]) -> str | None:
    """What this role lacks to alter these tables and the publication; a table's owner alone may publish it."""
    there = facts.publications.get(name)
    if there is not None and not there.may_alter:
        return f"only a superuser, or a role that is both {there.owner} and the tables' owner, may"
    owners = sorted({member.owner for member in members if not member.may_alter})
    if owners:
        return (
            f"this role ({facts.server.role}) does not own it: run it as a superuser, or GRANT {', '.join(owners)} TO "
            f"{facts.server.role} for as long as setup takes"
        )
    return None


# What is said ----------------------------------------------------------------------------------------------------


def unprotected(facts: FollowingFacts, membership: Membership) -> Iterator[Unprotected]:
    """What following will not keep, by table, with the reason; leaves of one table are told together."""
    grouped: dict[tuple[int, Share, str], list[Choice]] = defaultdict(list)
    for choice in membership.choices:
        if choice.share is not Share.WHOLE:
            grouped[choice.member.root_oid, choice.share, choice.reason].append(choice)
    for (root_oid, share, reason), choices in grouped.items():
        root = facts.root(root_oid)
        name = str(root.name) if root else str(choices[0].member.name)
        if root and root.partitioned:
            example = choices[0].member.name
            name += f" ({len(choices)} of its {len(facts.leaves(root_oid))} partitions, such as {example})"
        what = "updates and deletes" if share is Share.PARTIAL else "every change"
        yield Unprotected(name, what, reason, choices[0].hint)


def _remarks(facts: FollowingFacts, settings: FollowingSettings, events: str | None) -> Iterator[str]:
    limit = facts.server.slot_limit
    if limit == "-1":
        yield (
            "max_slot_wal_keep_size is not set, and that is accepted: if `follow` stops for long, the server keeps its "
            "log for it until the disk is full, and then stops"
        )
    else:
        yield (
            f"the slot {settings.names.slot} is made by the first `outlast follow`; while nobody reads it the server "
            f"keeps up to {limit} of log (max_slot_wal_keep_size), then drops what the slot needs, which is loud"
        )
    if facts.running.oldest:
        yield (
            "the first `outlast follow` will wait, 10 minutes at most, for transactions that run now: "
            f"{facts.running}. To end it: {facts.running.ending}"
        )
    if facts.server.fsync == "off":
        yield "fsync is off: after a crash of the server the log and the tables may disagree"
    if events:
        yield events


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _sql(*statements: sql.Composable) -> tuple[str, ...]:
    return tuple(statement.as_string(None) for statement in statements)
