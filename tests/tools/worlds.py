"""One world a vendor: its fake, what the vault must hold of it, and what may happen to it. All run the same suite."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from outlast.capture.backup import BackupOptions, BackupResult, Place, backup
from outlast.core.document import decode_row
from outlast.core.tenant import Tenant, TenantKey
from outlast.sources.tools.client import Account, Clock
from outlast.sources.tools.connectors import connector_of
from outlast.sources.tools.fetch import FetchOptions
from outlast.sources.tools.source import ToolSource
from outlast.state.local import LocalState
from outlast.vault.header import create_vault
from outlast.vault.keys import Identity, WriterKeys, generate_identity
from outlast.vault.reader import Vault
from outlast.vault.store import Store, open_store
from tests.tools import confluence, jira, opsgenie, pagerduty, statuspage
from tests.tools.fake import TOKEN, Document, Fake

SOURCE = "tool"
State = dict[str, dict[str, Document]]


class HastyClock:
    """Waiting takes no time, but time passes."""

    def __init__(self) -> None:
        self.waited_s = 0.0

    def clock(self) -> Clock:
        return Clock(
            now=lambda: time.monotonic() + self.waited_s, wall=lambda: time.time() + self.waited_s, sleep=self.sleep
        )

    def sleep(self, seconds: float) -> None:
        self.waited_s += seconds


@dataclass
class World:
    """A fake and what is to be known about it. `state` is what the vault must hold, by table and key."""

    kind: str
    fake: Fake
    state: Callable[[], State]
    add: Callable[[], None]
    change: Callable[[], None]
    delete: Callable[[], None]
    swept: str  # a table without a cursor that has more than one document
    refused: str  # a table whose address ends in its name, and is no other's
    user: str | None = None
    site: Mapping[str, str] = field(default_factory=dict)


class Host:
    """Backs a world up, as a host does: with a state folder, keys and a vault."""

    def __init__(self, world: World, url: str, folder: Path) -> None:
        self.world, self.url, self.folder = world, url, folder
        self.clock = HastyClock()
        _, recovery = generate_identity("recovery")
        operator, operator_recipient = generate_identity("operator")
        self.operator = Identity.from_text(operator, "operator.key")
        self.keys = WriterKeys.generate((recovery, operator_recipient))
        self.store: Store = open_store(str(folder / "vault"), make=True)
        self.pin = create_vault(self.store, self.keys)

    def source(self, state: LocalState, **options: Any) -> ToolSource:
        connector = connector_of(self.world.kind)
        patience = options.pop("patience_s", 300.0)
        token = options.pop("token", TOKEN)
        account = Account(SOURCE, connector, self.url + connector.under, token, self.world.user, 10**6, 1.0, patience)
        given = {"content_bytes_max": 10**8, "reconcile": timedelta(0), **options}
        tenant = Tenant(TenantKey("acme"), "acme")
        mirror = self.folder / "state" / "tool.mirror.sqlite"
        return ToolSource(
            account, tenant, self.world.site, FetchOptions(**given), mirror, state.host_key, self.clock.clock()
        )

    def back_up(self, **options: Any) -> BackupResult:
        with LocalState(self.folder / "state") as state:
            place = Place(SOURCE, self.source(state, **options), self.store, self.keys, state)
            return backup(place, BackupOptions(jobs=1))

    def vault(self) -> Vault:
        return Vault.open(self.store, self.pin, self.operator)

    def held(self) -> State:
        """What the newest run holds."""
        vault = self.vault()
        run = vault.resolve(SOURCE)
        found: State = {}
        for entry in vault.tenants(SOURCE, run.run):
            manifest = vault.manifest(SOURCE, entry)
            for name, table in manifest.tables.items():
                keys: list[str] = []
                for _, data in vault.chunks(SOURCE, entry, table):
                    for line in data.split(b"\n")[:-1]:
                        one = decode_row(line, source=SOURCE, tenant="acme", table=name)
                        found.setdefault(name, {})[one.key] = one.document
                        keys.append(one.key)
                assert keys == sorted(set(keys), key=str.encode), f"{name}: keys out of order, or doubled"
        return found


def differences(held: State, wanted: State) -> list[str]:
    """What is not the same, told shortly; contents of files are left out (they have a test of their own)."""
    told = []
    for table in sorted({*held, *wanted}):
        ours, theirs = held.get(table, {}), wanted.get(table, {})
        if table.endswith("_content"):
            continue
        told += [f"{table} {key}: missing" for key in sorted(theirs.keys() - ours.keys())]
        told += [f"{table} {key}: too much" for key in sorted(ours.keys() - theirs.keys())]
        told += [
            f"{table} {key}: {_short(ours[key])} is not {_short(theirs[key])}"
            for key in sorted(ours.keys() & theirs.keys())
            if ours[key] != theirs[key]
        ]
    return told


def _short(document: Document) -> str:
    return json.dumps(document, sort_keys=True)[:200]


@contextmanager
def hosted(kind: str, folder: Path) -> Iterator[Host]:
    world = WORLDS[kind]()
    with world.fake.serving() as url:
        yield Host(world, url, folder)


def _under(fake: Fake, prefix: str, key: Callable[[str, Document], str]) -> dict[str, Document]:
    """Documents of the tables `prefix/PARENT`, by the parent's key and their own."""
    return {
        key(name.removeprefix(prefix + "/"), one): one
        for name, table in fake.tables.items()
        if name.startswith(prefix + "/")
        for one in table.values()
    }


