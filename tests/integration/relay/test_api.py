"""The three APIs that take events: their rules, and what they say to what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from outlast.oncall import tables as paging_tables
from outlast.oncall.channels import read
from outlast.oncall.paging import Paging
from outlast.relay import integration, tables
from outlast.relay.commit import Commits
from outlast.relay.integration import Keys
from outlast.relay.rate import Rates
from outlast.relay.upstream import HOPS_HEADER
from outlast.state.database import Database
from outlast.web import accounts
from outlast.web.app import create_app
from outlast.web.security import BODY_BYTES_MAX
from outlast.web.services import Services


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with Database.file(tmp_path_factory.mktemp("api") / "serve.sqlite") as database:
        database.install(tables.SCHEMA, accounts.SCHEMA, paging_tables.SCHEMA)
        pager = Paging(database, read({}, None, ()), lambda: None)
        with Commits(database, pager) as commits:
            yield Services(database, commits, Keys(database), pager, [], "this-one", integration_rates=Rates(1e6, 1e6))


@pytest.fixture(scope="module")
def keys(found: Services) -> dict[str, str]:
    with found.database.write() as connection:
        made = {kind: integration.add(connection, kind, kind, ()) for kind in integration.KINDS}
    found.keys._read_at = None  # what an earlier test had read of them is believed for a second
    return made


@pytest.fixture(scope="module")
def client(found: Services) -> Iterator[TestClient]:
    with TestClient(create_app(found)) as client:
        yield client


def opsgenie(keys: dict[str, str]) -> dict[str, str]:
    return {"Authorization": f"GenieKey {keys['opsgenie']}"}


BODIES: dict[str, dict[str, Any]] = {
    "/v2/alerts": {"message": "x"},
    "/v2/enqueue": {
        "routing_key": "", "event_action": "trigger", "payload": {"summary": "s", "source": "s", "severity": "info"},
    },
    "/alertmanager/webhook": {"version": "4", "alerts": []},
}  # fmt: skip


def shape(path: str, answer: Any) -> None:
    """The vendor's own shape of an error."""
    content = answer.json()
    if path == "/v2/alerts":
        assert {"message", "requestId", "took"} <= set(content)
    elif path == "/v2/enqueue":
        assert {"status", "message", "errors"} <= set(content)
    else:
        assert content["ok"] is False
        assert content["error"]["message"]


def sent(client: TestClient, keys: dict[str, str], path: str, content: bytes) -> Any:
    kind = {"/v2/alerts": "GenieKey " + keys["opsgenie"]}.get(path, "Bearer " + keys["alertmanager"])
    headers = {"Authorization": kind, "Content-Type": "application/json"}
    return client.post(path, content=content, headers=headers)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 400),
        (b"\xff\xfe{}", 400),
        (b"[]", 422),
        (b"null", 422),
        (b'{"message": 1, "alerts": 1, "version": 5}', 422),
        (b'{"message": "' + b"x" * BODY_BYTES_MAX + b'"}', 413),
    ],
    ids=["cut", "utf-16", "list", "null", "wrong types", "oversized"],
)
def test_what_is_wrong_is_told_in_the_vendors_shape(
    client: TestClient, keys: dict[str, str], path: str, content: bytes, status: int
) -> None:
    """Malformed, wrongly encoded, wrongly typed and oversized requests."""
    answer = sent(client, keys, path, content)
    assert answer.status_code == (400 if path == "/v2/enqueue" else status), answer.text
    shape(path, answer)


@pytest.mark.parametrize("path", BODIES)
def test_who_is_unknown_is_told_so(client: TestClient, path: str) -> None:
    """A key that is none, and another integration's, open nothing."""
    for authorization in ("", "GenieKey wrong", "Bearer wrong", "Basic d3Jvbmc6d3Jvbmc="):
        body = {**BODIES[path], "routing_key": "0" * 32} if path == "/v2/enqueue" else BODIES[path]
        answer = client.post(path, json=body, headers={"Authorization": authorization})
        assert answer.status_code == (400 if path == "/v2/enqueue" else 401)
        shape(path, answer)


def test_a_revoked_key_is_worth_nothing(client: TestClient, found: Services) -> None:
    """Within a second of its revocation."""
    with found.database.write() as connection:
        key = integration.add(connection, "leaving", "opsgenie", ())
    found.keys._read_at = None
    headers = {"Authorization": f"GenieKey {key}"}
    assert client.post("/v2/alerts", json={"message": "x"}, headers=headers).status_code == 202
    with found.database.write() as connection:
        integration.revoke(connection, "leaving")
    found.keys._read_at = None  # the second has passed
    assert client.post("/v2/alerts", json={"message": "x"}, headers=headers).status_code == 401


