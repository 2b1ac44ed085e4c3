"""The vendors' own Python clients, as they come from PyPI, pointed at Outlast by their base URL."""

from __future__ import annotations

import datetime
import importlib
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pagerduty
import pytest

from tests.serving import Serving, serving
from tests.tls import certificate, tls

SPECIFICATION = Path(os.environ.get("OUTLAST_SPECS", "/work/shared/specs")) / "opsgenie.json"


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("clients")) as found:
        yield found


@pytest.fixture(scope="module")
def keys(one: Serving) -> dict[str, str]:
    made = {kind: one.integration(kind, kind) for kind in ("opsgenie", "pagerduty")}
    one.start()
    return made


@pytest.fixture
def sdk(one: Serving, keys: dict[str, str]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opsgenie_sdk: Any = importlib.import_module("opsgenie_sdk")
    configuration = opsgenie_sdk.Configuration()
    configuration.host = one.url
    configuration.api_key["Authorization"] = keys["opsgenie"]
    return opsgenie_sdk, opsgenie_sdk.AlertApi(opsgenie_sdk.ApiClient(configuration))


@pytest.mark.filterwarnings("ignore")
def test_opsgenie_sdk(sdk: Any) -> None:
    """Everything that the relay takes, by Opsgenie's own client: create, change, read, ask what became of it."""
    module, api = sdk
    created = api.create_alert(
        module.CreateAlertPayload(
            message="disk full", alias="sdk-1", priority="P2", tags=["db"], details={"host": "db1"}, entity="db1",
            responders=[{"type": "team", "name": "Databases"}], note="first", user="robot", source="tests",
        )
    )  # fmt: skip
    status = api.get_request_status(created.request_id)
    assert (status.data.is_success, status.data.action, status.data.alias) == (True, "create", "sdk-1")

    def alert() -> Any:
        return api.get_alert("sdk-1", identifier_type="alias").data

    opened = alert()
    assert (opened.message, opened.priority, opened.status, opened.tags) == ("disk full", "P2", "open", ["db"])
    by = {"identifier_type": "alias"}
    api.acknowledge_alert("sdk-1", acknowledge_alert_payload=module.AcknowledgeAlertPayload(user="ana"), **by)
    assert alert().acknowledged
    api.un_acknowledge_alert("sdk-1", un_acknowledge_alert_payload=module.UnAcknowledgeAlertPayload(user="ana"), **by)
    assert not alert().acknowledged
    api.add_note("sdk-1", module.AddNoteToAlertPayload(note="looking", user="ana"), **by)
    assert [note.note for note in api.list_notes("sdk-1", **by).data] == ["looking", "first"]
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    api.snooze_alert("sdk-1", module.SnoozeAlertPayload(end_time=end), **by)
    assert alert().snoozed
    api.assign_alert("sdk-1", module.AssignAlertPayload(owner={"username": "bo@example.com"}), **by)
    assert alert().owner == "bo@example.com"
    api.add_tags("sdk-1", module.AddTagsToAlertPayload(tags=["more"]), **by)
    api.remove_tags("sdk-1", tags=["db"], **by)
    assert alert().tags == ["more"]
    api.add_details("sdk-1", module.AddDetailsToAlertPayload(details={"rack": "7"}), **by)
    api.remove_details("sdk-1", keys=["host"], **by)
    assert alert().details == {"rack": "7"}
    api.update_alert_priority("sdk-1", update_alert_priority_payload={"priority": "P1"}, **by)
    api.update_alert_message("sdk-1", update_alert_message_payload={"message": "disk very full"}, **by)
    api.update_alert_description("sdk-1", update_alert_description_payload={"description": "no room"}, **by)
    changed = alert()
    assert (changed.priority, changed.message, changed.description) == ("P1", "disk very full", "no room")
    assert api.get_alert(opened.tiny_id, identifier_type="tiny").data.id == opened.id
    listed = api.list_alerts(query="status: open AND priority: P1", limit=10)
    assert [one.alias for one in listed.data] == ["sdk-1"]
    assert api.count_alerts(query="disk").data.count == 1
    api.close_alert(opened.id, close_alert_payload=module.CloseAlertPayload(user="ana"))
    closed = alert()
    assert (closed.status, closed.report.closed_by) == ("closed", "ana")
    again = api.create_alert(module.CreateAlertPayload(message="disk full", alias="sdk-1"))
    assert api.get_request_status(again.request_id).data.alert_id != opened.id, "a closed alias opens a new alert"


@pytest.mark.filterwarnings("ignore")
def test_opsgenie_sdk_reads_our_errors(sdk: Any) -> None:
    """A wrong key, an alert that is not there, and a request that failed are told as the vendor tells them."""
    module, api = sdk
    error = module.exceptions.RetryableException
    with pytest.raises(error) as missing:
        api.get_alert("no-such-alert")
    assert missing.value.status == 404
    failed = api.close_alert("no-such-alert", identifier_type="alias")
    assert api.get_request_status(failed.request_id).data.is_success is False
    api.api_client.configuration.api_key["Authorization"] = "0" * 32
    with pytest.raises(error) as unknown:
        api.create_alert(module.CreateAlertPayload(message="x"))
    assert unknown.value.status == 401
    assert json.loads(unknown.value.body)["message"] == "Could not authenticate"


def test_pagerduty_client(one: Serving, keys: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trigger, acknowledge, resolve by PagerDuty's own client; a dedup_key is one alert."""
    pem = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with tls(one.url, pem) as url:
        with pagerduty.EventsApiV2Client(keys["pagerduty"], base_url=url) as client:
            key = client.trigger("db1 is slow", "db1", severity="critical", custom_details={"load": 31})
            assert client.trigger("db1 is slow", "db1", dedup_key=key) == key
            client.acknowledge(key)
            client.resolve(key)
        with (
            pagerduty.EventsApiV2Client("0" * 32, base_url=url) as stranger,
            pytest.raises(pagerduty.HttpError) as unknown,
        ):
            stranger.trigger("x", "y")
    answer = unknown.value.response
    assert answer is not None
    assert answer.status_code == 400
    assert answer.json()["status"] == "invalid event"


@pytest.mark.skipif(not SPECIFICATION.exists(), reason="the vendor's specification is not on this machine")
def test_answers_are_valid_by_the_vendors_specification(one: Serving, keys: dict[str, str]) -> None:
    """What Opsgenie's published specification says of an answer holds for ours."""
    import jsonschema_rs

    specification = json.loads(SPECIFICATION.read_text())

    def valid(content: object, name: str) -> None:
        schema = {"$ref": f"#/definitions/{name}", "definitions": specification["definitions"]}
        jsonschema_rs.validate(schema, content)

    with one.opsgenie(keys["opsgenie"]) as client:
        body = {"message": "by the book", "alias": "book", "responders": [{"type": "team", "name": "Databases"}]}
        accepted = client.post("/v2/alerts", json=body).json()
        valid(accepted, "SuccessResponse")
        client.post("/v2/alerts/book/notes?identifierType=alias", json={"note": "n"})
        client.post("/v2/alerts/book/acknowledge?identifierType=alias", json={})
        for path, name in (
            (f"/v2/alerts/requests/{accepted['requestId']}", "GetRequestStatusResponse"),
            ("/v2/alerts/book?identifierType=alias", "GetAlertResponse"),
            ("/v2/alerts", "ListAlertsResponse"),
            ("/v2/alerts/book/notes?identifierType=alias", "ListAlertNotesResponse"),
            ("/v2/alerts/book/logs?identifierType=alias", "ListAlertLogsResponse"),
            ("/v2/alerts/missing", "ErrorResponse"),
        ):
            valid(client.get(path).json(), name)
