"""In which order tables are written, so that what a row points at is there before it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from outlast.core.table import TableName
from outlast.sources.postgres.schema import ForeignKey


def write_order(tables: Collection[TableName], foreign_keys: Iterable[ForeignKey]) -> list[tuple[TableName, ...]]:
    """Groups of tables, referenced before referencing. A group of several is a cycle of foreign keys.

    A cycle is written by one statement with data-modifying CTEs: its keys are checked when the statement ends, so that
    neither deferrable constraints nor a second step through NULL is needed. The same goes for self-references.
    """
    needs: dict[TableName, set[TableName]] = {table: set() for table in tables}
    for key in foreign_keys:
        if key.table in needs and key.references in needs and key.table != key.references and key.enforced:
            needs[key.table].add(key.references)
    return list(_components(needs))


def _components(needs: dict[TableName, set[TableName]]) -> Iterator[tuple[TableName, ...]]:
    """Tarjan's strongly connected components, without recursion; they come out referenced first."""
    index: dict[TableName, int] = {}
    low: dict[TableName, int] = {}
    stack: list[TableName] = []
    on_stack: set[TableName] = set()
    for start in sorted(needs):
        if start in index:
            continue
        work: list[tuple[TableName, Iterator[TableName]]] = []
        _enter(start, needs, index, low, stack, on_stack, work)
        while work:
            table, rest = work[-1]
            following = next(rest, None)
            if following is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[table])
                if low[table] == index[table]:
                    yield _pop_component(table, stack, on_stack)
            elif following not in index:
                _enter(following, needs, index, low, stack, on_stack, work)
            elif following in on_stack:
                low[table] = min(low[table], index[following])


def _enter(
    table: TableName,
    needs: dict[TableName, set[TableName]],
    index: dict[TableName, int],
    low: dict[TableName, int],
    stack: list[TableName],
    on_stack: set[TableName],
    work: list[tuple[TableName, Iterator[TableName]]],
) -> None:
    index[table] = low[table] = len(index)
    stack.append(table)
    on_stack.add(table)
    work.append((table, iter(sorted(needs[table]))))


def _pop_component(table: TableName, stack: list[TableName], on_stack: set[TableName]) -> tuple[TableName, ...]:
    place = stack.index(table)
    component = stack[place:]
    del stack[place:]
    on_stack.difference_update(component)
    return tuple(sorted(component))
