"""The schema of a copy, out of the vault's sections: database, roles, extensions, tables, what comes after the rows.

The sections are run piece by piece, as pg_dump's own headings part them, so that what this server cannot have (an
extension, a collation, a function in a language that is not installed) is named, and the rest is made all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import psycopg
from psycopg import sql

from outlast.core.errors import SourceError
from outlast.rehearsal.observed import Doubt, Inconclusive

_HEADING = re.compile(
    rb"^--\n-- Name: (?P<name>.*?); Type: (?P<kind>[A-Z ]+); Schema: (?P<schema>.*?); Owner.*\n--\n", re.M
)
_RESTRICT = re.compile(rb"^\\(un)?restrict .*\n", re.M)
_TABLESPACE = re.compile(rb"^SET default_tablespace = (?!'').*;$", re.M)
_CREATE = re.compile(r"-- CREATE DATABASE (?P<name>\"(?:[^\"]|\"\")*\"|\S+) (?P<rest>.*);")
_DATABASE_SETTING = re.compile(r"-- (ALTER (?:DATABASE|ROLE) .*;)")
_EXTENSION = re.compile(
    r"-- CREATE EXTENSION (?P<name>\"(?:[^\"]|\"\")*\"|\S+) WITH SCHEMA (?P<schema>.*) VERSION '(?P<version>.*)';"
)
_ROLE = re.compile(r"CREATE ROLE (?P<name>\"(?:[^\"]|\"\")*\"|\S+) WITH")

_NEVER = frozenset({"SUBSCRIPTION", "SUBSCRIPTION TABLE"})
"""Kinds that a copy must not have: a subscription would begin to work."""

_HARMLESS = frozenset({"COMMENT", "ACL", "DEFAULT ACL", "PUBLICATION", "PUBLICATION TABLE", "SECURITY LABEL"})
"""Kinds that fail only because of something that was named before, or that no script's effect hangs on."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One entry of pg_dump's table of contents."""

    name: str
    kind: str
    schema: str
    text: bytes


@dataclass
class SchemaPoints:
    """What the copy could not have."""

    points: set[Inconclusive] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)
    """Objects that could not be made, with why: shown, and more than one of them is one point each."""
    _lock: Lock = field(default_factory=Lock)

    def add(self, doubt: Doubt, what: str) -> None:
        with self._lock:
            self.points.add(Inconclusive(doubt, what))


def pieces(section: bytes) -> Iterator[Piece]:
    """A section's entries in order, its preamble without a name first. psql's own commands are left out."""
    text = _TABLESPACE.sub(b"SET default_tablespace = '';", _RESTRICT.sub(b"", section))
    found = list(_HEADING.finditer(text))
    yield Piece("", "PREAMBLE", "", text[: found[0].start()] if found else text)
    for number, match in enumerate(found):
        end = found[number + 1].start() if number + 1 < len(found) else len(text)
        name, kind, schema = (match[part].decode("utf-8", "replace") for part in ("name", "kind", "schema"))
        yield Piece(name, kind, schema, text[match.end() : end])


@dataclass(frozen=True, slots=True)
class Database:
    """How the source's database was made, and what is set for it."""

    name: str
    options: str
    settings: tuple[str, ...]


def database_of(section: str) -> Database:
    """From the section `database`. An empty one (an older vault's) gives the server's defaults."""
    match = _CREATE.search(section)
    settings = tuple(line[1] for line in _DATABASE_SETTING.finditer(section))
    if match is None:
        return Database("rehearsal", "TEMPLATE template0", settings)
    return Database(_unquoted(match["name"]), match["rest"], settings)


def make_database(connection: psycopg.Connection[Any], wanted: Database, points: SchemaPoints) -> None:
    """CREATE DATABASE, as the source's or, where this server has no such locale, with the copy's own."""
    name = sql.Identifier(wanted.name)
    if wanted.name == "postgres":
        return
    try:
        connection.execute(sql.SQL("CREATE DATABASE {} ").format(name) + sql.SQL(wanted.options))
    except psycopg.Error:
        found = re.search(r"(?:ICU_LOCALE|BUILTIN_LOCALE|LC_COLLATE) '([^']*)'", wanted.options)
        points.add(Doubt.COLLATION, found[1] if found else wanted.options)
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(name))


