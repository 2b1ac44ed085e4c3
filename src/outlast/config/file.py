"""Finds outlast.toml and reads it. Relative paths in it are relative to the file."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from outlast.config.document import SECTIONS, Document, SourceSettings, VaultSettings
from outlast.config.tool import ToolSettings
from outlast.core.errors import NotFoundError, OutlastError, UsageError

FILE_NAME = "outlast.toml"
CONFIG_VARIABLE = "OUTLAST_CONFIG"


@dataclass(frozen=True, slots=True)
class Config:
    """outlast.toml as it was read, and where."""

    path: Path
    document: Document

    @property
    def vault(self) -> VaultSettings:
        return self.document.vault

    @property
    def vault_url(self) -> str:
        """The vault's URL; a folder is given as an absolute path."""
        url = self.vault.url
        return url if "://" in url else str(self.resolve(url))

    @property
    def key_dir(self) -> Path:
        return self.resolve(self.document.keys.dir)

    def resolve(self, path: str) -> Path:
        return (self.path.parent / Path(path).expanduser()).resolve()

    def source(self, name: str) -> SourceSettings:
        """A database's settings. Raises NotFoundError with the names there are, UsageError for a tool."""
        found = self.any_source(name)
        if isinstance(found, SourceSettings):
            return found
        raise UsageError(
            f"source {name!r} is a tool ({found.kind}), and this needs a database",
            hint="For a tool there are: check, status, backup, follow, tenants, history, show, diff, verify, search, "
            "export.",
            code="not-a-database",
        )

    def tool(self, name: str) -> ToolSettings | None:
        """A tool's settings; None where the source is a database."""
        found = self.any_source(name)
        return found if isinstance(found, ToolSettings) else None

    @property
    def tools(self) -> tuple[str, ...]:
        """The sources that are tools, by name."""
        return tuple(sorted(name for name, one in self.document.sources.items() if isinstance(one, ToolSettings)))

    def any_source(self, name: str) -> SourceSettings | ToolSettings:
        """The source's settings, whatever it is. Raises NotFoundError with the names there are."""
        try:
            return self.document.sources[name]
        except KeyError:
            names = ", ".join(sorted(self.document.sources))
            raise NotFoundError(f"there is no source {name!r} in {self.path}", hint=f"It has: {names}.") from None


def find(given: str | None, *, environ: Mapping[str, str] = os.environ, start: Path | None = None) -> Path:
    """The file to read: --config, OUTLAST_CONFIG, or the nearest outlast.toml upwards. Raises NotFoundError."""
    named = given or environ.get(CONFIG_VARIABLE)
    if named:
        path = Path(named).expanduser().absolute()
        path = path / FILE_NAME if path.is_dir() else path
        if not path.is_file():
            by = "--config" if given else CONFIG_VARIABLE
            raise NotFoundError(f"there is no file {path} (named by {by})", hint=_HOW_TO_START, code="no-config")
        return path
    here = (start or Path.cwd()).absolute()
    for folder in (here, *here.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    raise NotFoundError(f"there is no {FILE_NAME} here or in a folder above", hint=_HOW_TO_START, code="no-config")


_HOW_TO_START = (
    "Go to the folder that has it, name it with --config, or begin with\n"
    "outlast init postgresql://USER@HOST/DATABASE --tenant-table TABLE"
)


def load(path: Path) -> Config:
    """Read the file. Raises UsageError that names the setting and what is wrong with it."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}", hint="Mend that line.") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text", hint="Save it as UTF-8.") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint="Check the file's permissions.") from None
    try:
        document = Document.model_validate(content)
    except ValidationError as error:
        raise _explained(path, error) from None
    return Config(path, document)


def _explained(path: Path, error: ValidationError) -> OutlastError:
    problem, *more = error.errors(include_url=False, include_input=False)
    place = [str(part) for part in problem["loc"] if part not in ("database", "tool")]
    rest = f" (and {len(more)} more)" if more else ""
    section, name = ".".join(place[:-1]), place[-1] if place else ""
    inside = f"[{section}]" if section else "the file"
    if problem["type"] == "extra_forbidden":
        tool = "tool" in problem["loc"]
        close = difflib.get_close_matches(name, names := sorted(_names(tuple(place[:-1]), tool=tool)), 1)
        hint = f"Did you mean {close[0]!r}?" if close else f"{inside} may have: {', '.join(names)}."
        return UsageError(f"{path}: {inside} has no setting {name!r}{rest}", hint=hint)
    if problem["type"] == "missing":
        return UsageError(
            f"{path}: {inside} lacks {name!r}{rest}", hint=f"It is described in docs/REFERENCE.md under {inside}."
        )
    told = problem["msg"].removeprefix("Value error, ")
    return UsageError(f"{path}: {name!r} in {inside}: {told}{rest}", hint="Settings are listed in docs/REFERENCE.md.")


def _names(place: tuple[str, ...], *, tool: bool) -> Iterator[str]:
    if not place:
        yield from Document.model_fields
        return
    heading = f"{place[0]}.NAME" if f"{place[0]}.NAME" in SECTIONS else place[0]
    section = SECTIONS.get(f"{heading} (a tool)" if tool else heading)
    if section is not None:
        yield from section.model_fields
