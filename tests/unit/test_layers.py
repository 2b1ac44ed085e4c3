"""Imports point down: a layer may import what stands below it, and nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "outlast"

ALLOWED: dict[str, frozenset[str]] = {
    "core": frozenset(),
    "config": frozenset({"core"}),
    "disk": frozenset(),
    "state": frozenset({"core", "disk"}),
    "messages": frozenset({"core"}),
    "buckets": frozenset({"core"}),
    "vault": frozenset({"core", "buckets"}),  # the vault never knows a source …
    "sources": frozenset({"core", "disk"}),  # … and a source never knows the vault
    "capture": frozenset({"core", "disk", "messages", "state", "vault", "sources"}),
    "library": frozenset({"core", "disk", "vault"}),  # what is read from it needs neither; `filling` reads the vault
    "restore": frozenset({"core", "state", "vault", "sources", "capture"}),
    "jobs": frozenset({"core", "sources"}),
    "rehearsal": frozenset({"core", "state", "vault", "sources", "capture", "restore"}),
    "oncall": frozenset({"core", "messages", "state", "library"}),
    "relay": frozenset({"core", "state"}),
    "incident": frozenset({"core", "messages", "buckets", "state"}),
    "desk": frozenset({"core", "state"}),
    "failback": frozenset({"core", "state", "desk", "oncall", "sources"}),
    "web": frozenset({"desk", "core", "state", "library", "oncall", "relay", "incident"}),
    "replay": frozenset({"core", "config", "state", "vault", "sources", "capture", "restore"}),
    "cli": frozenset(
        {
            "core",
            "config",
            "state",
            "vault",
            "sources",
            "capture",
            "restore",
            "jobs",
            "messages",
            "oncall",
            "rehearsal",
            "replay",
            "relay",
            "desk",
            "failback",
            "incident",
            "web",
            "library",
        }
    ),
    "__main__": frozenset({"cli"}),
    "__init__": frozenset(),
}
"""What each layer may import besides itself. A new package has to be given its place here."""


def layer_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_layers(path: Path) -> Iterator[tuple[str, int]]:
    """Every layer of ours that a module imports, with the line, also inside functions and under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: a relative import hides where it points"
            whole = node.module == "outlast"
            names = [f"outlast.{alias.name}" for alias in node.names] if whole else [node.module]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "outlast" and len(parts) > 1 and not parts[1].startswith("__"):
                yield parts[1], node.lineno


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_down(path: Path) -> None:
    """A module imports its own layer and those below it."""
    layer = layer_of(path)
    assert layer in ALLOWED, f"the layer {layer!r} has no place in ALLOWED"
    wrong = [
        f"line {line}: outlast.{found}"
        for found, line in imported_layers(path)
        if found != layer and found not in ALLOWED[layer]
    ]
    assert not wrong, f"{path.relative_to(SOURCE)} imports upwards: {'; '.join(wrong)}"
