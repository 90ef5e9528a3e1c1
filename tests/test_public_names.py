"""Every public name of the last release still imports: see "Names that go" in CONTRIBUTING."""

import importlib

from paths import ROOT

NAMES = [
    line.split() for line in (ROOT / "tests" / "data" / "public_names.txt").read_text().splitlines()
]


def test_every_public_name_of_the_last_release_is_still_there():
    assert len(NAMES) > 400
    gone = [
        f"{door}.{name}" for door, name in NAMES if not hasattr(importlib.import_module(door), name)
    ]
    assert gone == []
