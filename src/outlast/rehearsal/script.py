"""A script: a .sql file's statements, and which of them Outlast can run guarded, not guarded, or not at all. Pure.

It is parsed by PostgreSQL's own parser (pglast), so nothing hides in a string of several statements. What it may do is
decided here once, and holds for the rehearsal and for production: one transaction, statement by statement.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outlast.core.errors import Refused, UsageError
from outlast.rehearsal.lexing import tokens
from outlast.rehearsal.reach import OUTSIDE
from outlast.rehearsal.variables import substitute

TENANTS_VARIABLE = "tenants"
"""A script that mentions `:'tenants'` takes its tenants as a parameter: their keys as an array's text, `{1,2,3}`."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, without the comments before it, and the line of the file on which it begins."""

    text: str
    line: int
    kind: str  # UPDATE, CREATE INDEX …: for people


@dataclass(frozen=True, slots=True)
class Script:
    """A script as it is run: its variables are replaced. `refusals` say what it holds that is not run at all.

    `unguarded` are the statements that cannot run in a transaction. `outward` says what is not run on a copy either,
    since it would act on this host. `text` is the file's, before replacing.
    """

    name: str
    text: str
    arguments: tuple[tuple[str, str], ...]
    statements: tuple[Statement, ...]
    unguarded: tuple[Statement, ...] = ()
    refusals: tuple[str, ...] = ()
    outward: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The SHA-256 of the text and its arguments, in hexadecimal: what a receipt binds."""
        given = json.dumps([self.text, sorted(self.arguments)], ensure_ascii=True)
        return hashlib.sha256(given.encode("ascii")).hexdigest()

    def check(self) -> None:
        """Raise Refused where it holds what is not run at all, or mixes what is guarded with what cannot be."""
        if self.refusals:
            more = f" (and {len(self.refusals) - 1} more)" if len(self.refusals) > 1 else ""
            raise Refused(f"cannot run {self.name}: {self.refusals[0]}{more}", hint=_SPLIT, code="script")


_SPLIT = "One script is one transaction: take that out, or make several scripts of it."


def read_script(text: str, name: str, arguments: Mapping[str, str] | None = None) -> Script:
    """Parse a script with its variables replaced. Raises UsageError where it is not SQL, with the line."""
    given = dict(arguments or {})
    cleaned, commands = _without_commands(text)
    sql = substitute(cleaned, given, name)
    found = list(_parsed(sql, name))
    refusals = [
        f"line {line}: {command} is a command of psql's own{_INSTEAD.get(command, '')}" for line, command in commands
    ]
    found, transactional = _without_frame(found)
    refusals += transactional
    unguarded = []
    outward = []
    for statement, node in found:
        refusals += [f"line {statement.line}: {reason}" for reason in _refused(statement, node)]
        outward += [f"line {statement.line} ({statement.kind})"] if _acts_on_host(statement, node) else []
        if _cannot_be_in_transaction(node):
            unguarded.append(statement)
    statements = tuple(statement for statement, _ in found)
    if not statements and not refusals:
        raise UsageError(f"{name} holds no statement", hint="Is it the right file?", code="script")
    if unguarded and len(unguarded) < len(statements):
        one = unguarded[0]
        refusals.append(f"line {one.line}: {one.kind} cannot run in a transaction, and stands among others that must")
    arguments_given = tuple(sorted(given.items()))
    return Script(name, text, arguments_given, statements, tuple(unguarded), tuple(refusals), tuple(outward))


_Found = tuple[Statement, Any]

_INSTEAD = {
    "\\set": " (give the value by --set NAME=VALUE)",
    "\\i": " (put what it includes into this file)",
    "\\ir": " (put what it includes into this file)",
    "\\copy": " (write the rows as INSERT)",
}
_HARMLESS = re.compile(r"\\(set\s+ON_ERROR_STOP\b.*|set\s+QUIET\b.*|timing\b.*|echo\b.*|pset\b.*)$", re.IGNORECASE)


def _without_commands(text: str) -> tuple[str, list[tuple[int, str]]]:
    """The text with psql's own commands blanked; those that would change what runs, or where, by line."""
    parts = []
    commands = []
    at = 0
    for match, end in tokens(text):
        command = match["command"]
        if command is None:
            continue
        parts.append(text[at : match.start()])
        at = end
        command = command.strip()
        if not _HARMLESS.match(command):
            commands.append((text.count("\n", 0, match.start()) + 1, command.split()[0]))
    parts.append(text[at:])
    return "".join(parts), commands


