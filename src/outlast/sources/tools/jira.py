"""Jira Cloud: projects, issues and all that hangs on them. https://developer.atlassian.com/cloud/jira/platform/rest/v3

Issues come by /search/jql, oldest change first, with what is small enough to come along: comments and worklogs are
asked for by themselves only where an issue has more of them than its search result holds. Changelogs come for many
issues at once.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from outlast.sources.tools.connector import (
    Bulk,
    Changes,
    Connector,
    Credentials,
    Offset,
    Rate,
    Resource,
    Token,
    Whole,
    Write,
)

_API = "/rest/api/3"
_AGILE = "/rest/agile/1.0"
_VALUES = Offset(limit=50, offset="startAt", size="maxResults", total="total")
_LISTED = Offset(limit=100, offset="startAt", size="maxResults")
_MINUTE_S = 60
_MARGIN_MINUTES = 2


def _updated_since(since: datetime, until: datetime) -> dict[str, str | int]:
    """In minutes before now: a date would be read in the time zone of the token's user."""
    minutes = math.ceil((until - since).total_seconds() / _MINUTE_S) + _MARGIN_MINUTES
    return {"jql": f'updated >= "-{minutes}m" ORDER BY updated ASC, id ASC'}


def _values(name: str, path: str, write: Write | None = None, **more: object) -> Resource:
    return Resource(name, f"{_API}/{path}", "values", paging=_VALUES, write=write or Write(), **more)  # type: ignore[arg-type]


def _of_issue(name: str, path: str, items: str, inline: tuple[str, str], write: Write, **more: object) -> Resource:
    where = f"{_API}/issue/{{id}}{path}"
    return Resource(
        name,
        where,
        items,
        parent="issues",
        only_with_parent=True,
        inline=inline,
        write=write,
        **more,  # type: ignore[arg-type]
    )


