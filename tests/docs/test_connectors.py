"""docs/CONNECTORS.md: the connector on the page is one, and every connector and setting is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from outlast.config.tool import KINDS
from outlast.sources.tools.connector import Connector, Resource
from tests.tools import worlds
from tests.tools.fake import TOKEN, Fake
from tests.tools.worlds import SOURCE, Host, World, differences

PAGE = Path(__file__).parents[2] / "docs" / "CONNECTORS.md"


def test_the_connector_on_the_page_backs_its_vendor_up(tmp_path: Path, monkeypatch: Any) -> None:
    """The example is run as it stands: what its vendor has is in the vault, and stays equal when it changes."""
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {}
    exec(compile(found[1], str(PAGE), "exec"), names)
    connector = names["CONNECTOR"]
    assert isinstance(connector, Connector)
    monkeypatch.setattr(worlds, "connector_of", lambda kind: connector)
    fake = Fake()
    fake.header, fake.expected_auth = "X-Api-Key", TOKEN
    checks = fake.table("checks")
    checks["a"] = {"uuid": "a", "name": "nightly backup", "status": "up", "last_ping": "2026-01-01T00:00:00+00:00"}
    flips = fake.table("flips/a")
    flips["1"] = {"timestamp": "2026-01-01T00:00:00+00:00", "up": 1}
    fake.get(r"/api/v3/checks/", lambda _: {"checks": list(checks.values())})
    fake.get(r"/api/v3/channels/", lambda _: {"channels": [{"id": "c1", "kind": "email"}]})
    fake.get(r"/api/v3/checks/([^/]+)/flips/", lambda asked: list(fake.tables[f"flips/{asked.match[1]}"].values()))

    def state() -> worlds.State:
        return {
            "healthchecks.checks": dict(checks),
            "healthchecks.flips": {f"a/{one['timestamp']}": one for one in flips.values()},
            "healthchecks.channels": {"c1": {"id": "c1", "kind": "email"}},
        }

    def nothing() -> None:
        pass

    with fake.serving() as url:
        host = Host(World("healthchecks", fake, state, nothing, nothing, nothing, "checks", "checks"), url, tmp_path)
        host.back_up()
        assert differences(host.held(), state()) == []
        flips["2"] = {"timestamp": "2026-01-02T00:00:00+00:00", "up": 0}
        host.back_up()
        assert differences(host.held(), state()) == []
    assert SOURCE


def test_every_connector_and_every_word_of_a_resource_is_described() -> None:
    """The page has a line for each connector, and for what a resource can say beyond its address."""
    text = PAGE.read_text(encoding="utf-8")
    assert [kind for kind in KINDS if f"| `{kind}` |" not in text] == []
    plain = {"name", "path", "items", "key", "params", "body", "updated", "described"}
    rest = {"loose", "detail_items", "again", "again_items"}
    told = [one for one in Resource.__dataclass_fields__ if one not in plain | rest]
    assert [one for one in told if f"`{one}`" not in text] == []
