"""Whether following, as it stands in a database, still does what it should: asked by `check`, and by `follow` at its
start and every minute.

An error is a table whose changes are being lost, or an application whose writes fail because of us. A warning is a
promise that is weaker than it could be.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from outlast.core.table import Table
from outlast.sources.postgres import publication, schema_trigger
from outlast.sources.postgres.following import FollowingSettings, unprotected
from outlast.sources.postgres.following_facts import FollowingFacts, Member, read_following
from outlast.sources.postgres.identities import breaks
from outlast.sources.postgres.publication import PARTIAL_ACTIONS, WHOLE_ACTIONS, Membership
from outlast.sources.postgres.schema import Catalog, Notice
from outlast.sources.postgres.session import Session

_AGAIN = "Run: outlast follow --setup --execute"


def verify(session: Session, catalog: Catalog, settings: FollowingSettings) -> tuple[Notice, ...]:
    """What is not as it should be, errors first; for a source that is followed. Raises SourceError."""
    facts = read_following(session, catalog, settings.names)
    membership = publication.wanted(facts, _tables(catalog), settings.wishes, settings.names)
    found = [
        *_of_publications(facts, settings),
        *_of_tables(facts, settings, membership),
        *_of_slot(facts, settings),
        *_of_server(facts, settings),
        *_of_events(facts),
        *_of_unprotected(facts, membership),
    ]
    order = {"error": 0, "warning": 1, "info": 2}
    return tuple(sorted(found, key=lambda notice: order[notice.level]))


def _tables(catalog: Catalog) -> tuple[Table, ...]:
    return (*catalog.owned, *catalog.shared)


def of_following(session: Session, catalog: Catalog, settings: FollowingSettings) -> tuple[Notice, ...]:
    """The same for `check`, where nothing of it stops a backup, and where a source may not be followed at all."""
    facts = read_following(session, catalog, settings.names)
    if is_set_up(facts, settings):
        found = list(verify(session, catalog, settings))
        level = {"error": "warning"}
    else:
        membership = publication.wanted(facts, _tables(catalog), settings.wishes, settings.names)
        found = [_NOT_SET_UP, *_of_server(facts, settings), *_of_unprotected(facts, membership)]
        level = {"error": "info", "warning": "info"}
    if facts.server.synchronous_commit == "off":
        found.append(_ASYNCHRONOUS)
    return tuple(replace(notice, level=level.get(notice.level, notice.level)) for notice in found)


_NOT_SET_UP = Notice(
    "info",
    "not-set-up",
    "this source is not followed: what is written between two backups is not protected",
    "See what following needs here, and what it would not keep: outlast follow --setup",
    promise="follow",
)
_ASYNCHRONOUS = Notice(
    "info",
    "asynchronous-commit",
    "synchronous_commit is off: a crash loses commits that were reported as done, and following sees a commit only "
    "when it is on disk, up to three times wal_writer_delay later",
    None,
    promise="follow",
)


def is_set_up(facts: FollowingFacts, settings: FollowingSettings) -> bool:
    there = facts.publications.get(settings.names.publication)
    return there is not None and there.ours


def _notice(level: str, code: str, message: str, hint: str | None = _AGAIN, member: Member | None = None) -> Notice:
    return Notice(level, code, message, hint, member.name if member else None, "follow")


def _of_publications(facts: FollowingFacts, settings: FollowingSettings) -> Iterator[Notice]:
    for name, actions in zip(settings.names.publications, (WHOLE_ACTIONS, PARTIAL_ACTIONS), strict=True):
        there = facts.publications.get(name)
        if there is None:
            yield _notice("error", "publication-missing", f"the publication {name} is gone: nothing is captured")
        elif there.publish != actions or there.via_root or there.generated or there.by_rule:
            yield _notice(
                "error", "publication-altered", f"the publication {name} does not publish {actions} by leaf any more"
            )


def _of_tables(facts: FollowingFacts, settings: FollowingSettings, membership: Membership) -> Iterator[Notice]:
    whole, partial = (publication.covered(facts, name) for name in settings.names.publications)
    for choice in membership.choices:
        member = choice.member
        if member.oid in whole and breaks(member):
            yield _notice(
                "error",
                "identity-lost",
                f"{member.name} has lost the replica identity by which it is published: UPDATE and DELETE of it FAIL "
                "for the application",
                member=member,
            )
    for member in membership.whole:
        missing = [leaf for leaf in _stored(facts, member) if leaf.persistence == "p" and leaf.oid not in whole]
        if missing:
            how = "inserts and truncates of it are captured, updates and deletes are lost"
            lost = how if all(leaf.oid in partial for leaf in missing) else "its changes are not captured"
            yield _notice(
                "error", "unpublished", f"{member.name} is not in {settings.names.publication}: {lost}", member=member
            )
    for member in membership.partial:
        missing = [leaf for leaf in _stored(facts, member) if leaf.oid not in partial and leaf.oid not in whole]
        if missing:
            yield _notice(
                "error",
                "unpublished",
                f"{member.name} is not in {settings.names.partial}: its inserts are not captured",
                member=member,
            )
    for member in facts.members:
        if set(member.narrowed) & set(settings.names.publications):
            yield _notice(
                "error",
                "narrowed",
                f"{member.name} is published with a list of columns or a filter: parts of its changes are not captured",
                member=member,
            )


def _stored(facts: FollowingFacts, member: Member) -> list[Member]:
    return facts.leaves(member.oid) if member.is_root else [member]


def _of_slot(facts: FollowingFacts, settings: FollowingSettings) -> Iterator[Notice]:
    slot, name = facts.slot, settings.names.slot
    if slot is None:
        yield _notice(
            "error",
            "slot-missing",
            f"there is no replication slot {name}: nothing is captured",
            "Run: outlast follow (it makes the slot, and a new baseline)",
        )
    elif slot.wal_status == "lost":
        yield _notice(
            "error",
            "slot-lost",
            f"the server dropped the log that the slot {name} needs: it was not read for too long",
            "Run: outlast follow (it makes a new slot, and a new baseline)",
        )
    elif slot.wal_status == "unreserved":
        yield _notice(
            "warning",
            "slot-behind",
            f"the slot {name} is {slot.lag_bytes:,} bytes behind, and the server may drop what it needs at any time",
            "See that `outlast follow` runs and reaches the vault.",
        )


def _of_server(facts: FollowingFacts, settings: FollowingSettings) -> Iterator[Notice]:
    server = facts.server
    if server.wal_level != "logical":
        yield _notice(
            "error",
            "wal-level",
            f"wal_level is {server.wal_level}: changes cannot be read from the log",
            "ALTER SYSTEM SET wal_level = logical, and restart.",
        )
    if server.slot_limit == "-1":
        yield _notice(
            "warning",
            "slot-limit",
            "max_slot_wal_keep_size is not set: if `follow` stops for long, the server's log fills its disk",
            "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB', or what the disk can spare; SELECT pg_reload_conf().",
        )


def _of_events(facts: FollowingFacts) -> Iterator[Notice]:
    missing = schema_trigger.missing(facts.events)
    if missing or not facts.server.event_triggers:
        yield _notice(
            "warning",
            "no-schema-events",
            f"{'the event triggers are not there' if missing else 'event_triggers is off'}: {schema_trigger.DEGRADED}",
            "As a superuser (or what the managed service has instead): outlast follow --setup --execute",
        )


def _of_unprotected(facts: FollowingFacts, membership: Membership) -> Iterator[Notice]:
    for one in unprotected(facts, membership):
        yield Notice(
            "warning", "not-followed", f"{one.table}: {one.what} not captured: {one.reason}", one.hint, None, "follow"
        )
