"""One call from Python: models, roles, and a correction, by name or as objects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import npcorrect
from npcorrect import session as module
from npcorrect.api import correct_prompt, from_pipeline, load, roles
from npcorrect.diffusion.fake import FakeImageModel
from npcorrect.errors import ModelError, SettingsError, VLMError
from npcorrect.records import Request
from npcorrect.session import SessionSettings, check
from npcorrect.settings import LoadSettings, RoleSettings
from npcorrect.vlm.base import Question, Reply
from npcorrect.vlm.fake import FakeVLM
from tests.diffusion.tiny import build
from tests.vlm.loopback import loopback


def _never(*_: object) -> Any:
    raise AssertionError("weights were loaded")


def yes(question: Question) -> Reply:
    """Answers every claim with yes."""
    return Reply("yes", probabilities={"yes": 1.0, "no": 0.0})


STARS = Request("two red bananas")


SERVER = "http://127.0.0.1:9/v1#model"


def settings(**given: Any) -> SessionSettings:
    names = LoadSettings.__dataclass_fields__
    load_ = {name: value for name, value in given.items() if name in names}
    played = {name: value for name, value in given.items() if name not in names}
    return SessionSettings(load=LoadSettings(**load_), roles=RoleSettings(**played))


def test_load_takes_the_options_by_name() -> None:
    assert load("mini", dtype="float32").name == "mini"
    with pytest.raises(SettingsError, match=r"no setting 'devise'.*device"):
        load("mini", devise="cpu")


def test_a_pipeline_finds_its_family() -> None:
    assert from_pipeline(build("sdxl")).family.name == "sdxl"
    assert from_pipeline(build("flux-dev"), name="mine").name == "mine"
    assert from_pipeline(build("sdxl"), family="sdxl-turbo").family.name == "sdxl-turbo"
    with pytest.raises(ModelError, match="'sdx' is unknown"):
        from_pipeline(build("sdxl"), family="sdx")
    with pytest.raises(ModelError, match="A StrangePipeline is of no family"):
        from_pipeline(type("StrangePipeline", (), {})())


@pytest.mark.parametrize("family", ["sd15", "flux-dev"])
@pytest.mark.parametrize("part", ["scheduler", "vae", "text_encoder", "unet", "transformer"])
def test_a_pipeline_that_lacks_a_part_is_refused(family: str, part: str) -> None:
    pipeline = build(family)
    if part not in pipeline.components:
        return
    setattr(pipeline, part, None)
    with pytest.raises(ModelError, match=f"was loaded without its {part}"):
        from_pipeline(pipeline)


@pytest.mark.parametrize("given", [{"name": 5}, {"family": ["sdxl"]}])
def test_names_that_are_no_texts_are_refused(given: dict[str, Any]) -> None:
    ((what, _),) = given.items()
    with pytest.raises(SettingsError, match=f"The {what} is of type"):
        from_pipeline(build("sd15"), **given)


def test_a_prompt_is_corrected_in_one_call(tmp_path: Path) -> None:
    model = from_pipeline(build("sd15"))
    result = correct_prompt(
        "two red apples",
        model=model,
        vlm=FakeVLM([yes], repeat=True),
        steps=2,
        size=64,
        candidates=1,
    )
    assert result.accepted
    assert result.ended == "accepted"
    assert result.best.index == 0
    result.save(tmp_path)
    read = npcorrect.load_result(tmp_path)
    assert read.best.verdict == result.best.verdict
    assert read.best.generation.drawing.seed == 0
    assert read.best.generation.image.tobytes() == result.best.generation.image.tobytes()
    assert read.cost == result.cost


def test_the_embedded_model_needs_nothing_named() -> None:
    picture = Image.new("RGB", (192, 192), "white")
    result = correct_prompt(
        "two red bananas", original=picture, candidates=1, seed=3, rule="turns", strength=2 / 3
    )
    assert len(result.attempts) == 2
    assert result.attempts[0].cost.images == 0
    assert result.attempts[1].generation.start_step == 4


@pytest.mark.parametrize("option", [{"steps": -3}, {"ranker": "zz"}, {"size": 17}])
def test_one_call_refuses_before_anyone_is_asked_or_anything_is_loaded(
    option: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = from_pipeline(build("sd15"))
    with loopback() as server:
        with pytest.raises(SettingsError):
            correct_prompt("two red apples", model=model, vlm=server.name, **option)
        assert not server.asked
    monkeypatch.setattr(module, "load_model", _never)
    with pytest.raises(SettingsError):
        correct_prompt("two red bananas", vlm=FakeVLM([yes], repeat=True), **option)


def test_bad_options_of_one_call_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"no setting 'step'.*steps"):
        correct_prompt("two red bananas", step=3)
    with pytest.raises(SettingsError, match="'steps' is 0"):
        correct_prompt("two red bananas", steps=0)


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({"original": "picture.png"}, "original is of type 'str'"),
        ({"original": Path("picture.png")}, "original is of type '.*Path'"),
        ({"model": None}, "model is of type 'NoneType'"),
        ({"model": 5}, "model is of type 'int'"),
        ({"vlm": 5}, "VLM is of type 'int'"),
        ({"vlm": object()}, "VLM is of type 'object'"),
        ({"on_event": "loud"}, "listener is of type 'str'"),
    ],
)
def test_arguments_of_the_wrong_type_are_refused_before_anything_is_loaded(
    given: dict[str, Any], refusal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "load_model", _never)
    with pytest.raises(SettingsError, match=f"The {refusal}; give "):
        correct_prompt("two red bananas", **given)


def test_an_original_of_the_wrong_type_is_refused_with_a_model_too() -> None:
    model: Any = from_pipeline(build("sd15"))
    wrong: Any = "picture.png"
    with pytest.raises(SettingsError, match="The original is of type 'str'"):
        correct_prompt("two", model=model, vlm=FakeVLM([yes], repeat=True), original=wrong)


def test_roles_are_played_by_an_object_or_by_name() -> None:
    with roles(FakeVLM([yes], repeat=True)) as played:
        checklist = played.checklister.checklist("two red apples")
        assert played.verifier.verify(Image.new("RGB", (8, 8)), checklist).accepted
    with roles() as played:
        assert len(played.checklister.checklist("two red bananas").requirements) > 1
    with pytest.raises(SettingsError, match="not understood"), roles("gpt"):
        pass
    wrong: Any = 5
    with pytest.raises(SettingsError, match="The VLM is of type 'int'"), roles(wrong):
        pass


def test_a_model_that_gives_nothing_leaves_the_picture_unscored() -> None:
    silent = FakeVLM([lambda question: Reply("", error="it is silent")], repeat=True)
    model = from_pipeline(build("sd15"))
    result = correct_prompt("two red apples", model=model, vlm=silent, steps=1, size=64)
    assert result.ended == "unscored"
    assert "silent" in result.attempts[0].verdict.error
    assert issubclass(VLMError, npcorrect.NpcError)


def test_an_original_that_the_embedded_verifier_cannot_read_is_refused() -> None:
    large = Image.new("RGB", (256, 192))
    sized_otherwise = replace(STARS, size=192)
    for refused in (
        lambda: check(SessionSettings(), sized_otherwise, large),
        lambda: correct_prompt("two red bananas", original=large, size=192),
    ):
        with pytest.raises(SettingsError, match=r"256 x 192 pixels.*sides of 192"):
            refused()
    assert check(SessionSettings(), STARS, Image.new("RGB", (192, 192)))


@pytest.mark.parametrize(
    "option",
    [{"budget": "9 calls"}, {"cache": False}, {"verifier": "embedded"}, {"proposer": "rules"},
     {"checklister": "grammar"}, {"captioner": "openai:x"}],
)  # fmt: skip
def test_what_says_how_a_named_model_is_asked_is_refused_of_an_object(
    option: dict[str, Any],
) -> None:
    ((name, value),) = option.items()
    with (
        pytest.raises(SettingsError, match=f"'{name}' is {value!r}, which has no effect"),
        roles(FakeVLM([yes], repeat=True), **option),
    ):
        pass


@pytest.mark.parametrize("questions", ["together", "single"])
def test_an_object_is_asked_as_the_settings_say(questions: str) -> None:
    vlm = FakeVLM([yes], repeat=True, together=True)
    with roles(vlm, questions=questions) as played:
        checklist = played.checklister.checklist("two red bananas")
        played.verifier.verify(Image.new("RGB", (8, 8)), checklist)
    together = any(question.schema for question in vlm.asked)
    assert together == (questions == "together")


@pytest.mark.parametrize("missing", ["name", "remote", "together"])
def test_an_object_that_lacks_something_is_named_with_it(missing: str) -> None:
    given = {"name": "own", "remote": False, "together": False, "ask": list} | {missing: None}
    vlm: Any = type("Own", (), {k: v for k, v in given.items() if v is not None})()
    with pytest.raises(SettingsError, match=rf"'Own', which has no '{missing}'; .*name, remote"):
        correct_prompt("two red bananas", vlm=vlm)
    wrong: Any = type(vlm)
    with pytest.raises(SettingsError, match="VLM is of type 'type'"):
        correct_prompt("two red bananas", vlm=wrong)
    own: Any = type("Own", (), {"name": "own", "plan": list})()
    with pytest.raises(SettingsError, match="'Own', which has no 'check_text'"):
        correct_prompt("two red bananas", model=own)


def test_a_model_without_an_encoder_is_refused_before_anyone_is_asked() -> None:
    class Mute(FakeImageModel):
        encode = property()

    with loopback() as server:
        with pytest.raises(SettingsError, match="'salient' needs a text encoder, which 'fake'"):
            correct_prompt("two red apples", model=Mute(), vlm=server.name)
        assert not server.asked
    vlm = FakeVLM([yes], repeat=True)
    assert correct_prompt("two red apples", model=Mute(), vlm=vlm, ranker="source").accepted
