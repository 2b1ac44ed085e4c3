"""Targets and errors: what is told, and what never is."""

from __future__ import annotations

import pickle
import stat
from pathlib import Path

import pytest

from outlast.core.errors import SourceError, UsageError
from outlast.sources.postgres.session import Target

SECRET = "hunter2-is-a-secret"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://app:{SECRET}@db.example:6432/shop",
        f"host=db.example port=6432 user=app dbname=shop password={SECRET}",
    ],
)
def test_a_target_shows_where_and_never_the_password(url: str) -> None:
    """Neither its text, its repr nor the URL for a command line holds it; the password itself is still given."""
    target = Target(url)
    assert str(target) == "app@db.example:6432/shop"
    assert SECRET not in str(target) + repr(target) + target.safe_url
    assert target.password() == SECRET
    assert pickle.loads(pickle.dumps(target)) == target


@pytest.mark.parametrize(
    "url", [f"postgresql://app:{SECRET}%@db/shop", f"nonsense {SECRET}", f"host=a password='{SECRET}"]
)
def test_an_unreadable_url_is_refused_without_being_repeated(url: str) -> None:
    """libpq's message would repeat a part of it, which may be the password."""
    with pytest.raises(UsageError) as caught:
        str(Target(url))
    assert SECRET not in caught.value.message + str(caught.value.hint)
    assert caught.value.__cause__ is None


def _script(tmp_path: Path, body: str) -> str:
    path = tmp_path / "password"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_command_gives_the_password_by_its_first_line(tmp_path: Path) -> None:
    """As `pass` and the clouds' own tools print it."""
    command = _script(tmp_path, f"echo {SECRET}; echo more")
    assert Target("postgresql://app@db/shop", command).password() == SECRET


@pytest.mark.parametrize("body", [f"echo {SECRET}; echo {SECRET} >&2; exit 3", "exit 0"])
def test_a_command_that_fails_is_told_without_what_it_said(tmp_path: Path, body: str) -> None:
    """Its output may hold the secret."""
    with pytest.raises(SourceError) as caught:
        Target("postgresql://app@db/shop", _script(tmp_path, body)).password()
    assert SECRET not in caught.value.message


def test_a_command_that_does_not_exist_is_told() -> None:
    """With a hint, not a traceback."""
    with pytest.raises(SourceError) as caught:
        Target("postgresql://app@db/shop", "/nonexistent/command").password()
    assert caught.value.hint
