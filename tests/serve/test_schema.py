"""Whatever the schema allows, and whatever it forbids, gets an answer that the schema describes."""

from __future__ import annotations

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import positive_data_acceptance

from tests.serve.fakes import FakeServer


@pytest.fixture
def schema(server: FakeServer, address: str) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"{address}/openapi.json")


api = schemathesis.pytest.from_fixture("schema")


@api.parametrize()
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_endpoint_keeps_its_word(case: schemathesis.Case) -> None:
    case.call_and_validate(excluded_checks=[positive_data_acceptance])


def test_the_page_is_no_endpoint(client: httpx2.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert "/v1/jobs" in paths
    assert "/" not in paths