def _by(place: str) -> Callable[[str, Document], str]:
    def key(parent: str, one: Document) -> str:
        value: Any = one
        for name in place.split("."):
            value = value[name]
        return f"{parent}/{str(value).replace('/', '%2F')}"

    return key


def _plain(fake: Fake, name: str, key: str = "id") -> dict[str, Document]:
    return {str(one[key]): one for one in fake.table(name).values()}


def _opsgenie() -> World:
    fake = opsgenie.Opsgenie()
    opsgenie.fill(fake)

    def state() -> State:
        alive = set(fake.table("alerts"))
        notes = {k: v for k, v in _under(fake, "notes", _by("offset")).items() if k.partition("/")[0] in alive}
        logs = {k: v for k, v in _under(fake, "logs", _by("offset")).items() if k.partition("/")[0] in alive}
        schedules = _plain(fake, "schedules")
        tables: State = {
            "account": {"acme": {"name": "acme", "userCount": 3}},
            "contacts": _under(fake, "contacts", _by("id")),
            "notification_rules": _under(fake, "notification-rules", _by("id")),
            "team_roles": _under(fake, "team-roles", _by("id")),
            "routing_rules": _under(fake, "team-routing-rules", _by("id")),
            "rotations": _under(fake, "rotations", _by("id")),
            "overrides": _under(fake, "overrides", _by("alias")),
            "integration_actions": {
                f"{key}/000000": {"_parent": {"id": key}, "create": []} for key in fake.table("integrations")
            },
            "timelines": {
                f"{key}/000000": {
                    "_parent": {"id": key},
                    "startDate": f"{datetime.now(UTC):%Y-%m-%d}T00:00:00Z",
                    "finalTimeline": {},
                }
                for key in schedules
            },
            "team_alert_policies": {
                f"{team}/{one['id']}": one
                for team in fake.table("teams")
                for one in fake.table(f"alert-policies{team}").values()
            },
            "team_notification_policies": {
                f"{team}/{one['id']}": one
                for team in fake.table("teams")
                for one in fake.table(f"notification-policies{team}").values()
            },
            "alert_notes": notes,
            "alert_logs": logs,
            "incident_timelines": _under(fake, "entries", _by("id")),
            "heartbeats": _plain(fake, "heartbeats", "name"),
            "alert_policies": _plain(fake, "alert-policies"),
            "forwarding_rules": _plain(fake, "forwarding-rules"),
        }
        for name in ("users", "roles", "teams", "schedules", "escalations", "integrations", "maintenance", "services"):
            tables[name] = _plain(fake, name)
        for name in ("alerts", "incidents"):
            tables[name] = _plain(fake, name)
        return {f"opsgenie.{name}": found for name, found in tables.items() if found}

    def add() -> None:
        one = opsgenie.alert(100, _now(), "new alert")
        fake.table("alerts")[one["id"]] = one
        fake.table(f"notes/{one['id']}")["1"] = {"offset": "n100", "note": "new"}
        fake.table("users")["user-9"] = {"id": "user-9", "username": "nine@example.com"}

    def change() -> None:
        old = fake.table("alerts")["alert-0002"]
        fake.table("alerts")["alert-0002"] = {**old, "status": "closed", "updatedAt": _now()}
        fake.table("notes/alert-0002")["2"] = {"offset": "n2", "note": "closed by hand"}
        fake.table("schedules")["schedule-0"] = {**fake.table("schedules")["schedule-0"], "enabled": False}

    def delete() -> None:
        del fake.table("alerts")["alert-0001"]
        del fake.table("users")["user-3"]
        del fake.tables["contacts/user-3"], fake.tables["notification-rules/user-3"]
        del fake.table("overrides/schedule-1")["ov/1"]

    return World("opsgenie", fake, state, add, change, delete, "users", "escalations")


