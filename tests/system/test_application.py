"""A schema that nobody here wrote: pretix, of more than 150 tables, migrated by itself, destroyed and put back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.commands import Outlast
from tests.conftest import ROOT
from tests.projects import Project
from tests.servers import Server
from tests.system import applications
from tests.system.filler import Filler, contents

pytestmark = pytest.mark.system

ORGANIZERS = ("acme-events", "bravo-shows", "charlie-fairs", "delta-meetups")

# What the migrations themselves put there.
OF_THE_FRAMEWORK = ("django_migrations", "django_content_type", "auth_permission")


# Of 155 tables, what neither the schema nor its rows decide: no link table is among them.
LEFT_OPEN = {
    f"public.{name}"
    for name in (
        # no path to a tenant: the application's users and staff, and what belongs to the installation
        "otp_static_statictoken",
        "otp_totp_totpdevice",
        "pretixapi_apicall",
        "pretixapi_oauthapplication",
        "pretixbase_eventlock",
        "pretixbase_exchangerate",
        "pretixbase_globalsettingsobject_settingsstore",
        "pretixbase_historicpassword",
        "pretixbase_staffsessionauditlog",
        "pretixbase_u2fdevice",
        "pretixbase_userknownloginsource",
        "pretixbase_webauthndevice",
        "pretixhelpers_thumbnail",
        "stripe_registeredapplepaydomain",
        # two paths, each of which may be NULL
        "badges_badgeitem",
        "pretixbase_invoiceaddress",
        # two organizers by design: who issued a gift card and who accepts it
        "pretixbase_giftcardacceptance",
        "pretixbase_giftcardtransaction",
    )
}


@pytest.fixture(scope="module")
def migrated(debian_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with applications.alone(ROOT):  # of several workers one installs and migrates it, and the others take what it made
        return applications.migrate(applications.install(ROOT), debian_server)


@pytest.fixture(params=["PostgreSQL 15", "PostgreSQL 18"])
def application(request: pytest.FixtureRequest, migrated: Path) -> Iterator[str]:
    """An application's database, migrated and empty, on either version."""
    name = "debian_server" if request.param == "PostgreSQL 15" else "server"
    server: Server = request.getfixturevalue(name)
    with server.new_database() as url:
        server.run("pg_restore", "--no-owner", f"--dbname={url}", str(migrated))
        yield url


def test_an_organizer_comes_back(application: str, outlast: Outlast) -> None:
    """One of four organizers is destroyed in every table and restored: all 155 tables are as they were."""
    with psycopg.connect(application) as connection:
        filler = Filler(connection, applications.Pretix.tenant_table, seed=1)
        filler.fill(ORGANIZERS, [9, 5, 3, 1], keep=OF_THE_FRAMEWORK)
        connection.commit()
        before = contents(application)
        assert len(before) > 150
        assert len(filler.filled) > 120
        project = Project(outlast, application)
        project.init(f"public.{applications.Pretix.tenant_table}", applications.Pretix.tenant_label)
        _decide(project)
        codes = {notice["code"] for notice in project.json("check")["notices"]}
        assert not codes & {"across-tenants", "paths-not-compared"}
        project.backup()
        assert filler.destroy(ORGANIZERS[1]) > 500
    assert contents(application) != before
    project.restore(ORGANIZERS[1])
    assert contents(application) == before


def _decide(project: Project) -> None:
    """What a person does after `init`: read what is undecided, and write one of the answers that it offers."""
    decided = {}
    for line in project.config.read_text().splitlines():
        match = re.match(r'"([^"]+)" *= *"undecided" *# (.*)', line)
        if match is None:
            continue
        offered = re.search(r'write "(owned (?:by|through) [^"A-Z]+)"', match[2])
        decided[match[1]] = offered[1] if offered else "shared"
    assert set(decided) == LEFT_OPEN
    project.classify(decided)