RESOURCES = (
    Resource(
        "users",
        f"{_API}/users/search",
        key="accountId",
        paging=_LISTED,
        write=Write("POST /rest/api/3/user", 0, ("emailAddress", "products"), ("accountId",)),
    ),
    _values("groups", "group/bulk", Write("POST /rest/api/3/group", 0, ("name",)), key="groupId"),
    Resource("issue_types", f"{_API}/issuetype", write=Write("POST /rest/api/3/issuetype", 0, ("name", "description"))),
    _values("priorities", "priority/search", Write("POST /rest/api/3/priority", 0, ("name", "statusColor"))),
    _values("resolutions", "resolution/search", Write("POST /rest/api/3/resolution", 0, ("name", "description"))),
    _values("statuses", "statuses/search", Write("POST /rest/api/3/statuses", 0, ("name", "statusCategory"))),
    Resource(
        "fields", f"{_API}/field", write=Write("POST /rest/api/3/field", 0, ("name", "type", "searcherKey"), ("id",))
    ),
    Resource("link_types", f"{_API}/issueLinkType", "issueLinkTypes"),
    Resource("project_roles", f"{_API}/role"),
    _values("workflows", "workflows/search", Write("POST /rest/api/3/workflows/create", 1, ("statuses", "workflows"))),
    _values(
        "workflow_schemes", "workflowscheme", Write("POST /rest/api/3/workflowscheme", 2, ("name", "issueTypeMappings"))
    ),
    _values("issue_type_schemes", "issuetypescheme"),
    _values("issue_type_screen_schemes", "issuetypescreenscheme"),
    _values("screens", "screens"),
    _values("screen_schemes", "screenscheme"),
    _values("field_configurations", "fieldconfiguration"),
    _values("field_configuration_schemes", "fieldconfigurationscheme"),
    Resource("permission_schemes", f"{_API}/permissionscheme", "permissionSchemes", params={"expand": "all"}),
    _values("notification_schemes", "notificationscheme", params={"expand": "all"}),
    Resource("security_schemes", f"{_API}/issuesecurityschemes", "issueSecuritySchemes"),
    _values("filters", "filter/search", params={"expand": "description,owner,jql,sharePermissions"}),
    _values("dashboards", "dashboard/search"),
    _values(
        "projects",
        "project/search",
        Write("POST /rest/api/3/project", 3, ("key", "name", "projectTypeKey", "leadAccountId"), ("id",)),
        params={"expand": "description,lead,issueTypes,projectKeys"},
    ),
    Resource(
        "versions",
        f"{_API}/project/{{id}}/versions",
        parent="projects",
        write=Write("POST /rest/api/3/version", 4, ("name", "description", "releaseDate", "released", "projectId")),
    ),
    Resource(
        "components",
        f"{_API}/project/{{id}}/components",
        parent="projects",
        write=Write("POST /rest/api/3/component", 4, ("name", "description", "leadAccountId", "project")),
    ),
    Resource(
        "issues",
        f"{_API}/search/jql",
        "issues",
        paging=Token("nextPageToken", "nextPageToken", limit=100),
        params={"fields": "*all"},
        updated=("fields.updated", "fields.created"),
        again=f"{_API}/issue/{{id}}?fields=*all",
        changes=Changes("fields.updated", _updated_since, overlap=timedelta(minutes=10)),
        write=Write(
            "POST /rest/api/3/issue",
            5,
            ("summary", "description", "issuetype", "project", "priority", "labels", "parent", "custom fields"),
            ("key and id", "created, updated, reporter's history", "status: by transitions"),
        ),
    ),
    _of_issue(
        "comments",
        "/comment",
        "comments",
        ("fields.comment.comments", "fields.comment.total"),
        Write("POST /rest/api/3/issue/{id}/comment", 6, ("body", "visibility"), ("author", "created")),
        paging=_LISTED,
    ),
    _of_issue(
        "worklogs",
        "/worklog",
        "worklogs",
        ("fields.worklog.worklogs", "fields.worklog.total"),
        Write("POST /rest/api/3/issue/{id}/worklog", 6, ("comment", "started", "timeSpentSeconds"), ("author",)),
        paging=_LISTED,
    ),
    Resource(
        "changelogs",
        f"{_API}/changelog/bulkfetch",
        "issueChangeLogs",
        paging=Token("nextPageToken", "nextPageToken", limit=1000, in_body=True),
        parent="issues",
        only_with_parent=True,
        bulk=Bulk("issueIdsOrKeys", "issueId", "changeHistories", at_once_max=500),
        write=Write(lost=("a history cannot be written",)),
    ),
    _of_issue(
        "attachments",
        "?fields=attachment",
        "fields.attachment",
        ("fields.attachment", ""),
        Write("POST /rest/api/3/issue/{id}/attachments", 6, ("file",), ("author", "created")),
        paging=Whole(),
        content=f"{_API}/attachment/content/{{id}}",
    ),
    Resource(
        "remote_links",
        f"{_API}/issue/{{id}}/remotelink",
        parent="issues",
        only_with_parent=True,
        write=Write("POST /rest/api/3/issue/{id}/remotelink", 6, ("globalId", "object", "relationship")),
    ),
    Resource(
        "boards",
        f"{_AGILE}/board",
        "values",
        paging=_VALUES,
        optional="Jira Software is not on every site",
        described=False,
        write=Write("POST /rest/agile/1.0/board", 7, ("name", "type", "filterId")),
    ),
    Resource(
        "sprints",
        f"{_AGILE}/board/{{id}}/sprint",
        "values",
        parent="boards",
        paging=_VALUES,
        optional="only scrum boards have sprints",
        described=False,
        write=Write("POST /rest/agile/1.0/sprint", 8, ("name", "startDate", "endDate", "goal", "originBoardId")),
    ),
)

CONNECTOR = Connector(
    kind="jira",
    title="Jira",
    base="{site}",
    credentials=Credentials(
        "Basic",
        user=True,
        made_at="id.atlassian.com > Security > API tokens",
        needs="a user who can browse every project (global permission: administer Jira, for the schemes)",
    ),
    rate=Rate(per_minute=600),
    probe=f"{_API}/myself",
    resources=RESOURCES,
    cannot=(
        "issues that the token's user may not see: they are not listed at all",
        "automation rules, and apps' data",
        "who watches and who voted, by name (the numbers are kept)",
        "deleted issues, and the content of deleted files",
        "e-mail addresses that people's profiles hide",
    ),
    needs=("site", "user"),
)
