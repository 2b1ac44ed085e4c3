"""forget, prune, hold and erase as a person runs them: shown first, in two steps, and a hold wins."""

from __future__ import annotations

from tests.commands import Outlast


def objects(project: Outlast) -> set[str]:
    vault = project.folder / "vault"
    return {str(path.relative_to(vault)) for path in vault.rglob("*") if path.is_file()}


def test_a_plan_changes_nothing_until_it_is_applied(project: Outlast) -> None:
    """The plan is shown with its id; `apply` carries it out, and a second time it is refused."""
    commands = (
        ("forget", "1"),
        ("erase", "tenant-1"),
        ("hold", "tenant-1"),
        ("hold", "--run", "1-2"),
        ("hold", "--all"),
    )
    for command in commands:
        before = objects(project)
        plan = project.done("--json", *command).json
        assert plan["executed"] is False
        assert objects(project) == before
        assert f"outlast apply {plan['kind']}-" in project.done(*command).stdout
        assert project.done("--json", "apply", plan["plan"]).json["executed"] is True
        (mark,) = objects(project) - before
        assert "/marks/" in mark
        kept = {one["plan"]: (one["kind"], one["state"]) for one in project.done("--json", "plans").json["plans"]}
        assert kept[plan["plan"]] == (plan["kind"], "applied")
        again = project("apply", plan["plan"])
        assert again.exit_code == 3
        assert "marks have changed" in again.stderr
    project.done("verify")


def test_nothing_is_deleted_within_the_grace_period(project: Outlast) -> None:
    """A forgotten run and a tenant marked for erasure are there until their time is over, and can be taken back."""
    before = objects(project)
    project.done("forget", "1-2", "--execute")
    project.done("erase", "tenant-2", "--execute")
    project.done("prune", "--execute")
    assert before <= objects(project)
    early = project("erase", "tenant-2", "--execute")
    assert early.exit_code == 3
    assert "grace period" in early.stderr
    marks = project.done("--json", "erase", "--list").json["marks"]
    assert [(mark["kind"], mark["tenant"]) for mark in marks] == [("erase", "tenant-2 (2)")]
    project.done("erase", "--release", str(marks[0]["mark"]), "--execute")
    assert project.done("--json", "erase", "--list").json["marks"] == []
    project.done("restore", "tenant-2")


def test_a_hold_wins(project: Outlast) -> None:
    """What is on hold is neither forgotten nor erased until the hold is released."""
    project.done("hold", "tenant-3", "--execute")
    assert project("erase", "tenant-3").exit_code == 3
    assert project("forget", "1", "--tenant", "tenant-3").exit_code == 3
    (held,) = project.done("--json", "hold").json["marks"]
    project.done("hold", "--release", str(held["mark"]), "--execute")
    project.done("erase", "tenant-3")


def test_the_newest_run_stays(project: Outlast) -> None:
    """The next backup builds on it."""
    refused = project("forget", "3")
    assert refused.exit_code == 3
    assert "newest" in refused.stderr


def test_what_does_not_exist(project: Outlast) -> None:
    """A run, mark or tenant that is not there is wrong usage."""
    commands = (("forget", "9"), ("forget", "soon"), ("hold", "--release", "7"), ("erase", "nobody"))
    for command in (*commands, ("hold", "tenant-1", "--all")):
        result = project(*command)
        assert result.exit_code == 2, str(result)
        assert "Hint: " in result.stderr