def test_a_sender_that_sends_too_much(client: TestClient, found: Services, keys: dict[str, str]) -> None:
    """Each integration has a rate of its own, and is told 429 with when to come again."""
    before, found.integration_rates = found.integration_rates, Rates(0.001, 2)
    try:
        answers = [client.post("/v2/alerts", json={"message": "x"}, headers=opsgenie(keys)) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [202, 202, 429]
        assert answers[2].headers["Retry-After"] == "1"
        assert sent(client, keys, "/alertmanager/webhook", b'{"version": "4", "alerts": []}').status_code == 200
    finally:
        found.integration_rates = before


@pytest.mark.parametrize("hops", ["this-one", "other, this-one", "a,b,c,d"])
def test_an_event_that_comes_round_is_refused(client: TestClient, keys: dict[str, str], hops: str) -> None:
    """What this Outlast passed on does not come in again, nor what went through too many of them."""
    answer = client.post("/v2/alerts", json={"message": "x"}, headers={**opsgenie(keys), HOPS_HEADER: hops})
    assert answer.status_code == 508


def test_the_short_way_is_the_long_way(client: TestClient, keys: dict[str, str]) -> None:
    """Opening an alert by the short way (web/quick) leaves what the long way leaves."""
    body = {"message": "m", "tags": ["t"], "details": {"a": "b"}, "priority": "P2", "user": "u", "note": "n", "x": [1]}
    read = []
    for alias, query in (("short", ""), ("long", "?long=way")):
        answer = client.post(f"/v2/alerts{query}", json={**body, "alias": alias}, headers=opsgenie(keys))
        assert answer.status_code == 202
        got = client.get(f"/v2/alerts/{alias}?identifierType=alias", headers=opsgenie(keys)).json()["data"]
        read.append(
            {name: got[name] for name in ("message", "tags", "details", "priority", "status", "source", "count")}
        )
    assert read[0] == read[1]


@pytest.mark.parametrize("header", [{}, {"Content-Type": "application/x-www-form-urlencoded"}])
@pytest.mark.parametrize("path", BODIES)
def test_an_event_is_json_whatever_its_header_says(
    client: TestClient, keys: dict[str, str], path: str, header: dict[str, str]
) -> None:
    """`curl -d` names a form, and a script that the vendor understood is understood here."""
    body = {**BODIES[path], **({"routing_key": keys["pagerduty"]} if path == "/v2/enqueue" else {})}
    kind = {"/v2/alerts": "GenieKey " + keys["opsgenie"]}.get(path, "Bearer " + keys["alertmanager"])
    answer = client.post(path, content=json.dumps(body), headers={"Authorization": kind, **header})
    assert answer.status_code == (200 if path == "/alertmanager/webhook" else 202), answer.text


def test_alertmanagers_webhook(client: TestClient, keys: dict[str, str]) -> None:
    """Firing opens an alert by its fingerprint, once; resolved closes it; what is not known is tolerated."""
    alert: dict[str, Any] = {
        "status": "firing", "fingerprint": "f1", "labels": {"alertname": "Disk", "severity": "critical", "team": "db"},
        "annotations": {"summary": "disk full"}, "startsAt": "2026-01-01T00:00:00Z", "generatorURL": "http://p/x",
    }  # fmt: skip
    body = {"version": "4", "groupKey": "g", "status": "firing", "receiver": "r", "new_field": {}, "alerts": [alert]}
    basic = ("anything", keys["alertmanager"])
    for _ in range(2):
        assert client.post("/alertmanager/webhook", json=body, auth=basic).json() == {"ok": True, "alerts": 1}
    body["alerts"] = [{**alert, "status": "resolved"}]
    assert client.post("/alertmanager/webhook", json=body, auth=basic).status_code == 200


def test_the_specification_is_what_we_do(found: Services, keys: dict[str, str], client: TestClient) -> None:
    """schemathesis makes requests from our own OpenAPI document, right and wrong ones: no answer is undocumented."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
    failures: list[str] = []
    for operation in schema.get_all_operations():
        one: Any = operation
        _try(one.ok(), keys, failures)
    assert not failures, "\n".join(failures)


def _try(operation: Any, keys: dict[str, str], failures: list[str]) -> None:
    from hypothesis import HealthCheck, Phase, given, settings

    @settings(
        max_examples=12, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy())
    def run(case: Any) -> None:
        headers = {"Authorization": "GenieKey " + keys["opsgenie"]}
        if "alertmanager" in case.path:
            headers = {"Authorization": "Bearer " + keys["alertmanager"]}
        response = case.call(headers=headers)
        case.validate_response(response, checks=_CHECKS)

    try:
        run()
    except BaseExceptionGroup as group:
        failures += [f"{operation.method} {operation.path}: {error}" for error in group.exceptions]
    except Exception as error:  # noqa: BLE001 - all of them are shown together
        failures.append(f"{operation.method} {operation.path}: {error}")


_CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