def _pagerduty() -> World:
    fake = pagerduty.PagerDuty()
    pagerduty.fill(fake)

    def state() -> State:
        tables: State = {
            "contact_methods": _under(fake, "contact_methods", _by("id")),
            "notification_rules": _under(fake, "notification_rules", _by("id")),
            "team_members": _under(fake, "members", _by("user.id")),
            "overrides": _under(fake, "overrides", _by("id")),
            "rendered_schedules": {
                f"{key}/{key}": {**one, "final_schedule": pagerduty.FINAL}
                for key, one in fake.table("schedules").items()
            },
            "schedules_v3": {
                key: {**one, "final_schedule": pagerduty.RENDERED} for key, one in fake.table("schedules_v3").items()
            },
            "schedule_v3_custom_shifts": _under(fake, "v3/custom_shifts", _by("id")),
            "schedule_v3_overrides": _under(fake, "v3/overrides", _by("id")),
            "oncalls": {
                "PE1/1/PS1/PUSR001/2026-01-01T00:00:00Z": fake.table("oncalls")["x"],
                "PE1/2/PUSR002": fake.table("oncalls")["y"],
            },
            "services": {
                key: {name: value for name, value in one.items() if name != "integrations"}
                for key, one in fake.table("services").items()
            },
            "integrations": {
                f"{key}/{one['id']}": one
                for key, service in fake.table("services").items()
                for one in service["integrations"]
            },
            "event_orchestrations": _plain(fake, "orchestrations"),
            "incident_alerts": _under(fake, "alerts", _by("id")),
            "incident_notes": _under(fake, "notes", _by("id")),
            "log_entries": {f"{one['incident']['id']}/{key}": one for key, one in fake.table("log_entries").items()},
        }
        for name in ("users", "teams", "schedules", "escalation_policies", "business_services", "priorities"):
            tables[name] = _plain(fake, name)
        for name in ("maintenance_windows", "extensions", "tags", "incidents"):
            tables[name] = _plain(fake, name)
        return {f"pagerduty.{name}": found for name, found in tables.items() if found}

    def add() -> None:
        pagerduty.add_incident(fake, 50, _now())
        fake.table("teams")["PT2"] = {"id": "PT2", "type": "team", "name": "Search"}

    def change() -> None:
        fake.table("incidents")["PINC0002"] = {**fake.table("incidents")["PINC0002"], "status": "resolved"}
        fake.table("notes/PINC0002")["2"] = {"id": "PN2b", "content": "it was DNS"}
        pagerduty.log(fake, 2, "2-2", _now())
        fake.table("users")["PUSR005"]["job_title"] = "SRE"
        fake.table("contact_methods/PUSR006")["c"] = {"id": "PCM006", "type": "sms_contact_method", "address": "y"}

    def delete() -> None:
        del fake.table("users")["PUSR010"], fake.tables["contact_methods/PUSR010"]
        del fake.tables["notification_rules/PUSR010"]
        del fake.table("overrides/PS1")["o"]
        del fake.table("schedules_v3")["PV31"], fake.tables["v3/custom_shifts/PV31"], fake.tables["v3/overrides/PV31"]

    return World("pagerduty", fake, state, add, change, delete, "users", "teams")


