"""Separation: one tenant's key opens nothing of another's, and nothing of any tenant stands in the clear."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise

import psycopg
import pyrage  # type: ignore[import-untyped]
import pytest

from tests.commands import Outlast
from tests.projects import Project
from tests.worlds import World

AGE = b"age-encryption.org/v1\n"

# Shorter texts come up in any bytes by chance.
_TELLING_BYTES_MIN = 6


@pytest.mark.parametrize("seed", range(3))
def test_a_tenant_key_opens_that_tenant_only(seed: int, database: str, outlast: Outlast) -> None:
    """With tenant A's identity every box of A opens, and none of anybody else: no chunk, no manifest, no key."""
    world = World.random(4000 + seed, tenants=4, rows_max=30)
    project = _backed_up(world, database, outlast)
    objects = project.objects()
    identities = _identities(project, objects)
    assert {name for name, _ in identities.values()} >= {tenant.key for tenant in world.tenants}
    for prefix, (_, identity) in identities.items():
        opened = {path for path, box in _boxes(objects) if _opens(box, identity)}
        assert opened == {path for path in objects if path.startswith(prefix + "/packs/")}


@pytest.mark.parametrize("seed", range(3))
def test_nothing_stands_in_the_clear(seed: int, database: str, outlast: Outlast) -> None:
    """No row's text, no tenant's key or label, no table's name is found in any byte or path of the store."""
    world = World.random(4100 + seed, tenants=5, rows_max=30, names="odd")
    project = _backed_up(world, database, outlast)
    objects = project.objects()
    haystack = b"\n".join(objects.values()) + "\n".join(objects).encode()
    secrets = set(_texts(world, database))
    assert len(secrets) > 50
    found = {secret for secret in secrets if _hidden_in(secret, haystack)}
    assert found == set()


def _backed_up(world: World, url: str, outlast: Outlast) -> Project:
    world.create(url)
    project = Project(outlast, url)
    project.init(world.tenant_table_name, world.label_column)
    project.backup()
    with psycopg.connect(url) as connection:
        for statement in world.work_on(world.tenants[0], 1):
            connection.execute(statement.encode())
    project.backup()
    return project


def _identities(project: Project, objects: Mapping[str, bytes]) -> dict[str, tuple[str, pyrage.x25519.Identity]]:
    """By prefix: the tenant's key and its identity, taken out with the operator's."""
    operator = pyrage.x25519.Identity.from_str(project.operator_key)
    found = {}
    for path, data in objects.items():
        if "/keys/" in path:
            text = pyrage.decrypt(data, [operator]).decode()
            name = re.search(r"^# tenant: (.*)$", text, re.MULTILINE)
            secret = re.search(r"^AGE-SECRET-KEY-.*$", text, re.MULTILINE)
            assert name is not None
            assert secret is not None
            found[path.partition("/keys/")[0]] = (name[1], pyrage.x25519.Identity.from_str(secret[0]))
    return found


def _boxes(objects: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Every age file in every object, as it begins; what follows it in the object may still hang on its end."""
    for path, data in objects.items():
        starts = [match.start() for match in re.finditer(re.escape(AGE), data)]
        for start, end in pairwise([*starts, len(data)]):
            yield path, data[start:end]


def _opens(box: bytes, identity: pyrage.x25519.Identity) -> bool:
    """Whether the identity is one that the box is for. A box with something on its end is one, but will not decrypt."""
    try:
        pyrage.decrypt(box, [identity])
    except pyrage.DecryptError as error:
        return "No matching keys" not in str(error)
    return True


def _texts(world: World, url: str) -> Iterator[bytes]:
    for tenant in world.tenants:
        yield from (text.encode() for text in (tenant.key, tenant.label) if len(text.encode()) >= _TELLING_BYTES_MIN)
    with psycopg.connect(url) as connection:
        for table in world.tables:
            yield table.name.encode() if len(table.name) >= 10 else b"no such text at all"
            statement = f"COPY (SELECT * FROM {table.from_clause}) TO STDOUT".encode()
            with connection.cursor() as cursor, cursor.copy(statement) as copy:
                for row in copy:
                    yield from (field for field in bytes(row)[:-1].split(b"\t") if len(field) >= _TELLING_BYTES_MIN)


def _hidden_in(secret: bytes, haystack: bytes) -> bool:
    """As it is, in hexadecimal, or in base64 at any of the three places where it can begin."""
    forms = [secret, secret.hex().encode()]
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + secret)
        inner = encoded[4 if shift else 0 : -4]
        if len(inner) >= 8:
            forms.append(inner)
    return any(form in haystack for form in forms)
