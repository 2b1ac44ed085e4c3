"""What stands after `outlast rehearse`: one script, or a command."""

from __future__ import annotations

from pathlib import Path

import pytest

from outlast.cli.declaring import declared
from outlast.core.errors import UsageError


def test_two_scripts_are_no_command() -> None:
    """The second would be taken for an argument of the first, which no system can run."""
    with pytest.raises(UsageError) as caught:
        declared(["first.sql", "second.sql"], [], None, list)
    assert "second.sql is one word too many" in caught.value.message


def test_a_file_of_another_name_is_no_command(tmp_path: Path) -> None:
    """Nor is a word that nothing is called."""
    path = tmp_path / "fix.txt"
    path.write_text("DELETE FROM a;\n")
    with pytest.raises(UsageError, match=r"fix\.txt is neither a \.sql file nor a program"):
        declared([str(path)], [], None, list)
    with pytest.raises(UsageError, match=r"no-such-word is no \.sql file, and no command here"):
        declared(["no-such-word", "--fast"], [], None, list)


HEADER = "-- outlast: tenants all\n"


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf%s", b"%s"], ids=["bom", "plain"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
def test_how_an_editor_saved_it_makes_no_difference(tmp_path: Path, content: bytes, end: bytes) -> None:
    """A byte order mark and the ends of lines: the same intent, statements and digest."""
    path = tmp_path / "a.sql"
    text = f"{HEADER}UPDATE a SET b = 1;\nUPDATE a SET b = 2;\n"
    path.write_bytes(content % text.encode().replace(b"\n", end))
    found = declared([str(path)], [], None, lambda names: names)
    assert found.intent is not None
    assert found.script is not None
    assert [one.line for one in found.script.statements] == [2, 3]
    assert found.script.text == text


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"SELECT 1;\nSELECT 'n\xe9';\n", "line 2 is not UTF-8 text"),
        ("SELECT 1;".encode("utf-16"), "line 1 is not UTF-8 text"),
        (b"SELECT 1;\nSELECT 'a\0b';\n", "line 2 has a NUL character"),
        (b"-- nothing\n", "holds no statement"),
        (b"", "holds no statement"),
        (b"UPDATE a SET b = 'x\nWHERE c;\n", "a\\.sql:1: unterminated quoted string at or near \"'x$"),
    ],
)
def test_what_is_no_script_says_where(tmp_path: Path, content: bytes, told: str) -> None:
    """The line, in one line."""
    path = tmp_path / "a.sql"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=told):
        declared([str(path)], [], None, lambda names: names)