def _statuspage() -> World:
    fake = statuspage.Statuspage()
    statuspage.fill(fake)

    def state() -> State:
        tables: State = {
            "pages": _plain(fake, "page"),
            "component_groups": _plain(fake, "component-groups"),
            "postmortems": {f"{key}/000000": one for key, one in fake.table("postmortems").items()},
            "incident_subscribers": _under(fake, "subscribers", _by("id")),
            "status_embed_config": _plain(fake, "embed", "page_id"),
        }
        for name in ("components", "incidents", "incident_templates", "metrics", "metrics_providers", "subscribers"):
            tables[name] = _plain(fake, name)
        for name in ("unsubscribed", "page_access_users", "page_access_groups"):
            tables[name] = _plain(fake, name)
        return {f"statuspage.{name}": found for name, found in tables.items() if found}

    def add() -> None:
        fake.table("incidents")["inc9"] = {"id": "inc9", "name": "New", "updated_at": _now(), "incident_updates": []}
        fake.table("subscribers")["s999"] = {"id": "s999", "mode": "sms", "phone_number": "5550100"}

    def change() -> None:
        fake.table("incidents")["inc1"] = {**fake.table("incidents")["inc1"], "name": "Solved", "updated_at": _now()}
        fake.table("components")["0"] = {**fake.table("components")["0"], "status": "major_outage"}
        fake.table("subscribers/inc1")["2"] = {"id": "is1b", "email": "two@customer.example"}

    def delete() -> None:
        for n in range(0, 120, 7):
            del fake.table("subscribers")[f"s{n:03}"]
        del fake.table("incidents")["inc2"], fake.tables["subscribers/inc2"]

    site = {"page": statuspage.PAGE}
    return World("statuspage", fake, state, add, change, delete, "subscribers", "components", site=site)


def _confluence() -> World:
    fake = confluence.Confluence()
    confluence.fill(fake)

    def state() -> State:
        alive = set(fake.table("pages"))
        below = {
            name: {k: v for k, v in _under(fake, name, _by(key)).items() if k.partition("/")[0] in alive}
            for name, key in (("versions", "number"), ("labels", "id"))
        }
        tables: State = {
            "space_permissions": _under(fake, "permissions", _by("id")),
            "page_versions": below["versions"],
            "page_labels": below["labels"],
            "footer_comments": {"1001/f1": fake.table("footer-comments")["f1"]},
            "inline_comments": {"b1/i1": fake.table("inline-comments")["i1"]},
            "attachments": {f"1001/{key}": one for key, one in fake.table("attachments").items()},
        }
        for name in ("spaces", "pages", "blogposts", "tasks"):
            tables[name] = _plain(fake, name)
        return {f"confluence.{name}": found for name, found in tables.items() if found}

    def add() -> None:
        one = confluence.page(50, _now(), "Restart it")
        fake.table("pages")[one["id"]] = one
        fake.table(f"versions/{one['id']}")["1"] = {"number": 1, "createdAt": one["version"]["createdAt"]}

    def change() -> None:
        one = confluence.page(2, _now(), "Do not restart it")
        one["version"]["number"] = 2
        fake.table("pages")[one["id"]] = one
        fake.table(f"versions/{one['id']}")["2"] = {"number": 2, "createdAt": one["version"]["createdAt"]}
        fake.table("spaces")["1"] = {**fake.table("spaces")["1"], "name": "Ops"}

    def delete() -> None:
        del fake.table("pages")["1003"]
        del fake.table("attachments")["a1"]

    return World("confluence", fake, state, add, change, delete, "spaces", "tasks", confluence.USER)


