"""The local copy: equal to the newest run, searchable, read by nobody else, and filled in proportion to change."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from outlast.core.document import encode_row
from outlast.core.errors import CorruptionError, NotFoundError, UsageError
from outlast.library.copy import LocalCopy
from outlast.library.filling import fill, forget, is_current
from tests.vaults import SOURCE, START, VaultWriter, folder_vault, rows

AT = datetime(2026, 3, 4, 5, 6, 7, 890000, tzinfo=UTC)
Documents = Mapping[str, Mapping[str, Any]]


@pytest.fixture
def writer(tmp_path: Path) -> VaultWriter:
    return folder_vault(tmp_path / "vault")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "library.sqlite"


def stored(documents: Documents) -> list[bytes]:
    """Rows, changed at the document's own time, or all at one."""
    return [encode_row(key, one.get("changed", AT), _sent(one)) + b"\n" for key, one in sorted(documents.items())]


def _sent(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "changed"}


def back_up(writer: VaultWriter, tables: Mapping[str, Documents]) -> None:
    writer.back_up({"acme": {name: stored(documents) for name, documents in tables.items() if documents}})


def read_copy(path: Path, *tables: str) -> dict[str, dict[str, Any]]:
    with LocalCopy.open(path) as copy:
        return {table: {one.key: one.document for one in copy.documents(table)} for table in tables}


def test_the_copy_is_equal_to_each_run(writer: VaultWriter, path: Path) -> None:
    """Documents that came, changed and went between runs are in the copy as the newest run has them."""
    issues = {str(number): {"summary": f"issue {number}"} for number in range(10, 30)}
    states = [
        {"jira.issues": issues, "jira.comments": {"10/1": {"body": "first"}}},
        {"jira.issues": issues | {"15": {"summary": "changed"}, "16a": {"summary": "new"}}},
        {"jira.issues": {key: one for key, one in issues.items() if key not in ("10", "20")}},
        {"jira.issues": {}, "jira.comments": {"10/1": {"body": "again"}}},
    ]
    for state in states:
        back_up(writer, state)
        assert fill(path, writer.vault(), SOURCE) is not None
        assert read_copy(path, "jira.issues", "jira.comments") == {
            "jira.issues": state.get("jira.issues", {}),
            "jira.comments": state.get("jira.comments", {}),
        }


def test_a_refresh_writes_what_changed_only(writer: VaultWriter, path: Path) -> None:
    """A chunk that is read again leaves its unchanged documents as they are; a known run is not read at all."""
    issues = {str(number): {"summary": f"issue {number}"} for number in range(10, 40)}
    back_up(writer, {"jira.issues": issues})
    first = fill(path, writer.vault(), SOURCE)
    assert first is not None
    assert first.written == 30
    assert fill(path, writer.vault(), SOURCE) is None
    back_up(writer, {"jira.issues": issues | {"20": {"summary": "changed"}}})
    second = fill(path, writer.vault(), SOURCE)
    assert second is not None
    assert (second.written, second.removed) == (1, 0)


def test_words_are_found_where_they_are_and_nowhere_else(writer: VaultWriter, path: Path) -> None:
    """Search knows titles, text inside markup, and beginnings of words; what changed is found by its new words only."""
    pages = {
        "1": {"title": "Runbook: disk full", "body": {"storage": {"value": "<p>Grow the <b>volume</b> first</p>"}}},
        "2": {"title": "Minutes", "body": {"storage": {"value": "<p>The disk was discussed</p>"}}},
    }
    back_up(writer, {"confluence.pages": pages})
    fill(path, writer.vault(), SOURCE)
    with LocalCopy.open(path) as copy:
        hits = copy.search("disk")
        assert [hit.document.key for hit in hits] == ["1", "2"]
        assert hits[0].title == "Runbook: disk full"
        assert "volume" in copy.search("grow volu")[0].snippet
        assert copy.search("span") == []
        assert len(copy.search("disk", limit=1)) == 1
        assert copy.search("disk", source="other") == []
        with pytest.raises(UsageError, match="no word"):
            copy.search('"-*()')
    back_up(writer, {"confluence.pages": pages | {"1": {"title": "Runbook: memory"}}})
    fill(path, writer.vault(), SOURCE)
    with LocalCopy.open(path) as copy:
        assert [hit.document.key for hit in copy.search("disk")] == ["2"]
        assert [hit.document.key for hit in copy.search("memory")] == ["1"]


def test_the_newest_comes_first_and_a_title_before_a_text(writer: VaultWriter, path: Path) -> None:
    """Whole words before beginnings, more of them in the title before fewer, then by the last change, not by key."""
    pages = {
        "1": {"title": "disk quota", "changed": AT - timedelta(days=900)},
        "2": {"title": "quota", "body": "the disk", "changed": AT - timedelta(days=800)},
        "3": {"title": "notes", "body": "disk quota", "changed": AT - timedelta(seconds=1)},
        "4": {"title": "Notes", "body": "quotas of the disk", "changed": AT},
        "5": {"title": "notes", "body": "disk quota", "changed": AT},
        "6": {"title": "Disk Quotá", "changed": AT - timedelta(days=901)},
        "7": {"title": "diskless quotas", "changed": AT},
    }
    later = {str(100 + n): {"title": "minutes", "body": "disk quota", "changed": AT} for n in range(160)}
    back_up(writer, {"confluence.pages": pages | later})
    fill(path, writer.vault(), SOURCE)
    with LocalCopy.open(path) as copy:
        found = [hit.document.key for hit in copy.search("disk quota", 200)]
        assert found[:3] == ["1", "6", "2"]
        assert set(found[3:-2]) == {"5", *later}
        assert found[-2:] == ["3", "4"]
        assert [hit.document.key for hit in copy.search("disk quota", 3)] == ["1", "6", "2"]
    back_up(writer, {"confluence.pages": {**pages, "3": {**pages["3"], "changed": AT + timedelta(days=1)}}})
    fill(path, writer.vault(), SOURCE)
    with LocalCopy.open(path) as copy:
        assert [hit.document.key for hit in copy.search("disk quota")] == ["1", "6", "2", "3", "5", "4"]


