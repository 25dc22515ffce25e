"""A process that becomes the program."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.program import Start, ready


@pytest.fixture(scope="session")
def started() -> Iterator[Start]:
    """Starts the program without importing it anew."""
    with ready() as start:
        yield start
