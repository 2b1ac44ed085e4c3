"""outlast.toml: found, read, refused with the setting's name, and written for a person to read."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from outlast.config.document import VaultSettings
from outlast.config.file import CONFIG_VARIABLE, FILE_NAME, find, load
from outlast.config.settings import without_password
from outlast.config.writing import TableEntry, written
from outlast.core.errors import NotFoundError, UsageError

VAULT = VaultSettings(
    url="./vault", id="0197-aa", recipients=("age1recovery", "age1operator"), signers=("ssh-ed25519 AAAA outlast",)
)
TABLES = (
    TableEntry("public.accounts", "owned by id", "the tenant table"),
    TableEntry('public."odd.name"', "shared", 'only referenced\nby "others"'),
)


def text() -> str:
    return written(
        url="postgresql://app@db/app",
        tenant_table="public.accounts",
        tenant_label="slug",
        vault=VAULT,
        recovery_file="recovery.key",
        tables=TABLES,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / FILE_NAME
    path.write_text(text(), encoding="utf-8")
    return path


def test_what_is_written_is_read(file: Path) -> None:
    """The file that `init` writes says what it was told to say."""
    read = load(file)
    assert read.vault == VAULT
    assert read.vault_url == str(file.parent / "vault")
    assert read.key_dir == file.parent / ".outlast"
    source = read.source("main")
    assert (source.url, source.tenant_table, source.tenant_label) == (
        "postgresql://app@db/app",
        "public.accounts",
        "slug",
    )
    assert source.tables == {table.name: table.words for table in TABLES}
    assert read.document.status.max_age == timedelta(hours=26)


def test_every_reason_stands_beside_its_table(file: Path) -> None:
    """A person who reads the proposal sees why, on one line."""
    assert '# only referenced by "others"' in file.read_text()


def test_a_misspelt_setting_is_refused_with_the_right_one(file: Path) -> None:
    """What the file may not say is an error, and the close match is named."""
    file.write_text(file.read_text().replace("max_age", "max_agee"))
    with pytest.raises(UsageError, match=r"\[status\] has no setting 'max_agee'") as caught:
        load(file)
    assert caught.value.hint == "Did you mean 'max_age'?"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('max_age = "26h"', 'max_age = "soon"', "'max_age' in .status.: must be a number and a unit"),
        ('id = "0197-aa"', "", "lacks 'id'"),
        ("app@db", "app:hidden@db", "carries a password"),
        ("postgresql://app@db/app", "${NO_SUCH_VARIABLE}", "NO_SUCH_VARIABLE, which is not set"),
        ("[retention]", "[retention", "not valid TOML"),
        ("grace_days = 7", "grace_days = -1", "'grace_days' in .retention."),
    ],
)
def test_a_wrong_value_is_refused_by_name(file: Path, before: str, after: str, message: str) -> None:
    """Each error names the setting and what is wrong with it, and shows no secret."""
    file.write_text(file.read_text().replace(before, after))
    with pytest.raises(UsageError, match=message) as caught:
        load(file)
    assert "hidden" not in caught.value.message + str(caught.value.hint)


def test_the_environment_is_expanded(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """${NAME} in a URL comes from the environment."""
    monkeypatch.setenv("OUTLAST_TEST_HOST", "db7")
    file.write_text(file.read_text().replace("app@db", "app@${OUTLAST_TEST_HOST}"))
    assert load(file).source("main").url == "postgresql://app@db7/app"


def test_an_unknown_source_is_named_with_those_there_are(file: Path) -> None:
    """A source that is not in the file is not found, and the hint lists what is."""
    with pytest.raises(NotFoundError, match="no source 'other'") as caught:
        load(file).source("other")
    assert "main" in str(caught.value.hint)


def test_the_nearest_file_upwards_is_found(file: Path) -> None:
    """As with git, a command works in every folder below the file."""
    below = file.parent / "a" / "b"
    below.mkdir(parents=True)
    assert find(None, environ={}, start=below) == file


def test_a_named_file_wins(file: Path, tmp_path: Path) -> None:
    """--config before OUTLAST_CONFIG before the folder."""
    assert find(str(file), environ={CONFIG_VARIABLE: "/nowhere"}) == file
    assert find(None, environ={CONFIG_VARIABLE: str(file.parent)}) == file
    with pytest.raises(NotFoundError, match=r"named by OUTLAST_CONFIG"):
        find(None, environ={CONFIG_VARIABLE: "/nowhere/outlast.toml"})


def test_without_a_file_the_hint_says_how_to_begin(tmp_path: Path) -> None:
    """A newcomer is told the first command."""
    with pytest.raises(NotFoundError) as caught:
        find(None, environ={}, start=tmp_path)
    assert "outlast init postgresql://" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("given", "cleaned", "password"),
    [
        ("postgresql://app@db/app", "postgresql://app@db/app", None),
        ("postgresql://app:s3cret@db:5432/app", "postgresql://app@db:5432/app", "s3cret"),
        ("postgresql://app:p%40ss@db/app", "postgresql://app@db/app", "p%40ss"),
        ("postgresql://db/app?password=s3cret", "postgresql://db/app", "s3cret"),
        ("postgresql://db/app?password=s3cret&sslmode=require", "postgresql://db/app?sslmode=require", "s3cret"),
        ("postgresql://db/app?sslmode=require&password=s3cret", "postgresql://db/app?sslmode=require", "s3cret"),
        ("host=db dbname=app password='s3 cret'", "host=db dbname=app", "s3 cret"),
    ],
)
def test_a_password_is_taken_out_of_a_url(given: str, cleaned: str, password: str | None) -> None:
    """Whatever form the URL has."""
    assert without_password(given) == (cleaned, password)