def _parsed(sql: str, name: str) -> Iterator[_Found]:
    from pglast import parse_sql
    from pglast.parser import ParseError

    try:
        found = parse_sql(sql)
    except ParseError as error:
        told, at = (*error.args, 0)[:2]
        line = sql.count("\n", 0, int(at)) + 1
        raise UsageError(
            f"{name}:{line}: {str(told).partition(chr(10))[0]}",
            hint=_syntax_hint(sql, int(at)),
            code="script",
        ) from None
    line = 1
    counted = 0
    for raw in found:
        begin = raw.stmt_location or 0
        end = begin + raw.stmt_len if raw.stmt_len else len(sql)
        start = _behind_comments(sql, begin, end)
        text = sql[start:end].strip()
        line += sql.count("\n", counted, start)
        counted = start
        yield Statement(text, line, _kind(text)), raw.stmt


def _syntax_hint(sql: str, at: int) -> str:
    if match := re.match(r"\s*(\\\S+)", sql[at:]):
        return f"{match[1]} is a command of psql's own, which Outlast does not run: end the statement by a semicolon."
    if re.search(r"\bcopy\b[^;]*\bfrom\s+stdin\b", sql, re.IGNORECASE):
        return "Rows after COPY … FROM STDIN are for psql alone: write them as INSERT."
    if re.search(r"[^:]:[A-Za-z_]\w*", sql):
        return "Are all variables given? --set NAME=VALUE"
    return "Try it with: psql --single-transaction -f FILE on a copy."


def _behind_comments(sql: str, start: int, end: int) -> int:
    pattern = re.compile(r"\s+|--[^\n]*|/\*.*?\*/", re.DOTALL)
    while start < end and (match := pattern.match(sql, start, end)) and match.end() > start:
        start = match.end()
    return start


_KIND = re.compile(
    r"(?:(?:CREATE|ALTER|DROP)(?:\s+OR\s+REPLACE)?(?:\s+(?:UNIQUE|MATERIALIZED|FOREIGN|EVENT|TEMP|TEMPORARY))?\s+\w+"
    r"|REFRESH\s+MATERIALIZED\s+VIEW|REINDEX\s+\w+|\w+)(?:\s+CONCURRENTLY)?",
    re.IGNORECASE,
)


def _kind(text: str) -> str:
    match = _KIND.match(text)
    return " ".join(match[0].upper().split()) if match else "a statement"


def _without_frame(found: Sequence[_Found]) -> tuple[list[_Found], list[str]]:
    """Without a BEGIN before everything and the COMMIT after it, which we say ourselves. What else ends or begins a
    transaction is refused."""
    kinds = [_transaction(node) for _, node in found]
    first, last = 0, len(found)
    begins, commits = kinds.count("BEGIN") + kinds.count("START"), kinds.count("COMMIT")
    if len(found) > 1 and kinds[0] in ("BEGIN", "START") and kinds[-1] == "COMMIT" and not _options(found[0][1]):
        first, last = 1, len(found) - 1
    kept = []
    refusals = []
    for (statement, node), kind in list(zip(found, kinds, strict=True))[first:last]:
        if kind is None or kind in ("SAVEPOINT", "RELEASE", "ROLLBACK_TO"):
            kept.append((statement, node))
            continue
        reason = _FRAMES.get(kind, kind)
        if kind in ("BEGIN", "START") and not commits:
            reason = f"{statement.kind} without a COMMIT: psql would keep nothing of what follows (take it out)"
        elif kind == "COMMIT" and not begins and statement is found[-1][0]:
            reason = "COMMIT without a BEGIN: a script is one transaction already (take it out)"
        refusals.append(f"line {statement.line}: {reason}")
    return kept, refusals


_FRAMES = {
    "BEGIN": "BEGIN of its own, other than one pair around everything without options",
    "START": "START TRANSACTION of its own, other than one pair around everything without options",
    "COMMIT": "COMMIT in the middle: what follows would run in another transaction",
    "ROLLBACK": "ROLLBACK: what stands before it would not be done",
    "PREPARE": "PREPARE TRANSACTION leaves the outcome to somebody else",
    "COMMIT_PREPARED": "COMMIT PREPARED ends another transaction",
    "ROLLBACK_PREPARED": "ROLLBACK PREPARED ends another transaction",
}


def _transaction(node: Any) -> str | None:
    from pglast import ast

    if not isinstance(node, ast.TransactionStmt):
        return None
    assert node.kind is not None
    return node.kind.name.removeprefix("TRANS_STMT_")


def _options(node: Any) -> bool:
    return bool(node.options)


_SETTINGS = ("session_replication_role", "track_counts", "default_transaction_isolation", "transaction_isolation")

_SETTING = re.compile(rf"\b({'|'.join(_SETTINGS)})\b", re.I)

_UNTRUSTED = r"\bdo\b.*\blanguage\s+\W*(?:pl\w+u)\b"

