"""The tables in which incidents, subscribers and letters are kept, in the state that all instances share."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, MetaData, Table, Text, UniqueConstraint

from outlast.state.database import Schema

_metadata = MetaData()

# Times are ISO 8601 texts in UTC, which sort as they should on every database.

events = Table(
    "incident_event",
    _metadata,
    Column("incident", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("facts", Text, nullable=False),  # JSON
    Column("key", Text),  # what happens once only
    UniqueConstraint("incident", "key"),
)

sources = Table(  # which incident a thing that Outlast saw belongs to: an alarm is one incident, however often told
    "incident_source",
    _metadata,
    Column("source", Text, primary_key=True),
    Column("incident", Text, nullable=False),
)

subscribers = Table(
    "subscriber",
    _metadata,
    Column("id", Text, primary_key=True),
    Column("channel", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("language", Text, nullable=False),
    Column("component", Text, nullable=False),  # "" for all
    Column("tenant", Text, nullable=False),  # "" for none
    Column("state", Text, nullable=False),
    Column("since", Text, nullable=False),
    Column("bounces", Integer, nullable=False, default=0),
    Column("secret", Text),  # what a webhook's body is signed with
    UniqueConstraint("channel", "address", "component", "tenant"),
)

letters = Table(
    "letter",
    _metadata,
    Column("id", Text, primary_key=True),  # made of what it says to whom: the same letter is never written twice
    Column("subscriber", Text),  # None: a tenant's contact, who subscribed to nothing
    Column("incident", Text),
    Column("tenant", Text),
    Column("channel", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("body", Text, nullable=False),  # for a webhook its JSON
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("due", Text, nullable=False),
    Column("sent", Text),
    Column("problem", Text),
    Column("worker", Text),
    Index("letter_due", "state", "channel", "due"),
)

keys = Table("incident_key", _metadata, Column("name", Text, primary_key=True), Column("value", Text, nullable=False))

SCHEMA = Schema("incident", _metadata)
