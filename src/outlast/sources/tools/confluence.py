"""Confluence Cloud: spaces, pages in storage format, what was said about them. API version 2.

https://developer.atlassian.com/cloud/confluence/rest/v2. There is no question for what changed since a time: lists are
read newest first, down to what is known.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from outlast.sources.tools.connector import Changes, Connector, Credentials, NextLink, Rate, Resource, Write

_API = "/api/v2"
_NEXT = NextLink("_links.next", limit=250)
_STORED = {"body-format": "storage"}
_NEWEST = {**_STORED, "sort": "-modified-date"}


def _all(since: datetime, until: datetime) -> dict[str, str | int]:
    del since, until
    return {}


def _changes(at: str = "version.createdAt") -> Changes:
    return Changes(at, _all, overlap=timedelta(minutes=10), newest_first=True)


def _of_page(name: str, path: str, **more: object) -> Resource:
    where = f"{_API}/pages/{{id}}/{path}"
    return Resource(name, where, "results", parent="pages", paging=_NEXT, only_with_parent=True, **more)  # type: ignore[arg-type]


_UPDATED = ("version.createdAt", "createdAt")
_UNDER_PAGE = "pageId+id|blogPostId+id|id"
_NO_TIMES = ("createdAt", "who wrote it, and earlier versions' dates")

RESOURCES = (
    Resource(
        "spaces",
        f"{_API}/spaces",
        "results",
        paging=_NEXT,
        params={"description-format": "plain", "include-icon": "true"},
        write=Write("POST /wiki/api/v2/spaces", 0, ("key", "name", "description", "roleAssignments"), ("id", "icon")),
    ),
    Resource(
        "space_permissions",
        f"{_API}/spaces/{{id}}/permissions",
        "results",
        parent="spaces",
        paging=_NEXT,
        write=Write(lost=("version 2 of the API only reads them",)),
    ),
    Resource(
        "pages",
        f"{_API}/pages",
        "results",
        paging=_NEXT,
        params=_NEWEST,
        updated=_UPDATED,
        again=f"{_API}/pages/{{id}}?body-format=storage",
        changes=_changes(),
        write=Write("POST /wiki/api/v2/pages", 1, ("spaceId", "status", "title", "parentId", "body"), _NO_TIMES),
    ),
    Resource(
        "blogposts",
        f"{_API}/blogposts",
        "results",
        paging=_NEXT,
        params=_NEWEST,
        updated=_UPDATED,
        again=f"{_API}/blogposts/{{id}}?body-format=storage",
        changes=_changes(),
        write=Write("POST /wiki/api/v2/blogposts", 1, ("spaceId", "status", "title", "body"), _NO_TIMES),
    ),
    _of_page("page_versions", "versions", key="number", write=Write(lost=("old versions cannot be written",))),
    _of_page("page_labels", "labels", loose=True, write=Write("POST /wiki/rest/api/content/{id}/label", 2, ("name",))),
    Resource(
        "footer_comments",
        f"{_API}/footer-comments",
        "results",
        key=_UNDER_PAGE,
        paging=_NEXT,
        params=_NEWEST,
        updated=_UPDATED,
        changes=_changes(),
        write=Write("POST /wiki/api/v2/footer-comments", 3, ("pageId", "parentCommentId", "body"), _NO_TIMES),
    ),
    Resource(
        "inline_comments",
        f"{_API}/inline-comments",
        "results",
        key=_UNDER_PAGE,
        paging=_NEXT,
        params=_NEWEST,
        updated=_UPDATED,
        changes=_changes(),
        write=Write("POST /wiki/api/v2/inline-comments", 3, ("pageId", "body", "inlineCommentProperties"), _NO_TIMES),
    ),
    Resource(
        "attachments",
        f"{_API}/attachments",
        "results",
        key=_UNDER_PAGE,
        paging=_NEXT,
        params={"sort": "-modified-date"},
        updated=_UPDATED,
        changes=_changes(),
        content="{=downloadLink}",
        write=Write("POST /wiki/rest/api/content/{pageId}/child/attachment", 2, ("file", "comment"), ("createdAt",)),
    ),
    Resource("tasks", f"{_API}/tasks", "results", paging=_NEXT, params=_STORED),
)

CONNECTOR = Connector(
    kind="confluence",
    title="Confluence",
    base="{site}",
    under="/wiki",
    credentials=Credentials(
        "Basic",
        user=True,
        made_at="id.atlassian.com > Security > API tokens",
        needs="a user who can see every space (a Confluence administrator, or a member of each)",
    ),
    rate=Rate(per_minute=600),
    probe=f"{_API}/spaces?limit=1",
    resources=RESOURCES,
    cannot=(
        "pages that the token's user may not see: restricted ones are not listed at all",
        "whiteboards' and databases' content",
        "settings, themes, macros and apps' data",
        "old versions' text (their numbers, dates and messages are kept)",
        "pages in the trash",
    ),
    needs=("site", "user"),
)
