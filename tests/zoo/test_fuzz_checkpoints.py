"""Some of the cases of `scripts/fuzz_checkpoints.py`; the script runs a thousand."""

import subprocess
import sys

import pytest
from paths import SCRIPTS


def fuzzed(*words):
    command = [sys.executable, "-W", "ignore", str(SCRIPTS / "fuzz_checkpoints.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_fifty_damaged_checkpoints_are_read_right_or_refused_in_one_line():
    done = fuzzed("--cases", "50", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "match refused" in done.stdout
    assert "import right" in done.stdout


@pytest.mark.slow
def test_a_thousand_damaged_checkpoints_are_read_right_or_refused_in_one_line():
    done = fuzzed("--cases", "1000", "--seed", "2")
    assert done.returncode == 0, done.stdout + done.stderr
