"""An export: the local copy as plain folders, for a team with nothing but a file browser.

`SOURCE/TABLE/NAME.md` has a document's fields as front matter and its text below; what belongs to it (comments, notes)
follows in the same file, and its files lie in a folder beside it. Schedules are calendars too. Nothing else is written
there, and nothing outside the folder: names are made safe.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlast.core.document import Document, stamp
from outlast.core.errors import OutlastError
from outlast.library import markdown
from outlast.library.calendars import calendars
from outlast.library.copy import LocalCopy
from outlast.library.words import plain, title_of

_UNSAFE = re.compile(r"[^\w.\- ]+", re.UNICODE)
_NAME_CHARACTERS_MAX = 80
_BELOW = {
    "jira.issues": ("jira.comments", "jira.worklogs"),
    "confluence.pages": ("confluence.footer_comments", "confluence.inline_comments"),
    "confluence.blogposts": ("confluence.footer_comments", "confluence.inline_comments"),
    "opsgenie.alerts": ("opsgenie.alert_notes",),
    "opsgenie.incidents": ("opsgenie.incident_timelines",),
    "pagerduty.incidents": ("pagerduty.incident_notes",),
    "statuspage.incidents": ("statuspage.postmortems",),
}
"""What follows a document in its own file."""

_FILES = {
    "jira.issues": "jira.attachments",
    "confluence.pages": "confluence.attachments",
    "confluence.blogposts": "confluence.attachments",
}
_NOT_WRITTEN = frozenset({one for below in _BELOW.values() for one in below} | set(_FILES.values()))


@dataclass(frozen=True, slots=True)
class Exported:
    documents: int
    files: int
    calendars: int


def export(copy: LocalCopy, folder: Path, source: str) -> Exported:
    """Write one source below `folder`. Raises OutlastError where a file cannot be written."""
    try:
        return _Export(copy, folder, source).run()
    except OSError as error:
        raise OutlastError(
            f"cannot export to {folder}: {error.strerror or error}",
            hint="Name an empty folder on a disk that has room: outlast export DIR",
            code="export",
        ) from error


class _Export:
    def __init__(self, copy: LocalCopy, folder: Path, source: str) -> None:
        self._copy = copy
        self._folder = folder / safe(source)
        self._source = source
        self._files = 0

    def run(self) -> Exported:
        documents = 0
        for table in self._copy.tables(self._source):
            if table in _NOT_WRITTEN or table.endswith("_content"):
                continue
            place = self._folder / table.partition(".")[2]
            place.mkdir(parents=True, exist_ok=True)
            for document in self._copy.documents(table, self._source):
                self._write(place, document)
                documents += 1
        count = 0
        for name, data in calendars(self._copy, self._source):
            place = self._folder / "calendars"
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{safe(name)}.ics").write_bytes(data)
            count += 1
        return Exported(documents, self._files, count)

    def _write(self, place: Path, document: Document) -> None:
        name = file_name(document)
        parts = [front_matter(document), *body(document)]
        for table in _BELOW.get(document.table, ()):
            below = self._copy.children(self._source, table, document.key)
            parts += [f"\n---\n\n**{_who(one)}**\n\n{text_below(one)}\n" for one in below]
        table = _FILES.get(document.table, "")
        for attachment in self._copy.attachments(self._source, table, document.key) if table else ():
            beside = place / name
            beside.mkdir(exist_ok=True)
            own = safe(attachment.key.rpartition("/")[2]) + "-" + safe(attachment.name)
            with (beside / own).open("wb") as file:
                for data in self._copy.content(attachment):
                    file.write(data)
            parts.append(f"\n[{attachment.name}](<{name}/{own}>)\n")
            self._files += 1
        (place / f"{name}.md").write_text("".join(parts), encoding="utf-8", errors="backslashreplace")


def safe(text: str) -> str:
    """A name that is one file's on every system, and leads nowhere else."""
    found = _UNSAFE.sub("_", text).strip(" .")[:_NAME_CHARACTERS_MAX].strip(" .")
    return found or "_"


def file_name(document: Document) -> str:
    """What people call it, and its key, so that no two are one."""
    called = document.document.get("key")
    title = title_of(document.document)
    first = called if isinstance(called, str) and called else document.key
    own = "" if first == document.key else f" ({document.key})"
    return safe(f"{first} {title}")[:_NAME_CHARACTERS_MAX] + (safe(own) and f" {safe(own)}" if own else "")


def front_matter(document: Document) -> str:
    """The fields that are one value, as YAML (each value as JSON, which is YAML)."""
    found: dict[str, Any] = {"source": document.source, "table": document.table, "key": document.key}
    if document.updated_at is not None:
        found["updated_at"] = stamp(document.updated_at)
    inner = document.document.get("fields")
    for place in (document.document, inner if isinstance(inner, dict) else {}):
        for name, value in place.items():
            if isinstance(value, str | int | float | bool) and name not in found and len(str(value)) < 500:
                found[name] = value
            elif isinstance(value, dict) and isinstance(value.get("name"), str) and name not in found:
                found[name] = value["name"]
    lines = [f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in found.items()]
    return "---\n" + "\n".join(lines) + "\n---\n\n"


def body(document: Document) -> Iterator[str]:
    """A heading, what there is to read, and everything as it was sent."""
    title = title_of(document.document) or document.key
    yield f"# {title}\n\n"
    text = text_below(document)
    if text:
        yield text + "\n"
    if not text or document.table.partition(".")[0] not in ("jira", "confluence"):
        whole = json.dumps(document.document, ensure_ascii=False, indent=2)
        yield f"\n```json\n{whole}\n```\n"


def text_below(document: Document) -> str:
    """The text of a document, a comment or a note, as Markdown."""
    found = document.document
    inner = found.get("fields")
    for value in (
        found.get("body"),
        found.get("description"),
        inner.get("description") if isinstance(inner, dict) else None,
        found.get("comment"),
        found.get("note"),
        found.get("content"),
        found.get("title"),
    ):
        text = _text(value)
        if text:
            return text
    return ""


def _text(value: object) -> str:
    if isinstance(value, str):
        return markdown.of_html(value).strip() if "</" in value else value.strip()
    if isinstance(value, dict):
        stored = value.get("storage")
        if isinstance(stored, dict):
            return markdown.of_html(str(stored.get("value", ""))).strip()
        if value.get("type") == "doc":
            return markdown.of_adf(value).strip()
    return ""


def _who(document: Document) -> str:
    found = document.document
    for name in ("author", "user", "owner", "version"):
        value = found.get(name)
        if isinstance(value, dict):
            value = value.get("displayName") or value.get("summary") or value.get("name") or value.get("authorId")
        if isinstance(value, str):
            return plain(f"{value}, {stamp(document.updated_at)}" if document.updated_at else value)
    return stamp(document.updated_at) if document.updated_at else document.key