def make_roles(connection: psycopg.Connection[Any], section: str, points: SchemaPoints) -> None:
    """The roles with all that they had, superuser and BYPASSRLS included: here nobody is reached by them."""
    for line in section.splitlines():
        statement, _, remark = line.partition(" -- was also:")
        if not statement or statement.startswith("--"):
            continue
        run_setting(connection, statement, points)
        role = _ROLE.search(statement)
        if remark and role:
            run_setting(connection, f"ALTER ROLE {role['name']} WITH{remark}", points)


def make_database_grants(connection: psycopg.Connection[Any], section: str, points: SchemaPoints) -> None:
    """Who may do what with the database itself; they stand as remarks, for the database must be there."""
    for line in section.splitlines():
        if line.startswith("-- GRANT "):
            run_setting(connection, line.removeprefix("-- "), points)


def run_setting(connection: psycopg.Connection[Any], statement: str, points: SchemaPoints) -> None:
    """One statement about roles or settings, without which the copy is still a copy."""
    try:
        connection.execute(statement.encode("utf-8", "surrogateescape"))
    except psycopg.Error as error:
        points.missing.append(f"{statement.partition(' SET ')[0]}: {_first_line(error)}")


def make_extensions(connection: psycopg.Connection[Any], section: str, points: SchemaPoints) -> None:
    """Which of the source's extensions this server lacks, or has in another version, is a point each."""
    installed = dict(connection.execute("SELECT extname, extversion FROM pg_catalog.pg_extension").fetchall())
    for match in map(_EXTENSION.match, section.splitlines()):
        if match is None:
            continue
        name = _unquoted(match["name"])
        if name not in installed:
            points.add(Doubt.EXTENSION, name)
        elif installed[name] != match["version"]:
            points.missing.append(f"extension {name}: the source has {match['version']}, the copy {installed[name]}")


def run_pieces(connection: psycopg.Connection[Any], found: Sequence[Piece], points: SchemaPoints) -> None:
    """Run entries in order; what fails is noted. The connection commits each by itself."""
    for piece in found:
        run_piece(connection, piece, points)


def run_piece(connection: psycopg.Connection[Any], piece: Piece, points: SchemaPoints) -> None:
    if piece.kind in _NEVER:
        points.missing.append(f"{piece.kind.lower()} {piece.name}: it would begin to work")
        return
    try:
        connection.execute(piece.text)
    except psycopg.Error as error:
        note_failure(piece, error, points)


def note_failure(piece: Piece, error: psycopg.Error, points: SchemaPoints) -> None:
    if piece.kind == "PREAMBLE":
        raise SourceError(f"the schema in the vault cannot be run here: {_first_line(error)}") from error
    if piece.kind == "SCHEMA" and error.sqlstate == "42P06":
        return
    told = f"{piece.kind.lower()} {piece.schema}.{piece.name}: {_first_line(error)}"
    points.missing.append(told)
    if piece.kind == "EXTENSION":
        points.add(Doubt.EXTENSION, piece.name)
    elif piece.kind == "COLLATION":
        points.add(Doubt.COLLATION, piece.name)
    elif piece.kind not in _HARMLESS:
        points.add(Doubt.SCHEMA, f"{piece.kind.lower()} {piece.schema}.{piece.name}".removeprefix("- "))


def sections(tables: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """The dump's sections by name, each of them there, be it empty."""
    return {
        name: tables.get(name, b"") for name in ("database", "roles-and-grants", "extensions", "pre-data", "post-data")
    }


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _first_line(error: psycopg.Error) -> str:
    return (error.diag.message_primary or str(error)).partition("\n")[0]
