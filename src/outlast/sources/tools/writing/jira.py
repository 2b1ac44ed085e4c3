"""Jira: tickets, found by their label, and comments, found by the mark in their text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from outlast.sources.tools.client import RefusedError
from outlast.sources.tools.writing.hand import Hand, each, part, time_of, told_token
from outlast.sources.tools.writing.writer import (
    Comment,
    Place,
    Standing,
    Terms,
    Ticket,
    Turn,
    Wanted,
    lines_of,
    mark_of,
)

_API = "/rest/api/3"
_INDEX_LAG_S = 60.0
_TEXT_MAX = 32_767


class Jira:
    def __init__(self, hand: Hand, terms: Terms) -> None:
        self._hand = hand
        self._terms = terms
        self._refusals: dict[str, str | None] = {}
        self._keys: dict[str, str] = {}  # what people call an issue, by its id

    def cannot(self, wanted: Wanted) -> str | None:
        if isinstance(wanted, Turn):
            return "Jira has no schedules"
        if isinstance(wanted, Comment) and wanted.table != "jira.issues":
            return f"nothing can be written on {wanted.table}"
        if isinstance(wanted, Ticket) and not self._terms.project:
            return f'the project is not said: write_project = "…" in [sources.{self._hand.account.name}]'
        if len("\n".join(lines_of(wanted, "Jira", hides=isinstance(wanted, Ticket)))) > _TEXT_MAX:
            return f"it is longer than Jira's {_TEXT_MAX:,} characters"
        return None

    def lag_s(self, wanted: Wanted) -> float:
        return _INDEX_LAG_S if isinstance(wanted, Ticket) else 0.0

    def find(self, wanted: Wanted) -> Place | None:
        if isinstance(wanted, Ticket):
            query = {"jql": f'labels = "{mark_of(wanted)}"', "fields": "created", "maxResults": 1}
            found = self._hand.get(f"{_API}/search/jql", query).get("issues", [])
            return self._ticket(found[0]) if found else None
        assert isinstance(wanted, Comment)
        listed = self._hand.account.connector.resource("comments")
        try:
            for one in each(self._hand.pages(self._comments(wanted), listed.items, listed.paging, {})):
                if mark_of(wanted) in json.dumps(one.get("body")):
                    return self._comment(wanted, one)
        except RefusedError as error:
            if error.code != "gone":
                raise
        return None

    def standing(self, wanted: Wanted) -> Standing:
        if isinstance(wanted, Ticket):
            refusal = self._may("CREATE_ISSUES", self._terms.project)
            return Standing(f"project {self._terms.project}", cannot=refusal, remedy=self._remedy)
        assert isinstance(wanted, Comment)
        fields = {"fields": "summary,status,updated"}
        issue = self._hand.known(f"{_API}/issue/{part(wanted.key)}", fields)
        if issue is None:
            return Standing(wanted.key, gone=True)
        told = issue.get("fields", {})
        key = self._keys[wanted.key] = str(issue.get("key", wanted.key))
        return Standing(
            key,
            changed_at=time_of(told.get("updated")),
            state=str((told.get("status") or {}).get("name", "")),
            cannot=self._may("ADD_COMMENTS", key.rpartition("-")[0], issue=key),
            remedy=self._remedy,
        )

    @property
    def _remedy(self) -> str:
        return f"Give one that may, and see write_project: {told_token(self._hand.account.name)}."

    def create(self, wanted: Wanted, now: datetime) -> Place:
        del now
        if isinstance(wanted, Ticket):
            fields = {
                "project": {"key": self._terms.project},
                "issuetype": {"name": self._terms.issue_type},
                "summary": wanted.title,
                "description": _document(wanted),
                "labels": [mark_of(wanted)],
            }
            return self._ticket(self._hand.post(f"{_API}/issue", {"fields": fields}))
        assert isinstance(wanted, Comment)
        return self._comment(wanted, self._hand.post(self._comments(wanted), {"body": _document(wanted)}))

    def close(self) -> None:
        self._hand.close()

    def _comments(self, wanted: Comment) -> str:
        return f"{_API}/issue/{part(wanted.key)}/comment"

    def _ticket(self, issue: Mapping[str, Any]) -> Place:
        key = str(issue["key"])
        return Place(key, f"{self._hand.account.base}/browse/{part(key)}")

    def _comment(self, wanted: Comment, comment: Mapping[str, Any]) -> Place:
        key, issue = str(comment["id"]), self._keys.get(wanted.key, wanted.key)
        where = f"{self._hand.account.base}/browse/{part(issue)}?focusedCommentId={part(key)}"
        return Place(key, None if issue.isdigit() else where, time_of(comment.get("created")))

    def _may(self, permission: str, project: str | None, issue: str | None = None) -> str | None:
        """Why the token's user may not do that in a project, asked once for each."""
        name = f"{permission} {project}"
        if name not in self._refusals:
            where = {"issueKey": issue} if issue else {"projectKey": project}
            try:
                told = self._hand.get(f"{_API}/mypermissions", {"permissions": permission, **where})
                may = bool(told.get("permissions", {}).get(permission, {}).get("havePermission"))
                lacks = f"the write token may only read in project {project} (it lacks {permission})"
                self._refusals[name] = None if may else lacks
            except RefusedError as error:
                if error.status not in (400, 404):
                    raise
                self._refusals[name] = f"there is no project {project}, or the write token may not see it"
        return self._refusals[name]


def _document(wanted: Ticket | Comment) -> dict[str, Any]:
    """Atlassian's document format: a paragraph for each line."""
    lines = (
        {"type": "text", "text": line} for line in lines_of(wanted, "Jira", hides=isinstance(wanted, Ticket)) if line
    )
    return {"type": "doc", "version": 1, "content": [{"type": "paragraph", "content": [line]} for line in lines]}
