"""Conflicts that a policy settles: values replaced, rows left out, keys given anew, shared parents put back."""

from __future__ import annotations

from collections.abc import Sequence

from outlast.core.conflict import Resolution
from outlast.core.plan import TenantPlan
from outlast.restore.scope import Scope
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.write_stage import Stage


def resolve(connection: Session, scope: Scope, stage: Stage, plan: TenantPlan) -> Sequence[Resolution]:
    return ()


def with_shared(connection: Session, scope: Scope, stage: Stage, plan: TenantPlan) -> TenantPlan:
    return plan
