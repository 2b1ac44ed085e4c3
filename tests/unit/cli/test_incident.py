"""`outlast incident` as a person in a hurry types it, with nothing at hand but this host's state."""

from __future__ import annotations

import pytest

from tests.commands import UNCONNECTED, Outlast


@pytest.fixture
def opened(outlast: Outlast) -> tuple[Outlast, str]:
    """A host with one public incident of severity critical, and its id."""
    (outlast.folder / "outlast.toml").write_text(UNCONNECTED)
    found = outlast.done("--json", "incident", "open", "Sites are gone", "--severity", "critical", "--publish")
    return outlast, found.json["incident"]


def test_whoever_opens_one_is_told_that_nobody_looks_after_it(outlast: Outlast) -> None:
    """Without `serve` or `incident watch` no letter leaves; while one of them runs nothing is said."""
    (outlast.folder / "outlast.toml").write_text(UNCONNECTED)
    assert "nobody looks after incidents" in outlast.done("incident", "open", "A drill").stderr
    watching = outlast.start("incident", "watch")
    try:
        assert watching.stderr is not None
        for line in watching.stderr:
            if "Looking after incidents" in line:
                break
        while (said := outlast.done("incident", "open", "A drill").stderr) != "":
            assert watching.poll() is None, said
    finally:
        watching.terminate()
        watching.communicate(timeout=30)


def test_an_update_that_says_nothing_is_wrong_usage(opened: tuple[Outlast, str]) -> None:
    """It is not told as written down."""
    outlast, name = opened
    said = outlast("incident", "update", name)
    assert said.exit_code == 2
    assert "--facts" in said.stderr


def test_an_update_that_is_refused_changes_nothing(opened: tuple[Outlast, str]) -> None:
    """Exit code 3 means it: neither the note nor the severity of the same command stands."""
    outlast, name = opened
    before = outlast.done("--json", "incident", "show", name).json
    refused = outlast("incident", "update", name, "--facts", "--next", "3h", "--note", "a secret", "--commander", "ada")
    assert refused.exit_code == 3
    assert f"outlast incident update {name} --severity minor" in refused.stderr
    assert outlast.done("--json", "incident", "show", name).json == before


def test_a_lower_severity_promises_less_in_the_same_update(opened: tuple[Outlast, str]) -> None:
    """As the hint of a refused one says."""
    outlast, name = opened
    said = outlast.done("--json", "incident", "update", name, "--facts", "--next", "50m", "--severity", "minor").json
    assert (said["severity"], len(said["updates"])) == ("minor", 2)


def test_a_web_hook_into_our_own_network_is_refused_when_it_is_added(outlast: Outlast) -> None:
    """With the setting that allows it; a public one gets its secret."""
    (outlast.folder / "outlast.toml").write_text(UNCONNECTED)
    add = ("subscribers", "add", "--channel", "webhook")
    refused = outlast(*add, "http://169.254.169.254/latest")
    assert refused.exit_code == 2
    assert 'under [incident]: inside = ["169.254.169.254"]' in refused.stderr
    assert outlast.done("--json", *add, "https://8.8.8.8/hook").json["secret"]
    (outlast.folder / "outlast.toml").write_text(UNCONNECTED + '\n[incident]\ninside = ["169.254.169.254"]\n')
    assert outlast.done("--json", *add, "http://169.254.169.254/latest").json["secret"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["https://x.example/hook"], "--channel webhook"),
        (["a@b.example", "--component", "Nothing"], "[page] has: API."),
        (["a@b.example", "--language", "xx"], "[page] has: en, de."),
        (["nonsense://x", "--channel", "apprise"], "Apprise does not know"),
        (["Ops <a@b.example>"], "without a name or brackets"),
    ],
)
def test_a_subscription_that_would_never_be_served_is_refused(
    outlast: Outlast, arguments: list[str], told: str
) -> None:
    """When it is added, and not in an incident."""
    page = '\n[page]\nlanguages = ["en", "de"]\ncomponents = [{ name = "API" }]\n'
    (outlast.folder / "outlast.toml").write_text(UNCONNECTED + page)
    refused = outlast("subscribers", "add", *arguments)
    assert refused.exit_code == 2, str(refused)
    assert told in refused.stderr
    assert outlast.done("--json", "subscribers", "list").json["subscribers"] == []


def test_mail_without_a_mail_server_is_told(outlast: Outlast) -> None:
    """At once; and where letters wait for one, by whoever looks after incidents."""
    (outlast.folder / "outlast.toml").write_text(UNCONNECTED)
    assert "names no mail server" in outlast.done("subscribers", "add", "a@b.example").stderr
    outlast.done("incident", "open", "A drill", "--publish")
    looked = outlast.done("incident", "watch", "--once")
    assert "1 letter by e-mail cannot leave" in looked.stderr
    assert "1 wait" in looked.stdout