def _jira() -> World:
    fake = jira.Jira()
    jira.fill(fake)

    def state() -> State:
        alive = set(fake.table("issues"))

        def of_issues(prefix: str) -> dict[str, Document]:
            return {k: v for k, v in _under(fake, prefix, _by("id")).items() if k.partition("/")[0] in alive}

        issues = {}
        for key, one in fake.table("issues").items():
            found = fake.issue(one)
            fields = {k: v for k, v in found["fields"].items() if k != "attachment"}
            for name, under in (("comment", "comments"), ("worklog", "worklogs")):
                if len(fields[name][under]) == fields[name]["total"]:
                    fields[name] = {k: v for k, v in fields[name].items() if k != under}
            issues[key] = {**found, "fields": fields}
        tables: State = {
            "users": _plain(fake, "users", "accountId"),
            "groups": {"g-1": fake.table("group/bulk")["1"]},
            "issues": issues,
            "comments": of_issues("comment"),
            "worklogs": of_issues("worklog"),
            "changelogs": of_issues("changelog"),
            "attachments": of_issues("attachment"),
            "remote_links": of_issues("remotelink"),
            "versions": _under(fake, "versions", _by("id")),
            "components": _under(fake, "components", _by("id")),
            "boards": _plain(fake, "boards"),
            "sprints": _under(fake, "sprints", _by("id")),
        }
        for name, table in _JIRA_TABLES.items():
            tables[name] = _plain(fake, table)
        return {f"jira.{name}": found for name, found in tables.items() if found}

    def add() -> None:
        jira.add_issue(fake, 50, datetime.now(UTC), comments=3, summary="brand new")

    def change() -> None:
        moved = jira.issue(2, datetime.now(UTC), "changed")
        fake.table("issues")[moved["id"]] = moved
        fake.table(f"comment/{moved['id']}")["9"] = {"id": "c9", "body": "a new comment"}
        fake.table(f"changelog/{moved['id']}")["9"] = {
            "id": "h9",
            "items": [{"field": "summary", "toString": "changed"}],
            "created": 1492070429,
        }
        fake.table("users")["u005"] = {**fake.table("users")["u005"], "active": False}

    def delete() -> None:
        del fake.table("issues")["10001"]
        del fake.table("users")["u010"]
        del fake.table("versions/1")["1"]

    return World("jira", fake, state, add, change, delete, "users", "screens", jira.USER)


_JIRA_TABLES = {
    "issue_types": "issuetype",
    "priorities": "priority/search",
    "resolutions": "resolution/search",
    "statuses": "statuses/search",
    "fields": "field",
    "link_types": "issueLinkType",
    "project_roles": "role",
    "workflows": "workflows/search",
    "workflow_schemes": "workflowscheme",
    "issue_type_schemes": "issuetypescheme",
    "issue_type_screen_schemes": "issuetypescreenscheme",
    "screens": "screens",
    "screen_schemes": "screenscheme",
    "field_configurations": "fieldconfiguration",
    "field_configuration_schemes": "fieldconfigurationscheme",
    "permission_schemes": "permissionscheme",
    "notification_schemes": "notificationscheme",
    "security_schemes": "issuesecurityschemes",
    "filters": "filter/search",
    "dashboards": "dashboard/search",
    "projects": "project/search",
}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


WORLDS: Mapping[str, Callable[[], World]] = {
    "opsgenie": _opsgenie,
    "pagerduty": _pagerduty,
    "statuspage": _statuspage,
    "confluence": _confluence,
    "jira": _jira,
}
