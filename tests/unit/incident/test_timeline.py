"""What events come to."""

from __future__ import annotations

from outlast.core.tenant import TenantKey
from outlast.incident.drafting import finished, first_word, last_word, progress, status_of
from outlast.incident.incident import Component, Role, Severity, Status, TenantState
from outlast.incident.notices import notice
from outlast.incident.timeline import Kind, fold
from tests.unit.incident.stories import Story, at

ACME, BOLT = TenantKey("7"), TenantKey("8")


def restoring() -> Story:
    """Two tenants lost data; both are planned, one is restored."""
    return (
        Story()
        .add(1, Kind.TENANTS, tenants=[["7", "acme", 120], ["8", "bolt", 3]], source="alarm 1")
        .add(4, Kind.QUEUED, tenants=[["7", "acme"], ["8", "bolt"]], source="plan x")
        .add(6, Kind.RESTORED, tenant="7", rows=120, missing=0, moment="2026-11-25 02:59 UTC")
    )


def test_no_events_are_no_incident() -> None:
    """An id that nobody opened is nothing."""
    assert fold([]) is None


def test_an_update_makes_it_public_and_sets_its_status() -> None:
    """A draft that was published is a draft no more."""
    story = Story(public=False).add(1, Kind.DRAFTED, status="identified", bodies={"en": "Found it."}, next_at=None)
    (draft,) = story.incident.drafts
    story.update(2, "Found it.", status="identified", draft=draft.number, approved_by="bob")
    incident = story.incident
    assert (incident.public, incident.status, incident.drafts) == (True, Status.IDENTIFIED, ())
    assert incident.updates[-1].approved_by == "bob"


def test_a_component_is_well_again_when_it_is_over() -> None:
    """Its spell has an end then; an equal state begins no second one."""
    story = Story(opened={"components": {"API": "major_outage"}})
    story.add(5, Kind.COMPONENTS, components={"API": "major_outage"})
    story.add(8, Kind.COMPONENTS, components={"API": "partial_outage"})
    story.update(20, next_in=None, status="resolved")
    spells = [(spell.state, spell.since, spell.until) for spell in story.incident.spells]
    assert spells == [(Component.MAJOR, at(0), at(8)), (Component.PARTIAL, at(8), at(20))]
    assert story.incident.components == {"API": Component.OPERATIONAL}


def test_tenants_go_from_affected_to_restored() -> None:
    """A plan that comes again takes nobody back who is restored already."""
    story = restoring().add(7, Kind.QUEUED, tenants=[["7", "acme"], ["8", "bolt"]])
    states = {key: one.state for key, one in story.incident.tenants.items()}
    assert states == {ACME: TenantState.RESTORED, BOLT: TenantState.QUEUED}
    assert story.incident.sources == {"alarm 1", "plan x"}
    assert not finished(story.incident)
    assert finished(story.add(8, Kind.RESTORED, tenant="8", rows=3, missing=0).incident)


def test_roles_and_severity_are_the_newest_ones() -> None:
    """The one who took over leads."""
    story = Story().add(1, Kind.ROLE, role="commander", person="bob").add(2, Kind.ROLE, role="commander", person="eve")
    story.add(3, Kind.SEVERITY, severity="minor")
    assert story.incident.roles == {Role.COMMANDER: "eve"}
    assert story.incident.severity is Severity.MINOR


def test_a_draft_says_what_is_certain_and_no_eta() -> None:
    """Numbers of tenants and the rate, in each language; no name of any. That they get letters only where they do."""
    assert "2 customers are affected. 1 of 2" in progress(restoring().incident, ("en",), at(7))["en"]
    said = progress(restoring().incident, ("en", "de"), at(7), writes=True)
    assert said["en"] == (
        "2 customers are affected. We write to each of them directly. If you have not heard from us, you are not among "
        "those we know to be affected. 1 of 2 affected customers is restored. About one customer a minute is being "
        "restored at the moment. Nothing is missing from what was restored: each customer was checked against the "
        "backup before it was made final."
    )
    assert "1 von 2" in said["de"]
    assert "acme" not in "".join(said.values())
    assert status_of(restoring().incident) is Status.IDENTIFIED


def test_the_first_and_the_last_word_need_nobody_to_compose_them() -> None:
    """The first names the title and, where it is known, the scope; the last what was done."""
    assert first_word(Story().incident, ("en",))["en"].startswith("We are investigating a problem: Sites are missing.")
    done = restoring().add(8, Kind.RESTORED, tenant="8", rows=3, missing=0).incident
    assert "All 2 affected customers are restored" in last_word(done, ("en",))["en"]
    partly = restoring().add(8, Kind.RESTORED, tenant="8", rows=3, missing=2).incident
    assert "For one customer some data is missing" in last_word(partly, ("en",))["en"]


def test_a_notice_tells_one_tenant_of_its_own_data_alone() -> None:
    """Its place among those that wait, then when and to which moment it was restored."""
    incident = restoring().update(6, "Working.").incident
    waiting = notice(incident, BOLT, "Shop", "en")
    assert waiting is not None
    assert "you are number 1 of 1" in waiting.lines[0]
    done = notice(incident, ACME, "Shop", "en")
    assert done is not None
    assert done.lines[0].startswith(
        "Your data was restored at 2026-11-25 03:06 UTC. It is as it was at 2026-11-25 02:59"
    )
    assert done.lines[1:] == ("120 rows were put back.", "Nothing is missing.")
    assert "bolt" not in repr(done)
    assert notice(incident, TenantKey("9"), "Shop", "en") is None
