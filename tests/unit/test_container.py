"""deploy/Containerfile, as far as it can be judged where no container can be built."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _stages() -> list[list[list[str]]]:
    """Each stage's instructions, as words."""
    text = (ROOT / "deploy" / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    instructions = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    starts = [number for number, words in enumerate(instructions) if words[0] == "FROM"]
    return [instructions[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]


def test_it_runs_as_no_root_what_the_package_installs() -> None:
    """The last stage is Debian's, ends as the user that it made, and its entry point is a script of ours."""
    last = _stages()[-1]
    assert "/debian:" in last[0][1]
    user = [words[1] for words in last if words[0] == "USER"][-1]
    assert user not in ("0", "root")
    assert any(f"useradd --uid {user} " in " ".join(words) for words in last)
    (entry,) = [words[1].strip('[]"') for words in last if words[0] == "ENTRYPOINT"]
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert entry in scripts


def test_what_it_copies_is_there() -> None:
    """Files of the project, and what an earlier stage made."""
    first, last = _stages()
    for words in first:
        if words[0] == "COPY":
            assert all((ROOT / source).exists() for source in words[1:-1]), words
    made = " ".join(" ".join(words) for words in first if words[0] == "RUN")
    for words in last:
        if words[0] == "COPY":
            assert words[1] == "--from=build"
            assert f"venv {words[2]}" in made
