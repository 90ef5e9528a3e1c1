"""The test run itself: threads, and children that tests fork."""

import os
import shutil
import subprocess
import sys

import torch
from paths import TESTS

LOST_CHILD = """
import os, sys

def test_child():
    child = os.fork()
    if child == 0:
        raise RuntimeError("lost in the child")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 70

def test_after():
    pass
"""


def test_a_worker_has_one_thread_and_a_lonely_run_two():
    assert torch.get_num_threads() == (1 if "PYTEST_XDIST_WORKER" in os.environ else 2)
    assert "OMP_NUM_THREADS" in os.environ


def test_a_forked_child_ends_with_its_test(tmp_path):
    """Whoever goes on in the child would run the second test again, and tell of it twice."""
    shutil.copy(TESTS / "conftest.py", tmp_path / "conftest.py")
    (tmp_path / "test_fork.py").write_text(LOST_CHILD)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-s", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("test_after PASSED") == 1
    assert "lost in the child" in done.stderr
