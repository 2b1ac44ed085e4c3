"""What belongs to other documents: lists below a parent, for one or for many at once, and the bytes of files."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from outlast.core.document import SEPARATOR, encode_row
from outlast.sources.tools.client import Client, RefusedError
from outlast.sources.tools.connector import Bulk, Connector, Document, Resource, at, content_of
from outlast.sources.tools.documents import EXPIRED, GONE, Documents
from outlast.sources.tools.mirror import Entry, Mirror
from outlast.sources.tools.round import Round

_PART_BYTES = 256 * 1024


class Children:
    """Lists what is below documents of one site into its mirror. Each parent is crossed off when it is whole."""

    def __init__(
        self, connector: Connector, client: Client, mirror: Mirror, round_: Round, documents: Documents
    ) -> None:
        self._connector = connector
        self._client = client
        self._mirror = mirror
        self._round = round_
        self._documents = documents

    def of(self, resource: Resource, key: str, parent: Document, name: bytes) -> None:
        """What belongs to one document: afterwards the mirror has exactly that."""
        assert resource.parent is not None
        above = (resource.parent, key)
        try:
            self._list(resource, above, parent)
            if self._missing(resource, key):
                self._list(resource, above, parent)
        except RefusedError as error:
            if error.status not in GONE:
                raise
        with self._mirror.writing():
            self._mirror.remove(resource.name, self._missing(resource, key))
            self._mirror.done(resource.name, name)

    def _list(self, resource: Resource, above: tuple[str, str], parent: Document) -> None:
        path = self._round.path(resource.path, parent)
        for page in self._documents.pages(resource, path, {}, parent):
            self._documents.keep(resource, page, above=above, parent=parent)

    def of_many(self, resource: Resource, bulk: Bulk, parents: Mapping[str, bytes]) -> None:
        """What belongs to several documents, given by key and name; asked for one by one where together is refused."""
        assert resource.parent is not None
        try:
            self._list_together(resource, bulk, parents)
            if any(self._missing(resource, key) for key in parents):
                self._list_together(resource, bulk, parents)
        except RefusedError as error:
            if len(parents) > 1 and error.status in EXPIRED:
                for key, name in parents.items():
                    self.of_many(resource, bulk, {key: name})
                return
            if error.status not in GONE:
                raise
        with self._mirror.writing():
            for key, name in parents.items():
                self._mirror.remove(resource.name, self._missing(resource, key))
                self._mirror.done(resource.name, name)

    def _list_together(self, resource: Resource, bulk: Bulk, parents: Mapping[str, bytes]) -> None:
        body = {**(resource.body or {}), bulk.ids: list(parents)}
        for page in self._client.pages(self._round.path(resource.path), resource.items, resource.paging, {}, body):
            for share in page:
                of, found = str(at(share, bulk.of)), at(share, bulk.inner)
                if of in parents and isinstance(found, list):
                    self._documents.keep(resource, found, above=(str(resource.parent), of))

    def _missing(self, resource: Resource, key: str) -> list[str]:
        return self._mirror.missing(resource.name, self._round.number, (str(resource.parent), key))

    # Files

    def content(self, resource: Resource, key: str, document: Document, name: bytes) -> None:
        """A file's bytes, in parts that are rows; nothing of one that is larger than is kept."""
        assert resource.content is not None
        table = content_of(resource.name)
        size = at(document, "size") or at(document, "fileSize") or 0
        if isinstance(size, int) and size > self._round.content_bytes_max:
            self._round.left_out.append(f"{self._connector.table(resource.name)} {key}: {size:,} bytes")
        else:
            self._fetch_content(resource, table, key, document)
        with self._mirror.writing():
            self._mirror.remove(table, self._mirror.missing(table, self._round.number, (resource.name, key)))
            self._mirror.done(table, name)

    def _fetch_content(self, resource: Resource, table: str, key: str, document: Document) -> None:
        path = self._round.path(str(resource.content), document)
        try:
            for number, data in enumerate(self._client.content(path, _PART_BYTES)):
                part = f"{key}{SEPARATOR}{number:06}"
                row = encode_row(part, None, {"part": number, "data": base64.b64encode(data).decode("ascii")})
                with self._mirror.writing():
                    self._mirror.put(table, [Entry(part, row, "", (resource.name, key))], self._round.number)
        except RefusedError as error:
            if error.status not in GONE:
                raise
