"""Mutants of SQL scripts: the mistakes that people make, made over the parse tree, one at a time.

A WHERE that is widened, a tenant's filter that is lost, a soft deletion that is a hard one, a parent deleted instead of
its children, ids of another kind, a column more, a statement that runs twice.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pglast import ast, parse_sql
from pglast.enums import A_Expr_Kind, BoolExprType
from pglast.stream import RawStream
from pglast.visitors import Visitor

MARKERS = ("deleted_at", "is_deleted")


@dataclass(frozen=True)
class Mutant:
    """One changed script, and what was done to it."""

    what: str
    text: str


@dataclass(frozen=True)
class World:
    """What mutations need to know of the schema: whose column says the tenant, which column may be changed as well, and
    the table (with its key) that everything hangs on."""

    tenant_columns: frozenset[str]
    extra_columns: dict[str, str]  # table → a column that no script touches
    root: str


def mutants(text: str, world: World) -> Iterator[Mutant]:
    """Every single mutation of every statement, without those that come to the same text."""
    statements: list[Any] = [raw.stmt for raw in parse_sql(text)]
    seen = {_text(statements)}
    for place, statement in enumerate(statements):
        for what, changed in _mutations(statement, world):
            mutated = [*statements[:place], *changed, *statements[place + 1 :]]
            told = _text(mutated)
            if told not in seen:
                seen.add(told)
                yield Mutant(f"statement {place + 1}: {what}", told)


def _text(statements: list[Any]) -> str:
    return ";\n".join(RawStream()(statement) for statement in statements)


def _mutations(statement: Any, world: World) -> Iterator[tuple[str, list[Any]]]:
    where = getattr(statement, "whereClause", None)
    if where is not None:
        yield "WHERE dropped", [_with(statement, whereClause=None)]
        yield from _without_conjuncts(statement, where, world)
        yield "WHERE widened by OR true for one more", [_with(statement, whereClause=_widened(where))]
    if isinstance(statement, ast.UpdateStmt):
        yield from _of_update(statement, world)
    if isinstance(statement, ast.DeleteStmt):
        yield from _of_delete(statement, world)
    if isinstance(statement, ast.UpdateStmt | ast.DeleteStmt | ast.InsertStmt):
        yield from _constants(statement)
        yield from _operators(statement)
        yield "runs twice", [statement, statement]


def _with(statement: Any, **values: Any) -> Any:
    made = copy.deepcopy(statement)
    for name, value in values.items():
        setattr(made, name, value)
    return made


def _without_conjuncts(statement: Any, where: Any, world: World) -> Iterator[tuple[str, list[Any]]]:
    if not (isinstance(where, ast.BoolExpr) and where.boolop == BoolExprType.AND_EXPR):
        return
    terms: list[Any] = list(where.args or ())
    for place, term in enumerate(terms):
        rest = [one for at, one in enumerate(terms) if at != place]
        kept = rest[0] if len(rest) == 1 else ast.BoolExpr(boolop=BoolExprType.AND_EXPR, args=tuple(rest))
        lost = "the tenant's filter" if _names(term) & world.tenant_columns else "a condition"
        yield f"{lost} dropped", [_with(statement, whereClause=kept)]


def _parsed(text: str) -> Any:
    (raw,) = parse_sql(text)
    return raw.stmt


def _widened(where: Any) -> Any:
    return ast.BoolExpr(boolop=BoolExprType.OR_EXPR, args=(where, _parsed("SELECT 1 WHERE 1 = 1").whereClause))


def _of_update(statement: Any, world: World) -> Iterator[tuple[str, list[Any]]]:
    table = statement.relation.relname
    set_columns = {target.name for target in statement.targetList}
    if set_columns & set(MARKERS):
        deletion = ast.DeleteStmt(relation=statement.relation, whereClause=statement.whereClause)
        yield "soft deletion turned into a hard one", [deletion]
    extra = world.extra_columns.get(table)
    if extra is not None and extra not in set_columns:
        more = _parsed(f"UPDATE x SET {extra} = 'mutated'").targetList
        yield "a column more", [_with(statement, targetList=(*statement.targetList, *more))]
    if len(statement.targetList) > 1:
        yield "a column less", [_with(statement, targetList=statement.targetList[:-1])]


def _of_delete(statement: Any, world: World) -> Iterator[tuple[str, list[Any]]]:
    table = statement.relation.relname
    yield "DELETE turned into TRUNCATE", [_parsed(f"TRUNCATE {table} CASCADE")]
    if table != world.root and statement.whereClause is not None and not _subqueries(statement.whereClause):
        of = f"SELECT site_id FROM {table} WHERE {RawStream()(statement.whereClause)}"
        parent = _parsed(f"DELETE FROM {world.root} WHERE id IN ({of})")
        yield "a cascade added: the parents deleted instead", [parent]


def _constants(statement: Any) -> Iterator[tuple[str, list[Any]]]:
    """Whole numbers, one by one: another id."""

    def whole(node: Any) -> bool:
        return isinstance(node, ast.A_Const) and isinstance(node.val, ast.Integer)

    for place in range(len(_found(statement, whole))):
        for shift, what in ((1, "an id shifted"), (1000, "an id of another kind")):
            made = copy.deepcopy(statement)
            node = _found(made, whole)[place]
            node.val = ast.Integer(ival=(node.val.ival or 0) + shift)
            yield f"{what} (number {place + 1})", [made]


def _symbol(node: Any) -> str:
    return str(node.name[-1].sval)


_OTHER = {"=": "<>", "<>": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}


def _operators(statement: Any) -> Iterator[tuple[str, list[Any]]]:
    def compares(node: Any) -> bool:
        return isinstance(node, ast.A_Expr) and node.kind == A_Expr_Kind.AEXPR_OP and _symbol(node) in _OTHER

    for place in range(len(_found(statement, compares))):
        made = copy.deepcopy(statement)
        node = _found(made, compares)[place]
        operator = _symbol(node)
        node.name = (ast.String(sval=_OTHER[operator]),)
        yield f"{operator} turned into {_OTHER[operator]}", [made]


def _names(node: Any) -> set[str]:
    columns = _found(node, lambda one: isinstance(one, ast.ColumnRef))
    return {str(part.sval) for column in columns for part in column.fields if isinstance(part, ast.String)}


def _subqueries(node: Any) -> bool:
    return bool(_found(node, lambda one: isinstance(one, ast.SubLink)))


def _found(node: Any, wanted: Callable[[Any], bool]) -> list[Any]:
    found: list[Any] = []

    class Finder(Visitor):
        def visit(self, ancestors: Any, one: Any) -> None:
            if wanted(one):
                found.append(one)

    Finder()(node)
    return found
