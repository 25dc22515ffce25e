"""Models in this process, with random weights: what they say is noise, how they say it is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from npcorrect.errors import ModelError
from npcorrect.vlm.base import Message, Question
from npcorrect.vlm.budget import Budget, Price, Till
from npcorrect.vlm.local import LocalVLM
from tests.vlm import tiny

RED, BLUE = (Image.new("RGB", (40, 40), color) for color in ("red", "blue"))
SYSTEM = Message("system", "You look at pictures.")
CHECK = Question((SYSTEM, Message("user", "Is it red?", (RED,))), choices=("yes", "no"))
SHAPE = {
    "type": "object",
    "properties": {"shape": {"enum": ["circle", "square"]}, "sure": {"type": "boolean"}},
    "required": ["shape", "sure"],
    "additionalProperties": False,
}
OBJECT = Question((SYSTEM, Message("user", "What is it?", (BLUE,))), schema=SHAPE, max_tokens=60)


@pytest.fixture(scope="module", params=[tiny.llava, tiny.qwen3_vl])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LocalVLM:
    build: Callable[[Path], None] = request.param
    folder = tmp_path_factory.mktemp("model")
    build(folder)
    return LocalVLM.load(str(folder))


def test_choices_have_probabilities_from_the_logits(model: LocalVLM) -> None:
    (reply,) = model.ask([CHECK])
    assert not reply.error
    assert sum(reply.probabilities.values()) == pytest.approx(1)
    assert reply.text == max(reply.probabilities, key=lambda word: reply.probabilities[word])
    assert reply.usage.calls == 1
    assert reply.usage.input_tokens > len("Is it red?")


def test_the_first_tokens_have_their_probabilities_among_all(model: LocalVLM) -> None:
    """Nothing is added to the messages: the text is what the model would begin with."""
    first = replace(CHECK, choices=(), tokens=True, max_tokens=1)
    (reply,) = model.ask([first])
    assert reply.usage.output_tokens == 1
    assert sum(reply.tokens.values()) == pytest.approx(1, abs=1e-3), "the vocabulary is small"
    assert reply.text in reply.tokens
    (chosen,) = model.ask([CHECK])
    assert chosen.tokens == {}


def test_a_batch_answers_as_one_by_one(model: LocalVLM) -> None:
    longer = Message("user", "Is the thing in this picture red, or is it not?", (BLUE,))
    other = replace(CHECK, messages=(SYSTEM, longer))
    text_only = Question((Message("user", "Say something."),), max_tokens=5)
    questions = [CHECK, OBJECT, other, text_only] + [other, CHECK] * 5
    together = model.ask(questions)
    for question, reply in zip(questions, together, strict=True):
        (alone,) = model.ask([question])
        assert alone.text == reply.text
        assert alone.probabilities == pytest.approx(dict(reply.probabilities), abs=1e-3)


def test_objects_meet_their_schema(model: LocalVLM) -> None:
    other = {**SHAPE, "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}
    for temperature, seed in ((0.0, None), (2.0, 1), (2.0, 2)):
        first, second = model.ask(
            [
                replace(OBJECT, temperature=temperature, seed=seed),
                replace(OBJECT, schema=other, temperature=temperature, seed=seed),
            ]
        )
        assert json.loads(first.text).keys() == {"shape", "sure"}
        assert json.loads(second.text)["n"] in (1, 2)


def test_a_cut_off_object_is_an_error_with_its_raw_text(model: LocalVLM) -> None:
    (reply,) = model.ask([replace(OBJECT, max_tokens=5)])
    assert "no usable answer" in reply.error
    assert reply.text


def test_choices_that_begin_alike_are_generated(model: LocalVLM) -> None:
    (reply,) = model.ask([replace(CHECK, choices=("1", "10"))])
    assert reply.text in ("1", "10")
    assert not reply.probabilities


def test_votes_with_a_seed_can_be_repeated(model: LocalVLM) -> None:
    votes = [replace(CHECK, temperature=1.0, seed=seed) for seed in range(6)]
    first, second = model.ask(votes), model.ask(votes)
    assert [vote.text for vote in first] == [vote.text for vote in second]


def test_the_budget_stops_it(model: LocalVLM) -> None:
    limited = LocalVLM("local:tiny", model._model, model._processor)
    limited._till = Till(Price(1e6, 0), Budget.parse("2 calls"))
    replies = limited.ask([CHECK, CHECK, CHECK])
    assert [reply.stopped for reply in replies] == [False, False, True]
    assert replies[0].usage.money == replies[0].usage.input_tokens


def test_a_template_without_a_system_message_is_served_too(tmp_path: Path) -> None:
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}"
    tiny.llava(tmp_path, refusing + tiny.TEMPLATE)
    model = LocalVLM.load(str(tmp_path))
    assert model._prompt(CHECK).startswith("user: <image>You look at pictures.\n\nIs it red?")
    assert not model.ask([CHECK])[0].error


def test_what_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="check the name or the folder"):
        LocalVLM.load(str(tmp_path))
    tiny.llava(tmp_path)
    with pytest.raises(ModelError, match="'half'"):
        LocalVLM.load(str(tmp_path), dtype="half")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        LocalVLM.load(str(tmp_path))


def test_pictures_that_need_torchvision_are_refused_with_the_remedy(tmp_path: Path) -> None:
    tiny.qwen3_vl(tmp_path)
    settings = tmp_path / "preprocessor_config.json"
    record = json.loads(settings.read_text())
    record["image_processor_type"] = "Llama4ImageProcessor"
    settings.write_text(json.dumps(record))
    with pytest.raises(ModelError, match="install torchvision"):
        LocalVLM.load(str(tmp_path))
