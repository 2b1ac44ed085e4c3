"""Confluence, as its specification has it: results and a next link with a cursor, sorted by when they were changed."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from tests.tools.fake import TOKEN, WRITE_TOKEN, Answer, Asked, Document, Fake, Gone, Route

USER = "reader@example.com"
WRITER = "writer@example.com"


class Confluence(Fake):
    def __init__(self) -> None:
        super().__init__()
        self.expected_auth = "Basic " + base64.b64encode(f"{USER}:{TOKEN}".encode()).decode()
        self.writing_auth = "Basic " + base64.b64encode(f"{WRITER}:{WRITE_TOKEN}".encode()).decode()
        self.expired: set[str] = set()  # cursors that are refused
        api, one = r"/wiki/api/v2", r"([^/]+)"
        for name in ("spaces", "pages", "blogposts", "footer-comments", "inline-comments", "attachments", "tasks"):
            self.get(f"{api}/{name}", self.route(name))
        for name in ("pages", "blogposts"):
            self.get(f"{api}/{name}/{one}", self.single(name))
        for name in ("versions", "labels"):
            self.get(f"{api}/pages/{one}/{name}", self.below(name, "pages"))
        self.get(f"{api}/pages/{one}/footer-comments", self.comments)
        self.post(f"{api}/footer-comments", self.comment)
        self.get(f"{api}/spaces/{one}/permissions", self.below("permissions", "spaces"))
        self.get(rf"/wiki/download/attachments/{one}/{one}", self.download)

    def route(self, name: str) -> Route:
        return lambda asked: self.page(asked, list(self.table(name).values()))

    def single(self, name: str) -> Route:
        return lambda asked: self.table(name)[asked.match[1]]

    def below(self, name: str, of: str) -> Route:
        def route(asked: Asked) -> Any:
            if asked.match[1] not in self.table(of):
                raise Gone
            return self.page(asked, list(self.table(f"{name}/{asked.match[1]}").values()))

        return route

    def comments(self, asked: Asked) -> Any:
        page = self.table("pages")[asked.match[1]]["id"]
        return self.page(asked, [one for one in self.table("footer-comments").values() if one.get("pageId") == page])

    def comment(self, asked: Asked) -> Any:
        page = self.table("pages")[asked.body["pageId"]]["id"]
        made = {
            "id": f"fw{len(self.table('footer-comments'))}", "pageId": page, "status": "current",
            "body": {"storage": asked.body["body"]},
            "version": {"createdAt": datetime.now(UTC).isoformat(timespec="milliseconds"), "number": 1},
        }  # fmt: skip
        self.table("footer-comments")[made["id"]] = made
        return Answer(made, 201)

    def page(self, asked: Asked, found: list[Document]) -> Any:
        if asked.query.get("sort") == "-modified-date":
            found = sorted(found, key=lambda one: str(one["version"]["createdAt"]), reverse=True)
        cursor = asked.query.get("cursor", "c0")
        if cursor in self.expired:
            self.expired.discard(cursor)
            return Answer({"errors": [{"status": 400, "title": "The cursor is no longer valid"}]}, 400)
        start, size = int(cursor[1:]), min(self.page_size, int(asked.query.get("limit", "25")))
        links: dict[str, str] = {"base": f"{asked.url}/wiki"}
        if start + size < len(found):
            links["next"] = f"{asked.path}?{urlencode({**asked.query, 'cursor': f'c{start + size}'})}"
        return {"results": found[start : start + size], "_links": links}

    def download(self, asked: Asked) -> Any:
        return Answer(None, raw=self.table("files")[asked.match[2]]["data"], headers={"Content-Type": "text/plain"})


def page(number: int, changed: str, text: str = "Grow the volume first") -> Document:
    return {
        "id": str(1000 + number),
        "status": "current",
        "title": f"Runbook {number}: disk full",
        "spaceId": "1",
        "version": {"createdAt": changed, "number": 1, "message": ""},
        "body": {"storage": {"representation": "storage", "value": f"<p>{text} &amp; <b>wait</b></p>"}},
        "_links": {"webui": f"/spaces/OPS/pages/{1000 + number}"},
    }


def fill(fake: Confluence, pages: int = 8) -> None:
    """One space with runbooks, comments, labels and a file."""
    fake.table("spaces")["1"] = {"id": "1", "key": "OPS", "name": "Operations", "type": "global"}
    fake.table("permissions/1")["1"] = {
        "id": "p1",
        "principal": {"type": "group", "id": "g"},
        "operation": {"key": "read"},
    }
    for n in range(pages):
        one = page(n, f"2026-01-0{1 + n}T00:00:00.{n:03}Z")
        fake.table("pages")[one["id"]] = one
        fake.table(f"versions/{one['id']}")["1"] = {"number": 1, "createdAt": one["version"]["createdAt"]}
        fake.table(f"labels/{one['id']}")["1"] = {"id": f"l{n}", "name": "runbook", "prefix": "global"}
    version = {"createdAt": "2026-01-02T00:00:00.000Z", "number": 1}
    fake.table("blogposts")["b1"] = {
        "id": "b1",
        "title": "We moved",
        "version": version,
        "body": {"storage": {"value": "x"}},
    }
    fake.table("footer-comments")["f1"] = {
        "id": "f1",
        "pageId": "1001",
        "version": version,
        "body": {"storage": {"value": "yes"}},
    }
    fake.table("inline-comments")["i1"] = {
        "id": "i1",
        "blogPostId": "b1",
        "version": version,
        "body": {"storage": {"value": "no"}},
    }
    fake.table("tasks")["t1"] = {
        "id": "t1",
        "pageId": "1001",
        "status": "incomplete",
        "createdAt": "2026-01-01T00:00:00Z",
    }
    fake.table("files")["dump.txt"] = {"data": b"a dump\n" * 100_000}
    fake.table("attachments")["a1"] = {
        "id": "a1", "pageId": "1001", "title": "dump.txt", "mediaType": "text/plain", "fileSize": 700_000,
        "version": version, "downloadLink": "/download/attachments/1001/dump.txt?version=1&api=v2",
    }  # fmt: skip
