"""What is said of a model before anything is drawn."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from npcorrect.errors import ModelError, VLMError
from npcorrect.vlm import addresses
from npcorrect.vlm.base import Question, Reply, Usage
from npcorrect.vlm.budget import Price, Till
from npcorrect.vlm.capabilities import Capabilities
from npcorrect.vlm.diagnosis import CALLS, Diagnosis, examine
from npcorrect.vlm.fake import FakeVLM
from npcorrect.vlm.openai import OpenAIVLM
from tests.vlm.loopback import loopback


def diagnosis(trials: int = 4, **options: Any) -> Diagnosis:
    with loopback(**options) as server:
        till = Till(Price(1e6, 1e6))
        with closing(OpenAIVLM(addresses.server(server.name), till=till)) as vlm:
            return examine(vlm, trials)


def test_an_honest_server_is_steady_and_priced() -> None:
    found = diagnosis()
    assert found.capabilities == Capabilities(together=True)
    assert (found.claims, found.orders_agree) == (3, 3)
    assert (found.trials, found.flips, found.unusable) == (4, 0, 0)
    assert found.seconds > 0
    assert found.tokens_written <= 2
    assert found.accepted.calls == CALLS[True][0]
    assert found.redrawn.money == pytest.approx(found.redrawn.tokens, rel=0.1)
    assert found.accepted.tokens < found.redrawn.tokens


def test_a_server_that_thinks_or_gives_no_probabilities_is_asked_singly() -> None:
    found = diagnosis(thinks="ollama-always", likely=0)
    assert found.capabilities == Capabilities(
        likely=0, thinks=True, switch={"reasoning_effort": "low"}
    )
    assert found.redrawn.calls == CALLS[False][1]


def test_what_depends_on_the_order_or_on_chance_is_counted() -> None:
    def answer(question: Question) -> Reply:
        word = question.choices[0]
        if question.seed is not None:
            word = ("yes", "yes", "no", "mumble")[question.seed % 4]
        error = "unusable" if word == "mumble" else ""
        return Reply(word, error, usage=Usage(1, 100, 50, 0.5))

    found = examine(fake := FakeVLM([answer], repeat=True), trials=8)
    assert fake.connected == 1
    assert (found.orders_agree, found.flips, found.unusable) == (0, 2, 2)
    assert found.tokens_written == 50
    assert found.capabilities is None
    assert found.accepted.money is None


def test_a_model_that_says_nothing_usable_is_an_error() -> None:
    with pytest.raises(VLMError, match="mumbles"):
        examine(FakeVLM([Reply("?", "mumbles")], repeat=True))
    with pytest.raises(ModelError, match="about pictures"):
        diagnosis(sees=False)
