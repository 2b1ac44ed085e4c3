"""Tickets, runbooks and whatever else the tools hold: searched and read out of the local copy, and written on here.

What a vendor's people wrote is shown as text, or as HTML of which only harmless tags are left. Files are downloads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse
from markupsafe import Markup

from outlast.core.document import Document
from outlast.core.errors import UsageError
from outlast.desk import entries
from outlast.library.copy import Attachment, Hit, LocalCopy
from outlast.library.words import text_of, title_of
from outlast.web.accounts import Role
from outlast.web.pages import back, render
from outlast.web.security import Form, Responder, Viewer
from outlast.web.services import services

router = APIRouter(include_in_schema=False)

_HITS = 30
_OURS = 20
_COMMENTS_MAX = 200
_CHILDREN = {
    "jira.issues": ("jira.comments", "jira.attachments"),
    "confluence.pages": ("confluence.comments", "confluence.attachments"),
}
_TAGS = {
    "a", "b", "blockquote", "br", "code", "dd", "del", "div", "dl", "dt", "em", "h1", "h2", "h3", "h4", "h5", "h6",
    "hr", "i", "kbd", "li", "ol", "p", "pre", "s", "span", "strong", "sub", "sup", "table", "tbody", "td", "th",
    "thead", "tr", "u", "ul",
}  # fmt: skip
_ATTRIBUTES = {"a": {"href"}, "td": {"colspan", "rowspan"}, "th": {"colspan", "rowspan"}}
_FACTS = ("status", "priority", "assignee", "reporter", "created", "updated", "labels", "issuetype", "resolution")


@router.get("/documents")
def find(request: Request, visitor: Viewer, query: Annotated[str, Query(max_length=300)] = "") -> HTMLResponse:
    found = services(request)
    copy = found.library()
    hits: list[Hit] = []
    problem = ""
    if query.strip() and copy is not None:
        try:
            hits = copy.search(query, limit=_HITS)
        except UsageError as error:
            problem = error.message
    with found.database.read() as connection:
        ours = entries.newest(connection, _OURS)
    return render(
        request, "documents.html", visitor,
        query=query, hits=[(hit, _link(hit.document)) for hit in hits], problem=problem, ours=ours,
        copied=copy.sources() if copy is not None else [],
        trackers=copy.sources_with("jira.issues") if copy is not None else [], may_act=visitor.role.may(Role.RESPONDER),
    )  # fmt: skip


@router.get("/documents/{source}/{table}/{key:path}")
def read(request: Request, visitor: Viewer, source: str, table: str, key: str) -> HTMLResponse:
    copy = _copy(request)
    document = copy.get(source, table, key)
    if document is None:
        raise HTTPException(404, "The copy has no such document")
    comments, attachments = _children(copy, document)
    with services(request).database.read() as connection:
        ours = entries.about(connection, entries.place(table, key))
    return render(
        request, "document.html", visitor,
        document=document, title=title_of(document.document) or key, body=body_of(document.document),
        facts=list(_facts(document.document)), comments=comments, ours=ours, copied_at=copy.moment(source),
        attachments=[(one, _download(one)) for one in attachments], link=_link(document),
        may_act=visitor.role.may(Role.RESPONDER) and table in entries.COMMENTED,
    )  # fmt: skip


@router.post("/documents/{source}/{table}/{key:path}")
def comment(request: Request, visitor: Responder, form: Form, source: str, table: str, key: str) -> Response:
    found = services(request)
    document = _copy(request).get(source, table, key)
    if document is None:
        raise HTTPException(404, "The copy has no such document")
    if table not in entries.COMMENTED:
        raise UsageError(f"nothing can be written on {table}", hint="Take a ticket instead.")
    text = str(form.get("text", ""))
    entry = entries.comment(visitor.name, entries.place(table, key), text, source, document.updated_at)
    found.commits.wait_for(lambda connection: entries.keep(connection, entry))
    return back(f"/documents/{quote(source)}/{quote(table)}/{quote(key)}")


@router.get("/files/{source}/{table}/{key:path}")
def download(request: Request, visitor: Viewer, source: str, table: str, key: str) -> Response:
    """A file, to be saved and never shown by the browser: what is in it is a vendor's customer's."""
    copy = _copy(request)
    parent = key.rpartition("/")[0]
    known = next((one for one in copy.attachments(source, table, parent) if one.key == key), None)
    if known is None:
        raise HTTPException(404, "The copy has no such file")
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", known.name)[-100:] or "file"
    headers = {"Content-Disposition": f"attachment; filename=\"{safe}\"; filename*=UTF-8''{quote(known.name, safe='')}"}
    return StreamingResponse(copy.content(known), media_type="application/octet-stream", headers=headers)


@router.post("/tickets")
def take(request: Request, visitor: Responder, form: Form) -> Response:
    entry = entries.ticket(
        visitor.name, str(form.get("title", "")), str(form.get("text", "")), str(form.get("source", ""))[:100]
    )
    services(request).commits.wait_for(lambda connection: entries.keep(connection, entry))
    return back(f"/tickets/{entry.id}")


@router.get("/tickets/{entry_id}")
def ticket(request: Request, visitor: Viewer, entry_id: str) -> HTMLResponse:
    with services(request).database.read() as connection:
        entry = entries.get(connection, entry_id)
        comments = entries.about(connection, entry_id)
    if entry is None or entry.kind != entries.TICKET:
        raise HTTPException(404, "There is no such ticket")
    may_act = visitor.role.may(Role.RESPONDER)
    return render(request, "ticket.html", visitor, ticket=entry, comments=comments, may_act=may_act)


@router.post("/tickets/{entry_id}")
def comment_on_ours(request: Request, visitor: Responder, form: Form, entry_id: str) -> Response:
    found = services(request)
    with found.database.read() as connection:
        known = entries.get(connection, entry_id)
    if known is None or known.kind != entries.TICKET:
        raise HTTPException(404, "There is no such ticket")
    entry = entries.comment(visitor.name, entry_id, str(form.get("text", "")), known.source)
    found.commits.wait_for(lambda connection: entries.keep(connection, entry))
    return back(f"/tickets/{entry_id}")


def _copy(request: Request) -> LocalCopy:
    copy = services(request).library()
    if copy is None:
        raise HTTPException(404, "There is no local copy of the tools' documents yet")
    return copy


def _link(document: Document) -> str:
    return f"/documents/{quote(document.source)}/{quote(document.table)}/{quote(document.key)}"


def _download(one: Attachment) -> str:
    return f"/files/{quote(one.source)}/{quote(one.table)}/{quote(one.key)}"


def _children(copy: LocalCopy, document: Document) -> tuple[list[tuple[str, Markup]], list[Attachment]]:
    tables = _CHILDREN.get(document.table)
    if tables is None:
        return [], []
    comments = []
    for one in copy.children(document.source, tables[0], document.key):
        comments.append((_author(one.document), body_of(one.document)))
        if len(comments) == _COMMENTS_MAX:
            break
    return comments, copy.attachments(document.source, tables[1], document.key)


def _author(document: Mapping[str, Any]) -> str:
    author = document.get("author") or document.get("version", {})
    return title_of(author) if isinstance(author, Mapping) else ""


def _facts(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    fields = document.get("fields", document)
    for name in _FACTS if isinstance(fields, Mapping) else ():
        value = fields.get(name)
        if isinstance(value, Mapping):
            value = title_of(value)
        elif isinstance(value, list):
            value = ", ".join(str(one) for one in value if isinstance(one, str))
        if isinstance(value, str) and value:
            yield name, value


def body_of(document: Mapping[str, Any]) -> Markup:
    """What the document says: its HTML made harmless, or its text escaped."""
    body = document.get("body")
    stored = body.get("storage") or body.get("view") if isinstance(body, Mapping) else None
    markup = stored.get("value") if isinstance(stored, Mapping) else None
    if isinstance(markup, str):
        return Markup(harmless(markup))  # noqa: S704 - only the tags and attributes above are left
    fields = document.get("fields")
    described = fields.get("description") if isinstance(fields, Mapping) else document.get("description", body)
    text = _plain(described) if described else text_of(document)
    return Markup('<div class="text">{}</div>').format(text)


def harmless(markup: str) -> str:
    """HTML that runs nothing, loads nothing, and whose links say to nobody where they were followed from."""
    import nh3

    return nh3.clean(
        markup, tags=_TAGS, attributes=_ATTRIBUTES, url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow", clean_content_tags={"script", "style"},
    )  # fmt: skip


def _plain(value: Any) -> str:
    """Atlassian's document format, or text as it is, with a line for each of its blocks."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_plain(one) for one in value)
    if not isinstance(value, Mapping):
        return ""
    if isinstance(value.get("text"), str):
        return str(value["text"])
    inner = _plain(value.get("content", []))
    kind = value.get("type")
    if kind == "hardBreak":
        return "\n"
    if kind in ("mention", "emoji", "inlineCard"):
        attributes = value.get("attrs", {})
        return str(attributes.get("text") or attributes.get("shortName") or attributes.get("url") or "")
    if kind == "listItem":
        return f"• {inner}"
    return inner + "\n" if kind in ("paragraph", "heading", "codeBlock", "blockquote", "tableRow", "rule") else inner
