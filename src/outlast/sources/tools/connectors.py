"""The connectors there are, by kind; each is imported when it is asked for."""

from __future__ import annotations

import importlib

from outlast.sources.tools.connector import Connector


def connector_of(kind: str) -> Connector:
    """The connector of a kind that outlast.toml may name."""
    found = importlib.import_module(f"outlast.sources.tools.{kind}").CONNECTOR
    assert isinstance(found, Connector)
    return found
