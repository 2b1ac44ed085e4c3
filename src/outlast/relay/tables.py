"""The relay's tables. Times are seconds since the epoch; `body` and `fields` are JSON."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, Table, Text, text

from outlast.state.database import Schema

metadata = MetaData()

_Long = BigInteger().with_variant(Integer, "sqlite")

events = Table(
    "relay_event",
    metadata,
    Column("seq", _Long, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False, unique=True),
    Column("at", Float, nullable=False),
    Column("integration", Text, nullable=False),
    Column("vendor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("alert_id", Text),
    Column("status", Text, nullable=False),
    Column("success", Boolean, nullable=False),
    Column("body", Text, nullable=False),
    Index("relay_event_alert", "alert_id", "seq"),
)
"""Everything that was accepted, in the order in which it was: the journal."""

alerts = Table(
    "relay_alert",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tiny", _Long, nullable=False, unique=True),
    Column("scope", Text, nullable=False),
    Column("alias", Text, nullable=False),
    Column("open_key", Text, unique=True),  # scope and alias while it is open: one open alert each
    Column("integration", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("acknowledged", Boolean, nullable=False),
    Column("snoozed_until", Float),
    Column("owner", Text, nullable=False),
    Column("priority", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("count", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("last_at", Float, nullable=False),
    Column("paged_at", Float),
    Column("fields", Text, nullable=False),
    Index("relay_alert_alias", "scope", "alias", "tiny"),
    Index("relay_alert_status", "status", "tiny"),
    Index("relay_alert_created", "created_at"),
    Index(
        "relay_alert_snoozed",
        "snoozed_until",
        sqlite_where=text("snoozed_until IS NOT NULL"),
        postgresql_where=text("snoozed_until IS NOT NULL"),
    ),
    Index(
        "relay_alert_waiting",
        "tiny",
        sqlite_where=text("status = 'open' AND acknowledged = 0"),
        postgresql_where=text("status = 'open' AND NOT acknowledged"),
    ),
)

lines = Table(
    "relay_line",
    metadata,
    Column("id", _Long, primary_key=True, autoincrement=True),
    Column("alert_id", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("by", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("text", Text, nullable=False),
    Index("relay_line_alert", "alert_id", "id"),
)
"""Each alert's own log: notes, and what was done to it."""

deliveries = Table(
    "relay_delivery",
    metadata,
    Column("seq", _Long, primary_key=True, autoincrement=False),  # the event's
    Column("upstream", Text, primary_key=True),
    Column("alert_id", Text, nullable=False),
    Column("at", Float, nullable=False),  # when the event was accepted
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("due_at", Float, nullable=False, default=0.0),
    Column("reference", Text),  # the vendor's requestId, while its outcome is not known
    Column("told", Text),  # what the vendor last answered, for people
    Column("unjudged", Boolean, nullable=False),  # may still have to be paged for
    Index(
        "relay_delivery_open",
        "upstream",
        "seq",
        sqlite_where=text("state IN ('waiting', 'accepted')"),
        postgresql_where=text("state IN ('waiting', 'accepted')"),
    ),
    Index("relay_delivery_unjudged", "at", sqlite_where=text("unjudged = 1"), postgresql_where=text("unjudged")),
)
"""What each upstream is still to be told, and what it was told."""

integrations = Table(
    "relay_integration",
    metadata,
    Column("name", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("key_hash", Text, nullable=False, unique=True),
    Column("upstreams", Text),  # names, comma-separated; NULL: all there are
    Column("service", Text),
    Column("created_at", Float, nullable=False),
    Column("revoked_at", Float),
)

overrides = Table(
    "relay_override",
    metadata,
    Column("upstream", Text, primary_key=True),
    Column("mode", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("at", Float, nullable=False),
)
"""Where a person decided whether an upstream is to be believed, instead of the breaker."""

identity = Table("relay_identity", metadata, Column("id", Text, primary_key=True))
"""This installation's id, by which it knows its own events when they come back."""

SCHEMA = Schema("relay", metadata)
