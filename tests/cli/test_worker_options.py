"""How workers share the machine."""

from __future__ import annotations

import pytest

from npcorrect.cli import worker_options
from npcorrect.cli.worker_options import threads_each


@pytest.mark.parametrize(
    ("variable", "threads"),
    [
        ("3", 3),
        ("4,2", 4),
        (" 2 , 1", 2),
        ("", 6),
        ("0", 6),
        ("many", 6),
        ("-1", 6),
        ("9" * 5000, 6),
    ],
)
def test_threads_are_those_of_the_environment_or_an_equal_share(
    variable: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_options, "_cores", lambda: 12)
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert threads_each(2, None) == threads
    assert threads_each(2, 5) == 5
