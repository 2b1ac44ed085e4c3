"""What this host remembers of incidents, between processes: the last one, declared closings, and the wish to reset.

`follow` writes incidents, `outlast tripwire` reads them and asks for a reset; both may run at once. All of it lies
encrypted in the local state, and none of it is needed: without it a tombstone of before the restart is not known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from outlast.core.tenant import TenantKey
from outlast.state.local import LocalState

_SPACE = "tripwire"


class IncidentBook:
    """One source's. A LocalState of its own where another thread uses one, too."""

    def __init__(self, state: LocalState, source: str) -> None:
        self._state = state
        self._source = source

    def write(self, incident: Mapping[str, object]) -> None:
        self._put("incident", incident)

    def last(self) -> dict[str, Any] | None:
        """The last incident, as `Incident.to_json` and capture/sentry gave it."""
        return self._get("incident")

    def forget(self) -> None:
        self._state.remove_all(_SPACE, [self._name("incident")])

    def write_tombstones(self, tombstones: Mapping[TenantKey, float]) -> None:
        self._put("tombstones", {str(key): at for key, at in tombstones.items()})

    def tombstones(self) -> dict[TenantKey, float]:
        return {TenantKey(key): float(at) for key, at in (self._get("tombstones") or {}).items()}

    def ask_reset(self, now: datetime) -> None:
        """What a running `follow` looks for every second."""
        self._put("reset", {"at": now.astimezone(UTC).isoformat()})

    def reset_asked(self) -> str | None:
        return (self._get("reset") or {}).get("at")

    def _name(self, name: str) -> str:
        return f"{self._source}:{name}"

    def _put(self, name: str, document: Mapping[str, object]) -> None:
        self._state.put(_SPACE, self._name(name), json.dumps(document, default=str).encode("ascii"))

    def _get(self, name: str) -> dict[str, Any] | None:
        value = self._state.get(_SPACE, self._name(name))
        if value is None:
            return None
        document = json.loads(value)
        assert isinstance(document, dict)
        return document
