"""Confluence: comments at the foot of pages, found by the mark in their text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from html import escape
from typing import Any

from outlast.sources.tools.client import RefusedError
from outlast.sources.tools.connector import at
from outlast.sources.tools.writing.hand import Hand, each, part, time_of
from outlast.sources.tools.writing.writer import Comment, Place, Standing, Terms, Wanted, lines_of, mark_of

_API = "/api/v2"
_STORED = {"body-format": "storage"}


class Confluence:
    def __init__(self, hand: Hand, terms: Terms) -> None:
        del terms
        self._hand = hand

    def cannot(self, wanted: Wanted) -> str | None:
        if isinstance(wanted, Comment) and wanted.table == "confluence.pages":
            return None
        return f"nothing can be written on {wanted.table}" if isinstance(wanted, Comment) else "Confluence takes none"

    def lag_s(self, wanted: Wanted) -> float:
        del wanted
        return 0.0

    def find(self, wanted: Wanted) -> Place | None:
        assert isinstance(wanted, Comment)
        paging = self._hand.account.connector.resource("footer_comments").paging
        where = f"{_API}/pages/{part(wanted.key)}/footer-comments"
        try:
            for one in each(self._hand.pages(where, "results", paging, _STORED)):
                if mark_of(wanted) in json.dumps(one.get("body")):
                    return self._place(one)
        except RefusedError as error:
            if error.code != "gone":
                raise
        return None

    def standing(self, wanted: Wanted) -> Standing:
        assert isinstance(wanted, Comment)
        page = self._hand.known(f"{_API}/pages/{part(wanted.key)}")
        if page is None or page.get("status") == "trashed":
            return Standing(f"page {wanted.key}", gone=True)
        changed = time_of(at(page, "version.createdAt"))
        return Standing(
            f"page {page.get('title', wanted.key)!r}", changed_at=changed, state=str(page.get("status", ""))
        )

    def create(self, wanted: Wanted, now: datetime) -> Place:
        del now
        assert isinstance(wanted, Comment)
        text = "".join(f"<p>{escape(line)}</p>" for line in lines_of(wanted, "Confluence") if line)
        body = {"pageId": wanted.key, "body": {"representation": "storage", "value": text}}
        return self._place(self._hand.post(f"{_API}/footer-comments", body))

    def close(self) -> None:
        self._hand.close()

    def _place(self, comment: Mapping[str, Any]) -> Place:
        where = at(comment, "_links.webui")
        url = f"{self._hand.account.base}{where}" if isinstance(where, str) else None
        return Place(str(comment["id"]), url, time_of(at(comment, "version.createdAt")))
