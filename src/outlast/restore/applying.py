"""The one transaction that puts a tenant back: recheck, write, read back, and commit only what is proven.

Everything runs on one REPEATABLE READ snapshot: what holds for it is that snapshot + plan = planned root. Commits of
others that come later compose with it; a row that both touch makes the server refuse one of them.
"""

from __future__ import annotations

from outlast.core.plan import TenantPlan
from outlast.core.table import TableName
from outlast.restore.live import read_run
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


def apply_staged(connection: Session, stage: Stage, scope: Scope, plan: TenantPlan) -> None:
    """Write the staged rows of one tenant and commit, or change nothing and raise.

    Raises LiveChangedError, NotExactError, ReferenceGoneError, an OutlastError of a read, or psycopg's own error of a
    write. An error that came while COMMIT was under way leaves open whether it was done: only looking can tell.
    """
    try:
        connection.execute(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE")
        _recheck(connection, scope, plan)
        write_staged(connection, scope.catalog, stage, scope.facts)
        raise_sequences(connection, scope.catalog, stage)
        _prove(connection, stage, scope, plan)
        connection.execute(b"COMMIT")
    finally:
        roll_back(connection)


def _recheck(connection: Session, scope: Scope, plan: TenantPlan) -> None:
    for table in scope.tables:
        run = read_run(connection, scope.catalog, table, plan.tenant.key, keep_bytes_max=0)
        if run.root != plan.base.get(str(table.name), ""):
            raise LiveChangedError(table.name)


def _prove(connection: Session, stage: Stage, scope: Scope, plan: TenantPlan) -> None:
    written = stage.rows.keys()
    # Without triggers nothing but the tables written can have changed since the recheck, on this very snapshot
    triggered = any(table in scope.facts.triggers for table in written)
    for table in scope.tables:
        if triggered or table.name in written:
            run = read_run(connection, scope.catalog, table, plan.tenant.key, keep_bytes_max=0)
            if run.root != plan.target.get(str(table.name), ""):
                raise NotExactError(table.name)
