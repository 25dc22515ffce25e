"""One way in: settings refused before anything is opened, what was opened is closed, one policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from npcorrect import session as module
from npcorrect.diffusion.fake import FakeImageModel
from npcorrect.diffusion.families import FAMILIES
from npcorrect.errors import InputError, ModelError, SettingsError
from npcorrect.records import Request
from npcorrect.session import Session, SessionSettings, check, check_request, open_session
from npcorrect.settings import LoadSettings, RoleSettings
from npcorrect.vlm import build as build_roles
from npcorrect.vlm.settings import read_table
from tests.diffusion.tiny import build
from tests.test_loop import REQUEST, FakeRoles, scored

SERVER = "http://127.0.0.1:9/v1#model"


def settings(**given: Any) -> SessionSettings:
    names = LoadSettings.__dataclass_fields__
    load_ = {name: value for name, value in given.items() if name in names}
    played = {name: value for name, value in given.items() if name not in names}
    return SessionSettings(load=LoadSettings(**load_), roles=RoleSettings(**played))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model": "no/such/model"}, "no model"),
        ({"model": "missing.safetensors"}, "no file"),
        ({"quantize": "4bit"}, "--quantize is for models from the Hub"),
        ({"lora": ("a.safetensors",)}, "--lora is for models from the Hub"),
        ({"dtype": "float8"}, "'dtype' is 'float8'; give one of"),
        ({"vlm": "gpt-4.1"}, "'gpt-4.1' is not understood"),
        ({"vlm": "openai:gpt-4.1"}, "needs a key"),
        ({"verifier": "http://x/v1"}, "not understood"),
        ({"vlm": SERVER, "budget": "lots"}, "budget"),
        ({"vlm": SERVER, "budget": "0.5"}, "needs a price"),
        ({"votes": 0}, "'votes' is 0"),
        ({"device": "gpu"}, "'gpu' is unknown; use cuda, mps, cpu"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_opened(
    given: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(module, "load_model", _never)
    with pytest.raises(InputError, match=said):
        check(settings(**given))
    with pytest.raises(InputError, match=said), open_session(settings(**given)):
        pass


@pytest.mark.parametrize("name", ["load", "roles", "table"])
def test_settings_of_the_wrong_type_are_refused(name: str) -> None:
    wrong: Any = {name: "mini"}
    with pytest.raises(SettingsError, match=f"setting '{name}' is of type 'str'; give a "):
        SessionSettings(**wrong)


@pytest.mark.parametrize("wrong", ["mini", None, LoadSettings()])
def test_what_is_no_settings_opens_no_session(wrong: Any) -> None:
    for refused in (check, lambda settings: open_session(settings).__enter__()):
        with pytest.raises(SettingsError, match="give SessionSettings"):
            refused(wrong)


def _never(*_: object) -> Any:
    raise AssertionError("weights were loaded")


def test_an_embedded_verifier_reads_no_other_models_pictures(tmp_path: Path) -> None:
    build("sdxl").save_pretrained(tmp_path)
    with pytest.raises(SettingsError, match=r"Stable Diffusion XL.*--vlm"):
        check(settings(model=str(tmp_path)))
    check(settings(model=str(tmp_path), vlm=SERVER), Request("a cat", size=64))
    made = settings(model=str(tmp_path), vlm=SERVER)
    with pytest.raises(SettingsError, match=r"keeps one negative.*'extra' or 'turns'"):
        check(made, Request("a cat", size=64, rule="nag", looks=2))


def test_looks_of_a_named_verifier_are_paid_for_and_so_asked_for() -> None:
    request = Request("two red bananas")
    assert settings().policy(request).looks is None
    assert settings(vlm=SERVER).policy(request).looks == 0
    assert settings(vlm=SERVER).policy(replace(request, looks=2)).looks == 2
    assert settings(vlm=SERVER, verifier="embedded").policy(request).looks is None
    plan = check(settings(vlm=SERVER), request)
    assert plan is not None
    assert plan.template.look_steps == ()


def test_a_session_corrects_one_prompt_after_the_other() -> None:
    model = FakeImageModel()
    session = Session(model, FakeRoles((scored(1), scored(4), scored(4))).roles())
    first = list(session.correct(replace(REQUEST, ranker="source")))
    second = list(session.correct(replace(REQUEST, ranker="source", seed=9)))
    assert [len(first), len(second)] == [2, 1]
    assert session.ranker("paper") is session.ranker("paper")


def test_what_a_session_opened_is_closed_and_is_the_embedded_one() -> None:
    with open_session(SessionSettings()) as session:
        assert session.model.name == "mini"
        attempts = list(session.correct(Request("two red bananas", candidates=0, steps=4)))
    assert attempts[0].generation.image.size == (192, 192)
    assert attempts[0].cost.usage.calls == 0
    assert attempts[0].cost.usage.readings == 2


def test_a_request_or_an_original_of_another_kind_is_refused() -> None:
    session = Session(FakeImageModel(), FakeRoles(()).roles())
    for wrong in ("two red bananas", None):
        with pytest.raises(SettingsError, match="give a Request"):
            session.correct(wrong)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="The original is of type 'str'"):
        session.correct(replace(REQUEST, ranker="source"), original="x.png")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "field", ["scale", "negative_scale", "seed", "steps", "size", "candidates"]
)
@pytest.mark.parametrize("number", [10**5000, -(10**5000), (10**5000,)], ids=["high", "low", "row"])
def test_numbers_that_python_does_not_write_out_are_refused(field: str, number: Any) -> None:
    with pytest.raises(SettingsError, match=f"'{field.replace('_', '-')}' is too long to show"):
        check(SessionSettings(), Request("two red bananas", **{field: number}))


def test_an_original_of_the_wrong_size_is_named_and_not_a_size_that_nobody_gave() -> None:
    with pytest.raises(SettingsError, match="The original, of size 200 x 100 pixels"):
        check(SessionSettings(), Request("two red bananas"), Image.new("RGB", (200, 100)))


def test_the_table_of_servers_reaches_the_roles() -> None:
    made = replace(settings(vlm=SERVER), table=read_table({"tries": 1}))
    assert made.vlm.table.tries == 1


STARS = Request("two red bananas")


@pytest.mark.parametrize("name", ["/nowhere/at/all", "./nowhere", "a/b/c", "../x", "x y", "", " "])
def test_a_local_model_whose_folder_is_gone_is_refused_at_once(name: str) -> None:
    with pytest.raises(SettingsError, match="There is no folder"):
        check(SessionSettings(roles=RoleSettings(vlm=f"local:{name}")), STARS)


def test_a_local_model_of_the_hub_or_of_a_folder_is_not(tmp_path: Path) -> None:
    for name in ("owner/name-2.5", "gpt2", str(tmp_path)):
        assert check(SessionSettings(roles=RoleSettings(vlm=f"local:{name}")), STARS)


def test_a_weight_that_the_models_own_rule_does_not_take_is_refused() -> None:
    request = replace(STARS, negative_scale=2.0)
    with pytest.raises(SettingsError, match="has no effect"):
        check_request(SessionSettings(), request, FAMILIES["sdxl"])
    assert check(SessionSettings(), replace(request, rule="extra"))


@pytest.mark.parametrize(
    ("roles", "says"),
    [
        ({"votes": 3}, "'votes' is 3"),
        ({"questions": "single"}, "'questions' is 'single'"),
        ({"budget": "9 calls"}, "'budget' is '9 calls'"),
        ({"votes": 3, "vlm": "openai:x", "verifier": "embedded"}, "'votes' is 3"),
    ],
)
def test_how_models_are_asked_is_refused_where_none_is(
    roles: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a-key")
    with pytest.raises(SettingsError, match=says):
        check(SessionSettings(roles=RoleSettings(**roles)), STARS)
    asked = RoleSettings(**roles | {"vlm": "openai:x", "verifier": None})
    assert check(SessionSettings(roles=asked), STARS)


def test_an_unknown_ranker_is_one_sentence_wherever_it_stands() -> None:
    for name in ("mini", "http://127.0.0.1:9/v1#model"):
        settings = SessionSettings(
            load=LoadSettings(model=name), roles=RoleSettings(vlm="http://127.0.0.1:9/v1#model")
        )
        with pytest.raises(SettingsError, match=r"'ranker' is 'x'; give one of salient"):
            check(settings, replace(STARS, ranker="x"))


def test_a_device_that_is_not_there_is_refused_before_anyone_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(build_roles, "roles", lambda *_: pytest.fail("somebody was asked"))
    settings = SessionSettings(load=LoadSettings(device="cuda:99"))
    with pytest.raises(ModelError, match="'cuda:99' cannot be used"), open_session(settings):
        pass
