"""An intent: what an author declares that a script will do. Unlisted is zero, and nothing that destroys is implied.

Owns the value and how it is written out. How it is read out of a script's header or an intent.toml is intent_text.py's;
what a script really did is held against it in rehearsal/verdict.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from outlast.core.effect import Operation, Via

KEYS: Mapping[str, str] = {
    "why": "why TEXT",
    "tenants": "tenants a, b, c | @FILE | all [canary=a,b]",
    "effect": "effect SCHEMA.TABLE OPERATION[(columns)] rows=N|lo..hi [via=cascade|trigger]",
    "schema": "schema added|dropped|changed KIND NAME",
    "undo": "undo required | waived by=NAME reason=TEXT",
    "clone": "clone max-age=24h",
    "accept": "accept POINT …",
    "drafted": "drafted by=NAME",
    "adopted": "adopted by=NAME",
}
"""Every key with its form, as errors and the reference show it."""

UNWRITTEN = "TO BE WRITTEN"
"""What stands for the reason in a draft, until somebody gives it."""

ALTERATIONS = ("added", "dropped", "changed")
EVERYBODY = "all"
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
SEVERAL = frozenset({"effect", "schema", "accept"})
"""Keys that may stand several times."""


@dataclass(frozen=True, slots=True)
class Expected:
    """One line `effect`: rows of a table under one operation, in total over all tenants. `high` is included.

    `columns` None: those that say nothing by themselves (the marker of a soft deletion, all of an insert). `via` None:
    however it came about.
    """

    table: str
    operation: Operation
    low: int
    high: int
    columns: frozenset[str] | None = None
    via: Via | None = None
    line: int = 0

    def __str__(self) -> str:
        columns = f"({', '.join(sorted(self.columns))})" if self.columns else ""
        rows = str(self.low) if self.low == self.high else f"{self.low}..{self.high}"
        return f"{self.table} {self.operation.value}{columns} rows={rows}{f' via={self.via.value}' if self.via else ''}"


@dataclass(frozen=True, slots=True)
class ExpectedSchema:
    """One line `schema`: an object of the catalog that the script makes, removes or alters."""

    alteration: str
    kind: str
    name: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.alteration} {self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class UndoWaiver:
    """Somebody has said, by name and with a reason, that what the script does need not be undoable."""

    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Intent:
    """What was declared. `tenants` are labels or keys as written; None: all. `where` names the file, for errors."""

    where: str = ""
    why: str = ""
    tenants: tuple[str, ...] | None = ()
    tenants_file: str | None = None
    canary: tuple[str, ...] = ()
    effects: tuple[Expected, ...] = ()
    schema: tuple[ExpectedSchema, ...] = ()
    undo_waived: UndoWaiver | None = None
    clone_age_max: timedelta | None = None
    accepts: tuple[str, ...] = ()
    drafted_by: str | None = None
    adopted_by: str | None = None

    @property
    def awaits_adoption(self) -> bool:
        """Whether it was written from what was seen, and nobody else has made it theirs."""
        return self.drafted_by is not None and (
            self.adopted_by is None or self.adopted_by.casefold() == self.drafted_by.casefold()
        )

    @property
    def awaits_reason(self) -> bool:
        """Whether it says what a draft says for the reason."""
        return self.why.startswith(UNWRITTEN)

    def lines(self) -> tuple[str, ...]:
        """The intent as its own text: reading it again gives an equal one."""
        lines = [f"why {self.why}"] if self.why else []
        lines += [f"drafted by={self.drafted_by}"] if self.drafted_by else []
        lines += [f"adopted by={self.adopted_by}"] if self.adopted_by else []
        canary = f" canary={','.join(map(_name_text, self.canary))}" if self.canary else ""
        if self.tenants is None:
            lines.append(f"tenants {EVERYBODY}{canary}")
        elif self.tenants_file:
            lines.append(f"tenants @{self.tenants_file}{canary}")
        elif self.tenants:
            lines.append(f"tenants {', '.join(map(_name_text, self.tenants))}{canary}")
        lines += [f"effect {one}" for one in self.effects]
        lines += [f"schema {one}" for one in self.schema]
        waived = self.undo_waived
        lines.append(f"undo waived by={waived.by} reason={waived.reason}" if waived else "undo required")
        if self.clone_age_max is not None:
            lines.append(f"clone max-age={_duration_text(self.clone_age_max)}")
        lines += [f"accept {one}" for one in self.accepts]
        return tuple(lines)

    def to_header(self) -> str:
        """The lines for the top of a .sql file."""
        return "".join(f"-- outlast: {line}\n" for line in self.lines())

    def to_toml(self) -> str:
        """The same as intent.toml: keys that may stand several times are lists of their lines."""
        several: dict[str, list[str]] = {}
        text = ""
        for line in self.lines():
            key, _, rest = line.partition(" ")
            if key in SEVERAL:
                several.setdefault(key, []).append(rest)
            else:
                text += f"{key} = {_toml_text(rest)}\n"
        for key, values in several.items():
            text += f"{key} = [\n{''.join(f'  {_toml_text(value)},{chr(10)}' for value in values)}]\n"
        return text


def _name_text(name: str) -> str:
    plain = name == name.strip() and not re.search(r'[,"]|canary=', name) and not name.startswith("@")
    reserved = name in ("@shared", "@orphan")
    return name if (plain and name != EVERYBODY) or reserved else '"' + name.replace('"', '""') + '"'


def _duration_text(age: timedelta) -> str:
    seconds = int(age.total_seconds())
    unit = next(unit for unit in "dhms" if seconds % UNITS[unit] == 0)
    return f"{seconds // UNITS[unit]}{unit}"


def _toml_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")
    return f'"{escaped}"'
