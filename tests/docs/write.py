"""`make docs`: write the made parts of docs/REFERENCE.md and README.md anew. Look at the difference, then commit."""

from __future__ import annotations

from tests.docs.generated import README, REFERENCE, REFERENCE_PARTS, replaced
from tests.docs.readme import README_PARTS, transcripts


def main() -> None:
    reference = REFERENCE.read_text(encoding="utf-8")
    for name, make in REFERENCE_PARTS.items():
        reference = replaced(reference, name, make())
    REFERENCE.write_text(reference, encoding="utf-8")
    readme = README.read_text(encoding="utf-8")
    made = transcripts()
    for name in README_PARTS:
        readme = replaced(readme, name, f"```console\n{made[name]}\n```")
    README.write_text(readme, encoding="utf-8")


if __name__ == "__main__":
    main()
