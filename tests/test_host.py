"""Host settings: made in time, and never against the user's own."""

import os
import subprocess
import sys

import pytest

from pose.host import let_threads_sleep


def test_threads_spin_briefly_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    let_threads_sleep()
    assert os.environ["GOMP_SPINCOUNT"] == "1000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    let_threads_sleep()
    assert os.environ["GOMP_SPINCOUNT"] == "7"


def test_no_module_that_a_tool_needs_to_start_imports_torch() -> None:
    # else the settings would come too late for it
    code = "import sys, pose.command, pose.config_files, pose.host; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is a matter of Linux")
def test_freed_memory_stays_with_the_process() -> None:
    code = """
import resource
from pose.host import keep_freed_memory
import numpy as np
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        np.empty(64 << 20, dtype=np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
spun = faults()
keep_freed_memory()
faults()
print(spun, faults())
"""
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    before, after = map(int, output.split())
    if before < 100:
        pytest.skip("this machine's pages are too large to tell")
    assert after < before / 5
