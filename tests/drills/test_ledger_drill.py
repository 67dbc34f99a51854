"""The ledger after a bad day, in small: `python -m benchmarks.ledger_drill` does the same for longer."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("fsync", ["everysec", "always"])
def test_the_ledger_has_what_callers_were_told(fsync: str) -> None:
    """Data plane, worker, Valkey and Postgres are killed under load: every unit is there, or was told 2 s before."""
    command = [sys.executable, "-m", "benchmarks.ledger_drill", "--rounds", "4", "--fsync", fsync, "--seed", "7"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=380)
    assert ran.returncode == 0, ran.stdout + ran.stderr
