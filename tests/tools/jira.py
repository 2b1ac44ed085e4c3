"""Jira, as its specification has it: values by startAt, issues by /search/jql and a token for the next page."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.tools.fake import TOKEN, WRITE_TOKEN, Answer, Asked, Document, Fake, Route

USER = "reader@example.com"
WRITER = "writer@example.com"
_VALUES = (
    "group/bulk", "priority/search", "resolution/search", "statuses/search", "workflows/search", "workflowscheme",
    "issuetypescheme", "issuetypescreenscheme", "screens", "screenscheme", "fieldconfiguration",
    "fieldconfigurationscheme", "notificationscheme", "filter/search", "dashboard/search", "project/search",
)  # fmt: skip
_NUMBERED = frozenset(
    {"role", "permissionscheme", "issuesecurityschemes", "workflowscheme", "screens", "screenscheme",
     "notificationscheme", "fieldconfiguration"}
)  # fmt: skip
"""Their ids are numbers."""

BULK_MAX = 1000
INLINE_MAX = 2
"""So many comments and worklogs come with an issue; of more the first ones, and their number."""


class Jira(Fake):
    def __init__(self) -> None:
        super().__init__()
        self.expected_auth = "Basic " + base64.b64encode(f"{USER}:{TOKEN}".encode()).decode()
        self.writing_auth = "Basic " + base64.b64encode(f"{WRITER}:{WRITE_TOKEN}".encode()).decode()
        self.expired: set[str] = set()
        self.unindexed = 0  # so many searches do not see yet what was created
        self.required: dict[str, str] = {}  # what a new issue lacks: fields, and what is said of them
        api, agile, one = "/rest/api/3", "/rest/agile/1.0", r"([^/]+)"
        self.get(f"{api}/myself", lambda _: {"accountId": "me"})
        for name in _VALUES:
            self.get(f"{api}/{name}", self.values(name))
        self.get(f"{api}/users/search", self.slice("users"))
        for name in ("issuetype", "field", "role"):
            self.get(f"{api}/{name}", self.all(name))
        for name, under in (
            ("issueLinkType", "issueLinkTypes"),
            ("permissionscheme", "permissionSchemes"),
            ("issuesecurityschemes", "issueSecuritySchemes"),
        ):
            self.get(f"{api}/{name}", self.all(name, under))
        for name in ("versions", "components"):
            self.get(f"{api}/project/{one}/{name}", lambda asked, name=name: self.docs(f"{name}/{asked.match[1]}"))  # type: ignore[misc]
        self.get(f"{api}/search/jql", self.search)
        self.get(f"{api}/issue/{one}", lambda asked: self.issue(self.known(asked.match[1])))
        self.get(f"{api}/mypermissions", self.permissions)
        self.post(f"{api}/issue", self.create)
        self.post(f"{api}/issue/{one}/comment", self.comment)
        for name, under in (("comment", "comments"), ("worklog", "worklogs")):
            self.get(f"{api}/issue/{one}/{name}", self.below(name, under))
        self.get(f"{api}/changelog/bulkfetch", self.changelogs, method="POST")
        self.get(f"{api}/issue/{one}/remotelink", lambda asked: self.docs(f"remotelink/{asked.match[1]}"))
        self.get(rf"{api}/attachment/content/{one}", self.content)
        self.get(f"{agile}/board", self.values("boards"))
        self.get(f"{agile}/board/{one}/sprint", lambda asked: self.page(asked, self.docs(f"sprints/{asked.match[1]}")))

    def docs(self, name: str) -> list[Document]:
        return list(self.table(name).values())

    def values(self, name: str) -> Route:
        return lambda asked: self.page(asked, self.docs(name))

    def slice(self, name: str) -> Route:
        return lambda asked: self.page(asked, self.docs(name))["values"]

    def all(self, name: str, under: str | None = None) -> Route:
        return lambda _: self.docs(name) if under is None else {under: self.docs(name)}

    def page(self, asked: Asked, found: list[Document], under: str = "values") -> Any:
        start, size = int(asked.query.get("startAt", "0")), int(asked.query.get("maxResults", "50"))
        return {
            under: found[start : start + size],
            "startAt": start,
            "maxResults": size,
            "total": len(found),
            "isLast": start + size >= len(found),
        }

    def below(self, name: str, under: str) -> Route:
        def route(asked: Asked) -> Any:
            issue = self.known(asked.match[1])
            return self.page(asked, self.docs(f"{name}/{issue['id']}"), under)

        return route

    def known(self, name: str) -> Document:
        """An issue by its id or key."""
        return {called: one for one in self.docs("issues") for called in (one["id"], one["key"])}[name]

    def permissions(self, asked: Asked) -> Any:
        name, may = asked.query["permissions"], asked.headers.get(self.header.lower()) == self.writing_auth
        project = asked.query.get("projectKey") or self.known(asked.query["issueKey"])["key"].partition("-")[0]
        if project != "OPS":
            return Answer({"errorMessages": [f"No project could be found with key '{project}'."], "errors": {}}, 404)
        return {"permissions": {name: {"id": "1", "key": name, "name": name, "havePermission": may}}}

    def create(self, asked: Asked) -> Any:
        if self.required:
            return Answer({"errorMessages": [], "errors": self.required}, 400)
        number = 100 + len(self.table("issues"))
        one = issue(number, datetime.now(UTC))
        one["fields"] |= asked.body["fields"]
        self.table("issues")[one["id"]] = one
        found = {"id": one["id"], "key": one["key"], "self": f"{asked.url}/rest/api/3/issue/{one['id']}"}
        return Answer(found, 201)

    def comment(self, asked: Asked) -> Any:
        one = self.known(asked.match[1])
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}.000+0000"
        comments = self.table(f"comment/{one['id']}")
        made = {"id": f"{one['id']}{len(comments)}", "body": asked.body["body"], "created": now, "updated": now}
        comments[made["id"]] = made
        one["fields"]["updated"] = now
        return Answer(made, 201)

    def issue(self, issue: Document) -> Document:
        """As a search gives it, with the first of what hangs on it."""
        key = issue["id"]
        fields = dict(issue["fields"])
        for name, under in (("comment", "comments"), ("worklog", "worklogs")):
            found = self.docs(f"{name}/{key}")
            fields[name] = {under: found[:INLINE_MAX], "total": len(found), "maxResults": INLINE_MAX, "startAt": 0}
        fields["attachment"] = self.docs(f"attachment/{key}")
        return {**issue, "fields": fields}

    def changelogs(self, asked: Asked) -> Any:
        """Of many issues: a page is so many changes, and may end within an issue."""
        wanted = asked.body["issueIdsOrKeys"]
        if not 0 < len(wanted) <= BULK_MAX:
            return Answer({"errorMessages": ["issueIdsOrKeys: 1 to 1000"]}, 400)
        found = [(key, one) for key in wanted if key in self.table("issues") for one in self.docs(f"changelog/{key}")]
        start, size = int(asked.body.get("nextPageToken", "0")), min(self.page_size, asked.body["maxResults"])
        logs: dict[str, list[Document]] = {}
        for key, one in found[start : start + size]:
            logs.setdefault(key, []).append(one)
        more = {"nextPageToken": str(start + size)} if start + size < len(found) else {}
        return {"issueChangeLogs": [{"issueId": key, "changeHistories": one} for key, one in logs.items()], **more}

    def search(self, asked: Asked) -> Any:
        labelled = re.fullmatch(r'labels = "([^"]+)"', asked.query["jql"])
        if labelled is not None:
            self.unindexed -= 1
            having = [one for one in self.docs("issues") if labelled[1] in one["fields"].get("labels", [])]
            return {"issues": [] if self.unindexed >= 0 else having, "isLast": True}
        found = re.fullmatch(r'updated >= "-(\d+)m" ORDER BY updated ASC, id ASC', asked.query["jql"])
        if found is None:
            return Answer({"errorMessages": ["Error in the JQL Query"]}, 400)
        since = datetime.now(UTC) - timedelta(minutes=int(found[1]))
        token = asked.query.get("nextPageToken", "t0")
        if token in self.expired:
            self.expired.discard(token)
            return Answer({"errorMessages": ["The provided next page token is invalid or expired."]}, 400)
        issues = [one for one in self.docs("issues") if datetime.fromisoformat(one["fields"]["updated"]) >= since]
        issues.sort(key=lambda one: (datetime.fromisoformat(one["fields"]["updated"]), int(one["id"])))
        start, size = int(token[1:]), min(self.page_size, int(asked.query["maxResults"]))
        more = {"nextPageToken": f"t{start + size}"} if start + size < len(issues) else {}
        return {"issues": [self.issue(one) for one in issues[start : start + size]], "isLast": not more, **more}

    def content(self, asked: Asked) -> Any:
        return Answer(None, raw=self.table("files")[asked.match[1]]["data"], headers={"Content-Type": "text/plain"})


def issue(number: int, updated: datetime, summary: str = "disk full") -> Document:
    written = f"{updated:%Y-%m-%dT%H:%M:%S}.{updated.microsecond // 1000:03}+0000"
    return {
        "id": str(10000 + number),
        "key": f"OPS-{number}",
        "self": "https://acme.atlassian.net/rest/api/3/issue/x",
        "fields": {
            "summary": f"{summary} on host {number}",
            "updated": written,
            "created": "2025-01-01T00:00:00.000+0000",
            "description": {"type": "doc", "version": 1, "content": [{"type": "text", "text": f"It is full {number}"}]},
            "customfield_10042": None,
            "issuelinks": [],
        },
    }


def fill(fake: Jira, issues: int = 8) -> None:
    """A site with something of everything, changed over the last days."""
    for n in range(103):
        fake.table("users")[f"u{n:03}"] = {"accountId": f"u{n:03}", "displayName": f"User {n}", "active": True}
    for name in (*_VALUES, "role", "permissionscheme", "issuesecurityschemes"):
        fake.table(name)["1"] = {"id": 1 if name in _NUMBERED else "1", "name": name}
    fake.table("group/bulk")["1"] = {"groupId": "g-1", "name": "operators"}
    fake.table("project/search")["1"]["key"] = "OPS"
    for name in ("issuetype", "field", "issueLinkType"):
        fake.table(name)["1"] = {"id": f"{name}-1", "name": name}
    fake.table("versions/1")["1"] = {"id": "v1", "name": "1.0", "projectId": 1}
    fake.table("components/1")["1"] = {"id": "co1", "name": "Storage"}
    fake.table("boards")["1"] = {"id": 1, "name": "OPS board", "type": "scrum"}
    fake.table("sprints/1")["1"] = {"id": 7, "name": "Sprint 7", "state": "active"}
    start = datetime.now(UTC) - timedelta(days=20)
    for n in range(issues):
        add_issue(fake, n, start + timedelta(hours=n), comments=n % 4)


def add_issue(fake: Jira, number: int, updated: datetime, comments: int = 1, summary: str = "disk full") -> None:
    one = issue(number, updated, summary)
    key = one["id"]
    fake.table("issues")[key] = one
    for n in range(comments):
        fake.table(f"comment/{key}")[str(n)] = {
            "id": f"{key}{n}",
            "body": f"comment {n}",
            "created": "2026-01-01T00:00:00.000+0000",
        }
    fake.table(f"worklog/{key}")["1"] = {"id": f"w{key}", "timeSpent": "1h", "started": "2026-01-01T00:00:00.000+0000"}
    for n in range(2, 2 + number % 3):
        fake.table(f"worklog/{key}")[str(n)] = {"id": f"w{key}-{n}", "timeSpent": f"{n}h"}
    for n in range(number % 4):
        fake.table(f"changelog/{key}")[str(n)] = {
            "id": f"h{key}{n}",
            "items": [{"field": "status", "toString": "Done"}],
        }
    fake.table(f"remotelink/{key}")["1"] = {"id": int(key), "object": {"url": "https://example.com", "title": "graph"}}
    if number % 3 == 0:
        fake.table("files")[f"a{key}"] = {"data": f"log of {key}\n".encode() * 40_000}
        size = len(fake.table("files")[f"a{key}"]["data"])
        fake.table(f"attachment/{key}")["1"] = {
            "id": f"a{key}",
            "filename": "host.log",
            "mimeType": "text/plain",
            "size": size,
        }
