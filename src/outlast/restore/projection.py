"""How a stored row becomes a row of the live table, where the table has changed since. Pure.

Columns are matched by name. What the live table has no place for is not dropped in silence: it is a reason to refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from outlast.core.row import NULL
from outlast.core.table import Table
from outlast.restore.history import PastTable


@dataclass(frozen=True, slots=True)
class Projection:
    """For each live column, the stored column's position, or a constant COPY field for a column that came since.

    `retyped` names the columns whose type is another one now: whether each value survives has to be tried.
    """

    sources: tuple[int | bytes, ...]
    identity: bool
    retyped: tuple[str, ...] = ()

    def apply(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Rows in blocks of whole lines, rewritten."""
        if self.identity:
            yield from blocks
            return
        for block in blocks:
            lines = block.split(b"\n")
            lines.pop()
            yield b"".join([self._row(line.split(b"\t")) for line in lines])

    def _row(self, stored: list[bytes]) -> bytes:
        return b"\t".join([source if isinstance(source, bytes) else stored[source] for source in self.sources]) + b"\n"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why stored rows have no place in the live table. `column` is None where the table as a whole is the reason."""

    column: str | None
    message: str


def project(stored: PastTable, live: Table, constants: Callable[[str], bytes | None]) -> Projection | list[Obstacle]:
    """Match stored columns to live ones. `constants` gives an added column's field for old rows, None if unknown."""
    names = stored.layout.columns
    positions = {name: position for position, name in enumerate(names)}
    obstacles = [
        Obstacle(name, f"column {name!r} is gone from it, or is generated now")
        for name in names
        if name not in live.column_names
    ]
    if stored.layout.key != live.key or stored.layout.key_kinds != live.key_kinds:
        obstacles.append(Obstacle(None, "its key is made of other columns or types now"))
    sources: list[int | bytes] = []
    for column in live.columns:
        if column.name in positions:
            sources.append(positions[column.name])
            continue
        constant = constants(column.name)
        if constant is None:
            obstacles.append(Obstacle(column.name, f"column {column.name!r} came since, and has no constant default"))
        elif constant == NULL and column.not_null:
            obstacles.append(Obstacle(column.name, f"column {column.name!r} came since as NOT NULL without a default"))
        else:
            sources.append(constant)
    kept = [source for source in sources if isinstance(source, int)]
    if not live.key and kept != sorted(kept):
        obstacles.append(Obstacle(None, "its columns come in another order now, and it has no key to find rows by"))
    if obstacles:
        return obstacles
    retyped = tuple(
        column.name
        for column in live.columns
        if column.name in positions and stored.types[positions[column.name]] != column.type
    )
    return Projection(tuple(sources), names == live.column_names, retyped)