def test_a_beginning_that_very_many_words_have_finds_all(writer: VaultWriter, path: Path) -> None:
    """Every document has a word of its own that begins so: together with common words it is found all the same."""
    issues = {f"{n:04}": {"summary": f"disk unique{n}", "body": "quota"} for n in range(1500)}
    writer.rows_in_chunk = 500
    back_up(writer, {"jira.issues": issues})
    fill(path, writer.vault(), SOURCE)
    with LocalCopy.open(path) as copy:
        for words in ("disk quota uniq", "disk quota unique", "quota u", "unique1"):
            assert len(copy.search(words, 20)) == 20
        assert {hit.document.key for hit in copy.search("quota unique149", 20)} == {
            "0149",
            *map(str, range(1490, 1500)),
        }


def test_one_document_its_children_and_its_files(writer: VaultWriter, path: Path) -> None:
    """A document is read by its key, what belongs to it by its parent's, and a file's parts make its bytes."""
    content = bytes(range(256)) * 10
    parts = {f"10/7/{n:06}": {"data": base64.b64encode(content[n * 1000 :][:1000]).decode()} for n in range(3)}
    back_up(
        writer,
        {
            "jira.issues": {"10": {"summary": "ten"}, "1": {"summary": "one"}},
            "jira.comments": {"10/5": {"body": "a"}, "10/6": {"body": "b"}, "1/9": {"body": "c"}},
            "jira.attachments": {"10/7": {"filename": "log.txt", "mimeType": "text/plain", "size": 2560}},
            "jira.attachments_content": parts,
        },
    )
    fill(path, writer.vault(), SOURCE)
    with LocalCopy.open(path) as copy:
        found = copy.get(SOURCE, "jira.issues", "10")
        assert found is not None
        assert (found.source, found.tenant, found.updated_at) == (SOURCE, "acme", AT)
        assert copy.get(SOURCE, "jira.issues", "100") is None
        assert [one.key for one in copy.children(SOURCE, "jira.comments", "10")] == ["10/5", "10/6"]
        (file,) = copy.attachments(SOURCE, "jira.attachments", "10")
        assert (file.name, file.media_type, file.size_bytes) == ("log.txt", "text/plain", 2560)
        assert b"".join(copy.content(file)) == content
        assert copy.tables() == {
            "jira.attachments": 1,
            "jira.attachments_content": 3,
            "jira.comments": 3,
            "jira.issues": 2,
        }


def test_the_copy_says_how_old_it_is(writer: VaultWriter, path: Path) -> None:
    """Its moment is that of the run it was filled from, and it is known whether the vault has a newer one."""
    back_up(writer, {"jira.issues": {"1": {"summary": "one"}}})
    assert not is_current(path, writer.vault(), SOURCE)
    fill(path, writer.vault(), SOURCE)
    with LocalCopy.open(path) as copy:
        assert copy.moment(SOURCE) == START
        assert copy.moment("other") is None
        assert [(one.source, one.tenant, one.run) for one in copy.sources()] == [(SOURCE, "acme", 1)]
    assert is_current(path, writer.vault(), SOURCE)


def test_only_the_owner_can_read_it(writer: VaultWriter, path: Path) -> None:
    """The file is made with mode 0600 whatever the umask, and so are the files that SQLite keeps beside it."""
    back_up(writer, {"jira.issues": {"1": {"summary": "one"}}})
    fill(path, writer.vault(), SOURCE)
    with LocalCopy.open(path) as copy:
        assert copy.tables()
        assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


def test_a_database_s_rows_do_not_go_into_the_copy(writer: VaultWriter, path: Path) -> None:
    """Only tables of documents are copied: a customer's rows never leave the vault by themselves."""
    writer.back_up({"acme": {"public.items": rows(1, 5)}})
    fill(path, writer.vault(), SOURCE)
    with LocalCopy.open(path) as copy:
        assert copy.tables() == {}


def test_a_source_can_be_forgotten(writer: VaultWriter, path: Path) -> None:
    """Nothing of a forgotten source is found or listed any more."""
    back_up(writer, {"jira.issues": {"1": {"summary": "one"}}})
    fill(path, writer.vault(), SOURCE)
    forget(path, SOURCE)
    with LocalCopy.open(path) as copy:
        assert (copy.sources(), copy.search("one"), copy.tables()) == ([], [], {})


def test_what_is_no_copy_is_told(path: Path) -> None:
    """A missing file says how it is made; a damaged one that it can be removed."""
    with pytest.raises(NotFoundError, match="no local copy"):
        LocalCopy.open(path)
    path.parent.mkdir()
    path.write_bytes(b"something else entirely, and long enough to be a database's header " * 20)
    with pytest.raises(CorruptionError, match="cannot read the local copy"):
        LocalCopy.open(path)
