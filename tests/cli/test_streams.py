"""Standard streams that are closed before the program begins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
from npcorrect.cli.streams import tolerant_streams
tolerant_streams()
import os, sys
print("said")
print("and told", file=sys.stderr)
assert sys.stdin.buffer.read() == b"" or "<" not in sys.argv[1]
file = open(sys.argv[2], "w")
assert file.fileno() > 2
file.write("mine")
os.write(1, b"from a library")
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_lead_nowhere(closed: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    command = f'"$0" -c "$1" "$2" "$3" {closed}'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, SCRIPT, closed, str(file)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert ("said" in done.stdout) == (">&-" not in closed.replace("2>&-", ""))
    assert file.read_text() == "mine"
