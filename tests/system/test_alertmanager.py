"""Debian's Alertmanager, as it is, with its opsgenie, pagerduty and webhook receivers pointed at Outlast."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving import Serving, serving, until

pytestmark = pytest.mark.system

_CONFIGURATION = """
route:
  receiver: all
  group_by: [alertname]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1h
receivers:
- name: all
  opsgenie_configs:
  - api_url: {url}/
    api_key: {opsgenie}
    message: '{{{{ .CommonAnnotations.summary }}}}'
    priority: P1
  pagerduty_configs:
  - url: {url}/v2/enqueue
    routing_key: {pagerduty}
    severity: critical
  webhook_configs:
  - url: {url}/alertmanager/webhook
    http_config:
      authorization:
        credentials: {alertmanager}
"""


def _port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


@contextmanager
def alertmanager(folder: Path, configuration: str) -> Iterator[httpx.Client]:
    """One that runs, by its API."""
    (folder / "alertmanager.yml").write_text(configuration)
    port = _port()
    process = subprocess.Popen(
        [
            "prometheus-alertmanager", f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/am",
            f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            until(lambda: _ready(client), "Alertmanager is ready")
            yield client
    finally:
        process.terminate()
        process.wait(30)


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").status_code == 200
    except httpx.HTTPError:
        return False


def _states(one: Serving) -> dict[str, tuple[str, str, str]]:
    """By integration: the alert's status, message and priority, as the desk shows them."""
    from outlast.relay import reading
    from outlast.state.database import Database

    with Database.file(one.folder / "state" / "serve.sqlite") as database, database.read() as connection:
        alerts = reading.page(connection, [], limit=10)
    return {alert.integration: (alert.status, alert.message, alert.priority) for alert in alerts}


def test_a_firing_and_a_resolved_alert_by_all_three_receivers(tmp_path: Path) -> None:
    """Each of them opens an alert here and closes it again; Alertmanager reports no failed notification."""
    kinds = ("opsgenie", "pagerduty", "alertmanager")
    with serving(tmp_path) as one:
        keys = {kind: one.integration(kind, kind, "--alone") for kind in kinds}
        one.start()
        with alertmanager(tmp_path, _CONFIGURATION.format(url=one.url, **keys)) as client:
            alert: dict[str, Any] = {
                "labels": {"alertname": "DiskFull", "instance": "db1", "severity": "critical"},
                "annotations": {"summary": "disk of db1 is full"},
            }
            assert client.post("/api/v2/alerts", json=[alert]).status_code == 200
            until(lambda: {state[0] for state in _states(one).values()} == {"open"} and len(_states(one)) == 3, "three")
            opened = _states(one)
            assert opened["opsgenie"] == ("open", "disk of db1 is full", "P1")
            assert opened["alertmanager"] == ("open", "disk of db1 is full", "P1")
            assert opened["pagerduty"][2] == "P1"
            alert["endsAt"] = "2020-01-01T00:00:00Z"
            assert (
                client.post("/api/v2/alerts", json=[{**alert, "startsAt": "2019-01-01T00:00:00Z"}]).status_code == 200
            )
            until(lambda: {state[0] for state in _states(one).values()} == {"closed"}, "all three are resolved")
            metrics = client.get("/metrics").text
        failed = [line for line in metrics.splitlines() if line.startswith("alertmanager_notifications_failed_total")]
        assert failed
        assert all(line.endswith(" 0") for line in failed), failed
