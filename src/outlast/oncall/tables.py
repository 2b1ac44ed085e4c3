"""Paging's tables. Times are seconds since the epoch; `page` and `step` are JSON."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, Table, Text, text

from outlast.state.database import Schema

metadata = MetaData()

_Long = BigInteger().with_variant(Integer, "sqlite")

pages = Table(
    "paging_page",
    metadata,
    Column("alert_id", Text, primary_key=True),
    Column("page", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("state", Text, nullable=False),
    Column("policy", Text, nullable=False, default=""),  # its name, for people
    Column("planned", Boolean, nullable=False),
    Column("round", Integer, nullable=False, default=0),  # the first of the newest plan
    Column("acknowledged_at", Float),
    Column("acknowledged_by", Text),
    Column("closed_at", Float),
    Column("close_at", Float),
    Column("shout_at", Float),
    Column("shouted_at", Float),  # those of last resort have it
    Column("wake_at", Float),  # when to look at it again; NULL: when something happens
    Index(
        "paging_page_wake",
        "wake_at",
        sqlite_where=text("wake_at IS NOT NULL"),
        postgresql_where=text("wake_at IS NOT NULL"),
    ),
)

steps = Table(
    "paging_step",
    metadata,
    Column("alert_id", Text, primary_key=True),
    Column("round", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("due_at", Float, nullable=False),
    Column("step", Text, nullable=False),
    Column("fresh_since", Float),
    Column("state", Text, nullable=False),
    Column("people", Integer, nullable=False, default=0),
    Column("done_at", Float),
)

notices = Table(
    "paging_notice",
    metadata,
    Column("id", _Long, primary_key=True, autoincrement=True),
    Column("alert_id", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("person", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("due_at", Float, nullable=False),
    Column("state", Text, nullable=False),
    Column("tries", Integer, nullable=False, default=0),
    Column("lease_until", Float),
    Column("doubtful", Boolean, nullable=False, default=False),  # may have gone out twice
    Column("told", Text, nullable=False, default=""),  # the outcome, for people
    Column("sent_at", Float),
    Column("used_at", Float),  # its link was used
    Index("paging_notice_alert", "alert_id", "id"),
    Index("paging_notice_address", "address", "sent_at"),
)

secrets = Table("paging_secret", metadata, Column("id", Integer, primary_key=True), Column("key", Text, nullable=False))
"""What acknowledgement links are signed with: one row, made when the tables are."""

SCHEMA = Schema("paging", metadata)
