"""Where things are, for tests in any folder."""

from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent
DOCS, SCRIPTS = ROOT / "docs", ROOT / "scripts"
OLD_ZOO = TESTS / "data" / "version_1.h5"
"""A zoo file of the first version of the format."""
