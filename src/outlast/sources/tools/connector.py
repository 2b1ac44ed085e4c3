"""What a connector declares about a vendor's API: what there is, how it is asked for, and what cannot be had.

Pure values. `fetch.py` reads by them, `client.py` knows the ways of answering; docs/CONNECTORS.md shows how one is
written. A document is kept as the vendor sent it; a declaration only says where in it key, time and list stand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from outlast.core.document import SEPARATOR, document_table
from outlast.core.table import Table, TableName

Document = dict[str, Any]
Value = str | int | tuple[str, ...] | Callable[[datetime], str | int]
"""A parameter: as it is, several times, or made from the time at which the sweep began."""

PAGE = 100
_SECONDS_MAX = 10**11
"""A larger number is one of milliseconds: in seconds it would be past the year 5000."""


@dataclass(frozen=True, slots=True)
class Whole:
    """Everything comes in one answer."""


@dataclass(frozen=True, slots=True)
class Offset:
    """offset and limit. `more`: where the answer says whether there is more; without it an empty page ends it."""

    limit: int = PAGE
    offset: str = "offset"
    size: str = "limit"
    more: str | None = None
    total: str | None = None


@dataclass(frozen=True, slots=True)
class Pages:
    """Numbered pages, up to one that is empty."""

    limit: int = PAGE
    page: str = "page"
    size: str = "per_page"
    first: int = 1


@dataclass(frozen=True, slots=True)
class NextLink:
    """The answer has the next page's address at this place."""

    at: str
    limit: int | None = PAGE
    size: str = "limit"


@dataclass(frozen=True, slots=True)
class Token:
    """The answer has a token at this place, which the next question carries: as a parameter, or in its JSON body."""

    at: str
    param: str
    limit: int | None = PAGE
    size: str = "maxResults"
    in_body: bool = False


Paging = Whole | Offset | Pages | NextLink | Token


@dataclass(frozen=True, slots=True)
class Changes:
    """How only what changed since a time is asked for, oldest change first.

    `ask` gives the parameters for documents changed from `since` on (before `until`, where there is a `window`; else
    `until` is now). `overlap` is asked for again each time, since a vendor's index is behind its writes and its clock
    is not ours; what is known by its time is passed over. `deep_max`: past so many the vendor refuses; then one begins
    again from the last time seen, or with half the window.
    """

    at: str  # where a listed document has the time by which it is ordered
    ask: Callable[[datetime, datetime], Mapping[str, str | int]]
    overlap: timedelta = timedelta(minutes=10)
    window: timedelta | None = None
    deep_max: int | None = None
    begins: datetime = datetime(2010, 1, 1, tzinfo=UTC)
    created_only: bool = False  # the time is that of creation: what changes later is found by `touches` of another
    newest_first: bool = False  # there is only an order, and no question: read on until what is older
    never_deleted: bool = False  # by the vendor's own word: not listed again to look for what is gone


@dataclass(frozen=True, slots=True)
class Bulk:
    """Children of many parents come together: `ids` in the body names the parents, each of the items is one's."""

    ids: str
    of: str  # where an item has its parent's key
    inner: str  # where it has the children
    at_once_max: int


