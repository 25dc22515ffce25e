"""A server for each test, on a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.serve.fakes import FakeServer, client_of, listening


@pytest.fixture
def server(tmp_path: Path) -> FakeServer:
    """A server that corrects with its first redrawing, not yet begun."""
    return FakeServer(tmp_path)


@pytest.fixture
def address(server: FakeServer) -> Iterator[str]:
    """Where the server listens."""
    with listening(server) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[httpx2.Client]:
    """Asks the server as a script would."""
    with client_of(address) as client:
        yield client
