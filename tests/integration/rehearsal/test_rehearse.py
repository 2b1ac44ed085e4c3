"""Scripts rehearsed by the installed command on a copy that was rebuilt from the vault."""

from __future__ import annotations

from tests.integration.rehearsal.conftest import Shop

DELETION = """-- outlast: why retire the old app on the sites that asked for it
-- outlast: tenants @sites.txt
-- outlast: effect public.apps soft-delete rows={apps}
-- outlast: effect public.audit insert rows={apps} via=trigger
-- outlast: undo required
"""
"""The 2022 script: an application is soft-deleted by its ids, or, in its other mode, what has those ids is deleted."""


def the_script(mode: str) -> str:
    """As in 2022: one script, two modes, and a list of ids that it takes for what they are not."""
    if mode == "apps":
        return "UPDATE apps SET deleted_at = now() WHERE id = ANY (:'ids'::int[]);\n"
    return "DELETE FROM sites WHERE id = ANY (:'ids'::int[]);\n"


def test_the_script_of_2022_is_blocked_with_everybody_named(shop: Shop) -> None:
    """Handed site ids, and in delete mode: 883 tenants are named, and the first table that gives it away."""
    before = shop.state
    (shop.outlast.folder / "sites.txt").write_text("".join(f"site-{n}\n" for n in range(1, 884)))
    script = shop.script(DELETION.format(apps=883) + the_script("sites"))
    ids = "{" + ",".join(str(n) for n in range(1, 884)) + "}"
    found = shop.rehearse(script, "--set", f"ids={ids}", exit_code=3)
    assert found["verdict"] == "BLOCKED"
    assert found["gives_away"] == "public.sites"
    assert len(found["tenants"]) == 883
    assert {one["label"] for one in found["tenants"]} == {f"site-{n}" for n in range(1, 884)}
    lines = {(line["table"], line["operation"]): line for line in found["lines"]}
    assert lines["public.sites", "hard-delete"]["rows"] == 883
    assert lines["public.pages", "hard-delete"]["via"] == {"cascade": lines["public.pages", "hard-delete"]["rows"]}
    assert lines["public.notes", "hard-delete"]["via"] == {"cascade": lines["public.notes", "hard-delete"]["rows"]}
    assert lines["public.audit", "insert"]["via"] == {"trigger": lines["public.apps", "hard-delete"]["rows"]}
    assert ("public.apps", "soft-delete") not in lines
    assert shop.state == before


def test_the_same_script_with_the_right_ids_and_mode_is_within_its_intent(shop: Shop) -> None:
    """One application on each of 883 sites: soft-deleted, and the trigger's rows are told apart."""
    before = shop.state
    (shop.outlast.folder / "sites.txt").write_text("".join(f"site-{n}\n" for n in range(1, 884)))
    script = shop.script(DELETION.format(apps=883) + the_script("apps"))
    ids = "{" + ",".join(str(1000 + n) for n in range(883)) + "}"
    found = shop.rehearse(script, "--set", f"ids={ids}", exit_code=0)
    assert found["verdict"] == "WITHIN INTENT", found
    assert found["effect"] == {"public.apps": {"soft-delete": 883}, "public.audit": {"insert": 883}}
    assert shop.state == before


def test_the_report_is_for_a_person(shop: Shop) -> None:
    """It shows all of the effect also when it refuses, and its last line says so, and that production is untouched."""
    script = shop.script("DELETE FROM sites WHERE id <= 3;\n")
    done = shop.run("rehearse", "--role", "app", script, "--html", "report.html")
    assert done.exit_code == 3, str(done)
    lines = done.stdout.strip().splitlines()
    assert lines[-1] == "BLOCKED: public.sites gives it away. Production is untouched."
    for word in ("public.notes", "via cascade", "via trigger", "site-1 (1)", "nothing is declared"):
        assert word in done.stdout, word
    page = (shop.outlast.folder / "report.html").read_text()
    assert "site-3 (3)" in page
    assert "http" not in page.replace("http-equiv", ""), "the page needs nothing from elsewhere"


def test_a_script_runs_as_the_role_with_its_settings(shop: Shop) -> None:
    """What the role may not, fails on the copy as it would on production; its settings hold."""
    script = shop.script("CREATE TABLE note AS SELECT current_user, current_setting('work_mem') AS memory;\n")
    found = shop.rehearse(script, exit_code=3)
    assert found["settings"]["work_mem"] == "5120"
    assert found["role"] == "app"
    denied = shop.rehearse(shop.script("DELETE FROM sites;\n"), role="deployer", exit_code=3)
    assert "permission denied" in denied["failed"]
    assert denied["effect"] == {}
    assert denied["settings"]["work_mem"] == "6144"


