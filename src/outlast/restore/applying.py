"""The one transaction that puts a tenant back, or a group: recheck, write, read back, commit only what is proven.

Everything runs on one REPEATABLE READ snapshot: what holds for it is that snapshot + plan = planned root. Commits of
others that come later compose with it; a row that both touch makes the server refuse one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from outlast.core.plan import TenantPlan
from outlast.core.table import Table, TableName
from outlast.core.tenant import TenantKey
from outlast.restore.live import roots_of
from outlast.restore.planning import Scope
from outlast.restore.sessions import roll_back
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.write import Stage, raise_sequences, write_staged


class LiveChangedError(Exception):
    """The live rows are no longer those that the plan was computed from."""

    def __init__(self, table: TableName) -> None:
        super().__init__(str(table))
        self.table = table


class NotExactError(Exception):
    """What was read back inside the transaction is not what was planned."""

    def __init__(self, table: TableName) -> None:
        super().__init__(str(table))
        self.table = table


def apply_staged(connection: Session, stage: Stage, scope: Scope, plans: Sequence[TenantPlan]) -> None:
    """Write the staged rows of all these tenants and commit, or change nothing and raise.

    Raises LiveChangedError, NotExactError, ReferenceGoneError, an OutlastError of a read, or psycopg's own error of a
    write. An error that came while COMMIT was under way leaves open whether it was done: only looking can tell.
    """
    try:
        connection.execute(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE")
        _recheck(connection, scope, plans)
        write_staged(connection, scope.catalog, stage, scope.facts)
        raise_sequences(connection, scope.catalog, stage)
        _prove(connection, stage, scope, plans)
        connection.execute(b"COMMIT")
    finally:
        roll_back(connection)


def _recheck(connection: Session, scope: Scope, plans: Sequence[TenantPlan]) -> None:
    for table in scope.tables:
        roots = _roots(connection, scope, table, plans)
        if any(roots.get(plan.tenant.key, "") != plan.base.get(str(table.name), "") for plan in plans):
            raise LiveChangedError(table.name)


def _prove(connection: Session, stage: Stage, scope: Scope, plans: Sequence[TenantPlan]) -> None:
    written = stage.rows.keys()
    # Without triggers nothing but the tables written can have changed since the recheck, on this very snapshot
    triggered = any(table in scope.facts.triggers for table in written)
    for table in scope.tables:
        if triggered or table.name in written:
            roots = _roots(connection, scope, table, plans)
            if any(roots.get(plan.tenant.key, "") != plan.target.get(str(table.name), "") for plan in plans):
                raise NotExactError(table.name)


def _roots(connection: Session, scope: Scope, table: Table, plans: Sequence[TenantPlan]) -> Mapping[TenantKey, str]:
    return dict(roots_of(connection, scope.catalog, table, [plan.tenant.key for plan in plans]))