_NEVER = {
    r"\bdisable\s+trigger\s+(?:all|user|\W*RI_ConstraintTrigger\w*)\b": (
        "DISABLE TRIGGER ALL or USER: foreign keys, and what watches a rehearsal, would be off (name the trigger)"
    ),
    r"\bsession(?:\s+|_)authorization\b": "SESSION AUTHORIZATION: it would run as another than was rehearsed",
    r"\boutlast_rehearsal\b": "outlast_rehearsal is what watches a rehearsal",
    r"\b(?:insert\s+into|update|delete\s+from|merge\s+into)\s+(?:only\s+)?\W*"
    r"(?:pg_catalog\W*\.|pg_(?!temp\b|catalog\b)\w+)": "it writes to the server's own catalog",
    _UNTRUSTED: "DO in a language that can do anything outside the transaction",
}
"""What is run by nobody, wherever in a statement it stands, and why."""


def _refused(statement: Statement, node: Any) -> Iterator[str]:
    """Why a statement is not run at all. What functions in the database do by themselves is seen by rehearsing."""
    from pglast import ast

    code = _code(statement.text)
    if match := _SETTING.search(code):
        yield f"{match[1].lower()} is set: triggers, counters or isolation would not be what was rehearsed"
    if match := OUTSIDE.search(code):
        yield f"{match[1].lower()} acts outside the transaction, where nothing can take it back"
    for pattern, reason in _NEVER.items():
        if re.search(pattern, code, re.IGNORECASE | re.DOTALL):
            yield reason
    if isinstance(node, ast.LoadStmt):
        yield "LOAD brings code into the server that stays there"
    if isinstance(node, ast.DoStmt) and _ends_transaction(node):
        yield "COMMIT or ROLLBACK inside DO: each part would be a transaction of its own"
    if isinstance(node, ast.CopyStmt):
        yield "COPY moves rows to or from a file, a program or the client"
    if isinstance(node, ast.VariableSetStmt) and node.name in ("TRANSACTION", "SESSION CHARACTERISTICS"):
        yield "SET TRANSACTION: Outlast runs it as REPEATABLE READ"
    if isinstance(node, ast.DiscardStmt):
        yield "DISCARD throws away what the session needs"


def _acts_on_host(statement: Statement, node: Any) -> bool:
    """Whether a statement reads or writes files, runs programs or loads code. A copy's server is on this host."""
    from pglast import ast

    code = _code(statement.text)
    called = OUTSIDE.search(code)
    return (
        isinstance(node, ast.LoadStmt)
        or (isinstance(node, ast.CopyStmt) and node.filename is not None)
        or (called is not None and not called[1].lower().startswith("dblink"))  # which is disarmed
        or re.search(_UNTRUSTED, code, re.IGNORECASE | re.DOTALL) is not None
    )


def _code(text: str) -> str:
    """The statement's text without its comments; what stands in strings counts, since DO and EXECUTE run it."""
    return re.sub(r"--[^\n]*|/\*.*?\*/", " ", text, flags=re.DOTALL)


def _ends_transaction(node: Any) -> bool:
    from pglast.parser import ParseError, parse_plpgsql_json

    arguments = {one.defname: one.arg for one in node.args}
    body = arguments["as"].sval if "as" in arguments else ""
    language = arguments["language"].sval if "language" in arguments else "plpgsql"
    if language.lower() != "plpgsql":
        return re.search(r"\b(commit|rollback)\b", body, re.IGNORECASE) is not None
    tag = "outlast_body"
    while f"${tag}$" in body:
        tag += "_"
    try:
        tree = parse_plpgsql_json(f"CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS ${tag}${body}${tag}$")
    except ParseError:
        return re.search(r"\b(commit|rollback)\b", body, re.IGNORECASE) is not None
    return '"PLpgSQL_stmt_commit"' in tree or '"PLpgSQL_stmt_rollback"' in tree


def _cannot_be_in_transaction(node: Any) -> bool:
    from pglast import ast, enums

    if isinstance(node, ast.IndexStmt | ast.ReindexStmt | ast.DropStmt):
        if isinstance(node, ast.ReindexStmt):
            whole = node.kind in (
                enums.ReindexObjectType.REINDEX_OBJECT_DATABASE,
                enums.ReindexObjectType.REINDEX_OBJECT_SYSTEM,
            )
            return whole or any(one.defname == "concurrently" for one in node.params or ())
        return bool(node.concurrent)
    if isinstance(node, ast.VacuumStmt):
        return bool(node.is_vacuumcmd)
    if isinstance(node, ast.ClusterStmt):
        return node.relation is None
    if isinstance(node, ast.AlterTableStmt):
        return any(getattr(one.def_, "concurrent", False) for one in node.cmds or () if one.def_ is not None)
    return isinstance(
        node,
        ast.CreatedbStmt
        | ast.DropdbStmt
        | ast.AlterSystemStmt
        | ast.CreateTableSpaceStmt
        | ast.DropTableSpaceStmt
        | ast.CreateSubscriptionStmt
        | ast.DropSubscriptionStmt,
    )