@dataclass(frozen=True, slots=True)
class Write:
    """What writing back will need. `at` is where an object is created; `set` what the API can set, `lost` what not."""

    at: str | None = None
    order: int = 0  # objects of a lower order must be there first
    sets: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object: a table. `path` may name fields of the parent (`{id}`) and of the site (`{page}`)."""

    name: str
    path: str
    items: str = "$"
    key: str = "id"  # dotted; parts of one are joined by +, alternatives parted by |; without one, places are counted
    paging: Paging = field(default_factory=Whole)
    params: Mapping[str, Value] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None  # asked for by POST
    updated: tuple[str, ...] = ("updatedAt", "updated_at", "updated", "createdAt", "created_at", "created")
    parent: str | None = None
    only_with_parent: bool = False  # changes only when its parent's time does
    bulk: Bulk | None = None  # asked for many parents at once, by POST; `items` are the parents' shares
    loose: bool = False  # … but not always: looked at again when everything is
    inline: tuple[str, str] | None = (
        None  # where the parent may hold all of them, and their number ("": it always does)
    )
    changes: Changes | None = None
    detail: str | None = None  # where one is read whole
    detail_items: str = "$"
    detail_params: Mapping[str, Value] = field(default_factory=dict)
    again: str | None = None  # where one is read again, if its list has it whole; otherwise `detail`
    again_items: str = "$"
    touches: tuple[str, str] | None = None  # a document here says that one there, of the key at this place, changed
    optional: str | None = None  # why it may be refused: not in every plan
    content: str | None = None  # where the bytes of a file are: they go into the table NAME_content
    described: bool = True  # whether the vendor's published specification has it
    write: Write = field(default_factory=Write)

    @property
    def comes_with_parent(self) -> bool:
        """Whether the parent always holds all of them: they need not be asked for."""
        return self.inline is not None and not self.inline[1]


@dataclass(frozen=True, slots=True)
class Rate:
    """The vendor's own figures: header names, and what its limit is where it does not say."""

    per_minute: int
    limit: str = "X-RateLimit-Limit"
    remaining: str = "X-RateLimit-Remaining"
    reset: str = "X-RateLimit-Reset"
    state: tuple[str, str] | None = None  # a header and its value that mean: too fast
    period: str | None = None  # a header with the seconds to wait then


@dataclass(frozen=True, slots=True)
class Credentials:
    """How a request proves who asks. `scheme`: "Basic" needs a user as well."""

    scheme: str  # what stands before the token in the header
    header: str = "Authorization"
    user: bool = False
    made_at: str = ""  # where a person makes one, for hints
    needs: str = ""  # which rights it must have


@dataclass(frozen=True, slots=True)
class Connector:
    """A vendor's API. `cannot` is what it does not give: `check` says it."""

    kind: str
    title: str
    base: str  # https://api.opsgenie.com, or {site} where every customer has an own
    credentials: Credentials
    rate: Rate
    probe: str  # a cheap request that every good token may make
    resources: tuple[Resource, ...]
    cannot: tuple[str, ...]
    headers: Mapping[str, str] = field(default_factory=lambda: {"Accept": "application/json"})
    needs: tuple[str, ...] = ()  # settings that must be there: "site", "user", "page"
    under: str = ""  # what stands between a site's address and the paths

    def resource(self, name: str) -> Resource:
        return next(one for one in self.resources if one.name == name)

    def children(self, name: str) -> tuple[Resource, ...]:
        return tuple(one for one in self.resources if one.parent == name)

    def table(self, name: str) -> TableName:
        return TableName(self.kind, name)

    def tables(self) -> tuple[Table, ...]:
        """Every table, those of files' contents included."""
        names: list[str] = []
        for resource in self.resources:
            names.append(resource.name)
            if resource.content is not None:
                names.append(content_of(resource.name))
        return tuple(document_table(self.table(name)) for name in names)


def content_of(name: str) -> str:
    """The table that holds files' contents, part by part."""
    return f"{name}_content"


def at(document: object, place: str) -> Any:
    """What stands in a document at a dotted place, or None."""
    value = document
    for name in place.split("."):
        if isinstance(value, list) and name.isdigit():
            value = value[int(name)] if int(name) < len(value) else None
        elif isinstance(value, Mapping):
            value = value.get(name)
        else:
            return None
    return value


def key_of(resource: Resource, document: Document) -> str | None:
    """A document's own key as text; None where it has none."""
    for places in resource.key.split("|"):
        values = [at(document, place) for place in places.split("+")]
        if all(isinstance(value, str | int) and str(value) for value in values):
            return SEPARATOR.join(str(value).replace(SEPARATOR, "%2F") for value in values)
    return None


def updated_of(resource: Resource, document: Document) -> datetime | None:
    """When the vendor says that it was changed last."""
    return next((time for place in resource.updated if (time := time_of(at(document, place))) is not None), None)


def time_of(value: object) -> datetime | None:
    """A time as vendors write it: ISO 8601 with or without a fraction, or (milli)seconds since 1970."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        try:
            return datetime.fromtimestamp(value / (1000 if abs(value) > _SECONDS_MAX else 1), UTC)
        except (OverflowError, ValueError, OSError):
            return None
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
