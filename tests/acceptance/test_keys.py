"""The host that writes is lost, or its signing key is: a new one goes on with the same vault."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.commands import Outlast

LINE = "signers = [\n"


def states(outlast: Outlast) -> dict[str, str]:
    return {one["key"]: one["state"] for one in outlast("--json", "keys").json["keys"]}


def name_signer(outlast: Outlast, public: str) -> None:
    """What the person does who reads the hint."""
    config = outlast.folder / "outlast.toml"
    text = config.read_text()
    assert LINE in text
    config.write_text(text.replace(LINE, f'{LINE}  "{public}",\n'))


def test_a_new_host_writes_with_the_vault_and_the_recovery_key_alone(project: Outlast) -> None:
    """outlast.toml, the store and the recovery key are enough: backup, verify and restore go on from there."""
    shutil.rmtree(project.folder / ".outlast")
    project.environment["OUTLAST_IDENTITY"] = str(project.folder / "outlast-recovery.key")
    assert states(project) == {"operator's identity": "right", "naming.key": "missing", "signing.key": "missing"}
    refused = project("backup")
    assert refused.exit_code == 1
    assert "outlast keys" in refused.stderr

    made = project.done("--json", "keys", "new").json
    assert made["naming_key_fetched"]
    early = project("keys", "use")
    assert early.exit_code == 3
    assert made["signer"] in early.stderr
    name_signer(project, made["signer"])
    assert project.done("--json", "keys", "use").json["kept"] is None

    assert set(states(project).values()) == {"right"}
    assert project.done("--json", "backup").json["run"] == 4
    project.done("verify")
    project.done("restore", "tenant-1")


def test_a_signing_key_that_was_seen_is_replaced(project: Outlast) -> None:
    """The key before is kept aside, its runs are still believed, and another `new` or `use` is refused."""
    before = (project.folder / ".outlast" / "signing.key").read_text()
    made = project.done("--json", "keys", "new").json
    assert not made["naming_key_fetched"]
    again = project("keys", "new")
    assert again.exit_code == 3
    assert made["signer"] in again.stderr
    assert project.done("--json", "backup").json["run"] == 4  # still with the key before

    name_signer(project, made["signer"])
    kept = project.done("--json", "keys", "use").json["kept"]
    assert Path(kept).read_text() == before
    assert project("keys", "use").exit_code == 3
    assert project.done("--json", "backup", "--full").json["run"] == 5
    project.done("verify")


def test_a_key_of_another_vault_is_told(project: Outlast) -> None:
    """Each by its name, with exit code 1: this host cannot write."""
    project.done("keys", "new")
    signing = project.folder / ".outlast" / "signing.key"
    (project.folder / ".outlast" / "signing.new.key").replace(signing)
    (project.folder / ".outlast" / "naming.key").write_text("00" * 32 + "\n")
    assert states(project) == {
        "operator's identity": "right",
        "naming.key": "not this vault's",
        "signing.key": "not among signers",
    }
    assert project("keys").exit_code == 1