def test_what_decoding_does_not_show_is_seen_all_the_same(shop: Shop) -> None:
    """TRUNCATE by tenant, lost and retyped columns, rewrites, sequences, unlogged tables, locks, grants, NOTIFY."""
    script = shop.script(
        """TRUNCATE notes;
        ALTER TABLE plans ADD COLUMN price int NOT NULL DEFAULT 5;
        UPDATE presence SET seen = 1 WHERE site_id <= 3;
        UPDATE settings SET name = 'style' WHERE site_id = 4;
        SELECT nextval('pages_id_seq');
        GRANT SELECT ON plans TO PUBLIC;
        SELECT lo_create(0), pg_notify('news', 'x');
        NOTIFY more;
        """
    )
    found = shop.rehearse(script, role="postgres", exit_code=3)
    assert found["effect"]["public.notes"] == {"truncate": 3600}
    assert sum(found["truncated"][0]["rows"].values()) == 3600
    assert len(found["truncated"][0]["rows"]) == 900
    assert found["effect"]["public.presence"] == {"update": 3}
    assert found["effect"]["public.settings"] == {"update": 1}, "a row that changes its partition is an update"
    assert {"change": "added", "kind": "column", "name": "public.plans.price"}.items() <= found["schema"][0].items()
    assert {"table": "public.notes", "mode": "AccessExclusiveLock"} in found["locks"]
    assert found["sequences"] == [{"sequence": "public.pages_id_seq", "before": 3600, "after": 3601}]
    assert found["rewritten"] == ["public.notes"]
    assert found["notified"] == ["news", "more"]
    assert found["large_objects"] == 1
    messages = [finding["message"] for finding in found["findings"]]
    assert any("large object" in message for message in messages)
    assert ("grant", "public on public.plans") in {(one["kind"], one["name"]) for one in found["schema"]}
    lost = shop.rehearse(
        shop.script(
            "ALTER TABLE pages DROP COLUMN body; ALTER TABLE plans ALTER id TYPE smallint; DROP TABLE audit CASCADE;"
        ),
        role="postgres",
        exit_code=3,
    )
    irreversible = {(one["kind"], one["name"]) for one in lost["schema"] if one["irreversible"]}
    assert irreversible == {
        ("column", "public.pages.body"),
        ("column", "public.plans.id"),
        ("table", "public.audit"),
        ("sequence", "public.audit_id_seq"),
    }


def test_a_moved_row_and_a_row_touched_twice_count_once(shop: Shop) -> None:
    """The net is told: a page that goes to another site moves; what is updated twice is one row."""
    script = shop.script(
        """UPDATE pages SET site_id = 2 WHERE id = (SELECT min(id) FROM pages WHERE site_id = 1);
        UPDATE pages SET title = 'a' WHERE id = 5;
        UPDATE pages SET title = 'b' WHERE id = 5;
        """
    )
    found = shop.rehearse(script, exit_code=3)
    lines = {(line["table"], line["operation"]): line for line in found["lines"]}
    assert lines["public.pages", "move"]["tenants"] == 2
    assert lines["public.pages", "update"]["columns"] == ["title"]


def test_twice_finds_what_is_not_repeatable(shop: Shop) -> None:
    """A script that depends on chance does something else on the second of two equal copies."""
    script = shop.script(
        "-- outlast: tenants all\n-- outlast: effect public.pages update(title) rows=0..3600\n"
        "UPDATE pages SET title = title || '!' WHERE random() < 0.5;\n"
    )
    found = shop.rehearse("--twice", script, exit_code=1)
    assert found["verdict"] == "INCONCLUSIVE"
    assert any(one.startswith("not-repeatable") for one in found["inconclusive"])


def test_a_part_of_the_tenants_is_never_conclusive_unless_accepted(shop: Shop) -> None:
    """In 2022 staging did not hold the ids, and so saw nothing."""
    intent = "-- outlast: tenants site-1\n-- outlast: effect public.pages update(title) rows=1\n"
    update = "UPDATE pages SET title = 'x' WHERE id = 900;\n"
    found = shop.rehearse("--tenants", "site-1", shop.script(intent + update), exit_code=1)
    assert found["inconclusive"] == ["part-of-the-tenants: site-1"]
    accepted = intent + "-- outlast: accept part-of-the-tenants\n" + update
    assert shop.rehearse("--tenants", "site-1", shop.script(accepted), exit_code=0)["verdict"] == "WITHIN INTENT"


def test_two_intents_are_none(shop: Shop) -> None:
    """A header and a file beside the script: none of them is taken in silence."""
    script = shop.script("-- outlast: tenants site-7\nUPDATE pages SET title = 'new' WHERE site_id = 7;\n", "both.sql")
    beside = shop.outlast.folder / "both.intent.toml"
    beside.write_text('tenants = "site-7"\neffect = "public.pages update(title) rows=4"\n')
    assert shop.rehearse(script, exit_code=2)["error"]["code"] == "two-intents"
    shop.rehearse(script, "--intent", str(beside), exit_code=0)


def test_a_password_is_seen(shop: Shop) -> None:
    """A role's new password is a change to the role, and is itself not shown."""
    done = shop.rehearse(shop.script("ALTER ROLE app PASSWORD 'open sesame';\n"), role="postgres", exit_code=3)
    assert any(one["message"].startswith("role app changed") for one in done["findings"])
    assert "sesame" not in str(done)


def test_a_draft_passes_once_another_person_has_adopted_it(shop: Shop) -> None:
    """--draft writes what was seen; by itself it allows nothing."""
    script = shop.script("UPDATE pages SET title = 'new' WHERE site_id = 7;\n", "draft.sql")
    shop.rehearse(script, "--draft", "--by", "ann", exit_code=0)
    draft = shop.outlast.folder / "draft.intent.toml"
    assert "public.pages update(title) rows=4" in draft.read_text()
    assert shop.rehearse(script, exit_code=3)["findings"][0]["kind"] == "drafted"
    draft.write_text(draft.read_text() + 'adopted = "by=bob"\n')
    assert "does not say why" in shop.rehearse(script, exit_code=3)["findings"][0]["message"]
    draft.write_text(draft.read_text().replace("TO BE WRITTEN: what this is for", "a new title"))
    assert shop.rehearse(script, exit_code=0)["verdict"] == "WITHIN INTENT"
