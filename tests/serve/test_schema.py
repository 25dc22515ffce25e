"""Whatever the schema allows, and whatever it forbids, gets an answer that the schema describes."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import positive_data_acceptance
from schemathesis.core.result import Ok


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_endpoint_keeps_its_word(address: str, mode: GenerationMode) -> None:
    """Settings that the schema allows may still be refused together: that is no broken word."""
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    asked = 0
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()

        @given(operation.as_strategy(generation_mode=mode))
        @settings(max_examples=15, suppress_health_check=list(HealthCheck))
        def keeps_its_word(case: schemathesis.Case[Any]) -> None:
            nonlocal asked
            asked += 1
            case.call_and_validate(excluded_checks=[positive_data_acceptance])

        if mode is GenerationMode.POSITIVE or operation.body:
            keeps_its_word()
    assert asked > 15


def test_the_page_is_no_endpoint(client: httpx2.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert "/v1/jobs" in paths
    assert "/" not in paths
