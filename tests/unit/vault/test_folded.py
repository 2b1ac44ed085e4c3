"""Members of a large JSON object are found without parsing it, exactly as parsing it would find them."""

from __future__ import annotations

import json
from random import Random

import pytest

from outlast.core.errors import CorruptionError
from outlast.vault.folded import FoldedMap
from outlast.vault.manifest import Head


def text_of(members: dict[str, object]) -> bytes:
    whole = json.dumps({name: members[name] for name in sorted(members)}, separators=(",", ":"))
    return whole[1:-1].encode()


@pytest.mark.parametrize("number", [0, 1, 2, 3, 50, 1000])
def test_every_member_is_found_and_nothing_else(number: int) -> None:
    """Heads and recipients alike, the first and the last too; a name that is not there is not found."""
    chance = Random(number)
    names = [f"{chance.getrandbits(128):032x}" for _ in range(number)]
    heads = {name: Head(chance.randint(1, 99), f"{chance.getrandbits(256):064x}", 375, 888) for name in names}
    recipients = {name: f"age1{chance.getrandbits(224):058x}" for name in names}
    folded = FoldedMap(text_of({name: head.to_json() for name, head in heads.items()}), Head.from_json, "it")
    keys = FoldedMap(text_of(dict(recipients)), str, "it")
    assert {name: folded[name] for name in names} == heads
    assert {name: keys[name] for name in names} == recipients
    for absent in ("0" * 32, "f" * 32, f"{chance.getrandbits(128):032x}", "short", ""):
        assert absent not in folded
        with pytest.raises(KeyError):
            folded[absent]
    assert folded == heads
    assert dict(keys) == recipients
    assert len(folded) == number


def test_what_is_no_member_is_corruption() -> None:
    """A value of another form is told as damage, whether it is looked up or read with all others."""
    folded = FoldedMap(text_of({"0" * 32: {}, "1" * 32: [1, "pack"]}).replace(b"{}", b"null"), Head.from_json, "run 7")
    with pytest.raises(CorruptionError, match="run 7"):
        folded["1" * 32]
    with pytest.raises(CorruptionError, match="run 7"):
        len(folded)
