"""What vendors write as markup, as Markdown: HTML (Confluence's storage format), and Atlassian's document format.

What has no counterpart keeps its text. Nothing is fetched and nothing is run: a link stays an address.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

_BLOCKS = frozenset({"p", "div", "table", "ul", "ol", "blockquote", "ac:rich-text-body", "section"})
_HEADINGS = {f"h{level}": "#" * level for level in range(1, 7)}
_MARKS = {"strong": "**", "b": "**", "em": "*", "i": "*", "code": "`", "del": "~~", "s": "~~"}
_HIDDEN = frozenset({"style", "script", "ac:parameter"})
_LINES = re.compile(r"\n{3,}")


def of_html(text: str) -> str:
    """HTML or storage format as Markdown."""
    parser = _Parser()
    parser.feed(text)
    parser.close()
    return _LINES.sub("\n\n", "".join(parser.parts)).strip() + "\n"


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._lists: list[str] = []
        self._links: list[str] = []
        self._hidden = 0
        self._code = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in _HIDDEN:
            self._hidden += 1
        elif tag in _HEADINGS:
            self.parts.append(f"\n\n{_HEADINGS[tag]} ")
        elif tag in _MARKS:
            self.parts.append(_MARKS[tag])
        elif tag in ("pre", "ac:plain-text-body"):
            self._code = True
            self.parts.append("\n\n```\n")
        elif tag in ("ul", "ol"):
            self._lists.append(tag)
        elif tag == "li":
            indent = "  " * max(0, len(self._lists) - 1)
            self.parts.append(f"\n{indent}{'1.' if self._lists and self._lists[-1] == 'ol' else '-'} ")
        elif tag == "br":
            self.parts.append("  \n")
        elif tag == "hr":
            self.parts.append("\n\n---\n\n")
        elif tag == "tr":
            self.parts.append("\n| ")
        elif tag == "a":
            self._links.append(given.get("href") or "")
            self.parts.append("[")
        elif tag in ("img", "ri:attachment"):
            name = given.get("ri:filename") or given.get("alt") or given.get("src") or "image"
            self.parts.append(f"![{name}]({given.get('src') or name})")
        elif tag == "ri:page":
            self.parts.append(f"[{given.get('ri:content-title') or 'page'}]")
        elif tag in _BLOCKS and not self._lists:
            self.parts.append("\n\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in _HIDDEN:
            self._hidden = max(0, self._hidden - 1)
        elif tag in _MARKS:
            self.parts.append(_MARKS[tag])
        elif tag in ("pre", "ac:plain-text-body"):
            self._code = False
            self.parts.append("\n```\n\n")
        elif tag in ("ul", "ol") and self._lists:
            self._lists.pop()
            self.parts.append("\n" if self._lists else "\n\n")
        elif tag in ("td", "th"):
            self.parts.append(" | ")
        elif tag == "a" and self._links:
            self.parts.append(f"]({self._links.pop()})")
        elif tag in _HEADINGS or (tag in _BLOCKS and not self._lists):
            self.parts.append("\n\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data if self._code else re.sub(r"\s+", " ", data))

    def unknown_decl(self, data: str) -> None:
        """CDATA, in which storage format keeps code."""
        if data.startswith("CDATA["):
            self.parts.append(data.removeprefix("CDATA["))


def of_adf(node: Mapping[str, Any], depth: int = 0) -> str:
    """Atlassian's document format as Markdown."""
    kind, inner = node.get("type"), node.get("content")
    text = "".join(
        of_adf(one, depth + (kind in ("bulletList", "orderedList"))) for one in inner or [] if isinstance(one, Mapping)
    )
    given = node.get("attrs")
    attributes = given if isinstance(given, Mapping) else {}
    if kind == "text":
        return _marked(str(node.get("text", "")), node.get("marks"))
    if kind == "heading":
        return f"{'#' * int(attributes.get('level', 1))} {text}\n\n"
    if kind == "codeBlock":
        return f"```\n{text}\n```\n\n"
    if kind == "listItem":
        return f"{'  ' * (depth - 1)}- {text.strip()}\n"
    if kind == "hardBreak":
        return "  \n"
    if kind == "rule":
        return "---\n\n"
    if kind in ("mention", "emoji", "status", "date"):
        return str(attributes.get("text") or attributes.get("shortName") or attributes.get("timestamp") or "")
    if kind in ("inlineCard", "blockCard", "embedCard"):
        return str(attributes.get("url") or "")
    if kind in ("paragraph", "blockquote", "panel", "tableRow", "bulletList", "orderedList"):
        return text + ("\n" if depth else "\n\n")
    if kind in ("tableCell", "tableHeader"):
        return f"{text.strip()} | "
    return text


def _marked(text: str, marks: object) -> str:
    for mark in marks if isinstance(marks, list) else []:
        kind = mark.get("type")
        if kind in ("strong", "em", "code", "strike"):
            sign = {"strong": "**", "em": "*", "code": "`", "strike": "~~"}[kind]
            text = f"{sign}{text}{sign}"
        elif kind == "link":
            text = f"[{text}]({(mark.get('attrs') or {}).get('href', '')})"
    return text
