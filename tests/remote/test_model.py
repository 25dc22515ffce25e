"""Models on a server: what is asked, what is found out, and what goes wrong."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from threading import Event
from typing import Any

import pytest

from npcorrect.diffusion.base import Cancelled, Watch
from npcorrect.errors import ModelError, SettingsError
from npcorrect.records import Generation, Request
from npcorrect.remote import model as remote
from npcorrect.remote.model import ServerModel
from npcorrect.vlm import addresses
from npcorrect.vlm.cache import AnswerMemory
from npcorrect.vlm.settings import RetryPolicy
from tests.remote.servers import (
    SIDE,
    Body,
    PictureServer,
    Reply,
    drawing_server,
    refusal,
    sent_image,
)

QUICK = RetryPolicy(tries=2, timeout=60.0, first_wait=0.001, longest_wait=0.01)
LIKE_OPENAI: dict[str, Any] = {"openai": True, "names": {}, "strict": True}
LIKE_DIFFUSERS: dict[str, Any] = {
    "openai": True,
    "names": {
        "seed": "seed",
        "negative_prompt": "negative_prompt",
        "num_inference_steps": "steps",
        "guidance_scale": "cfg_scale",
        "strength": "denoising_strength",
    },
}


@contextmanager
def connected(server: PictureServer, key: str = "", **more: Any) -> Iterator[ServerModel]:
    """A model on the server."""
    name = more.pop("name", server.name)
    found = addresses.image_server(name)
    with closing(ServerModel(name, found, key, retry_policy=QUICK, **more)) as model:
        model.connect()
        server.asked.clear()
        server.headers.clear()
        yield model


def one(model: ServerModel, negative: str | None = None, **changes: Any) -> Generation:
    made = model.plan(Request("three red apples", **changes))
    return model.draw([made.drawing(0, negative)])[0]


def test_a1111_is_asked_for_everything_that_a_drawing_says() -> None:
    with drawing_server() as server, connected(server) as model:
        able = model.capabilities
        assert able.sized
        assert able.restarts
        assert able.size == (SIDE, SIDE)
        assert {*able.names} == {"seed", "negative", "steps", "scale", "strength"}
        drawn = one(model, "four apples", seed=7, steps=9, scale=3.0, width=64, height=16)
        assert server.asked == [
            (
                "/sdapi/v1/txt2img",
                {
                    "prompt": "three red apples",
                    "negative_prompt": "four apples",
                    "seed": 7,
                    "steps": 9,
                    "cfg_scale": 3.0,
                    "width": 64,
                    "height": 16,
                },
            )
        ]
    assert drawn.image.size == (64, 16)
    assert (drawn.evaluations, drawn.looks, drawn.drawing.window) == (0, 0, (0, 9))


def test_a_standing_negative_is_asked_for_with_and_without_ours() -> None:
    with drawing_server() as server, connected(server) as model:
        one(model, negative_prompt="lowres")
        one(model, "four apples", negative_prompt="lowres")
        asked = [body["negative_prompt"] for _, body in server.asked]
    assert asked == ["lowres", "lowres, four apples"]


def test_a_redrawing_begins_with_the_pixels_of_the_original() -> None:
    with drawing_server() as server, connected(server) as model:
        made = model.plan(Request("three red apples", steps=10, strength=0.7))
        (first,) = model.draw([made.drawing(0, None)])
        server.asked.clear()
        again = model.draw([made.drawing(1, "four apples", first.origin)])[0]
        ((path, body),) = server.asked
    assert path == "/sdapi/v1/img2img"
    assert body["denoising_strength"] == pytest.approx(0.7)
    assert sent_image(body).tobytes() == first.image.tobytes()
    assert again.start_step == 3


def test_names_of_parameters_are_found_out() -> None:
    with drawing_server(**LIKE_DIFFUSERS) as server, connected(server) as model:
        assert model.capabilities.names == {
            "seed": "seed",
            "steps": "num_inference_steps",
            "scale": "guidance_scale",
            "negative": "negative_prompt",
            "strength": "strength",
        }
        made = model.plan(Request("three red apples", steps=10, strength=0.5))
        (first,) = model.draw([made.drawing(0, None)])
        model.draw([made.drawing(1, "four apples", first.origin)])
        path, body = server.asked[-1]
    assert path == "/v1/images/edits"
    assert (body["model"], body["n"], body["strength"]) == ("gpt-image-1", "1", "0.5")
    assert sent_image(body).tobytes() == first.image.tobytes()


def test_openais_own_shape_takes_no_negative_and_is_paid_for_twice() -> None:
    with drawing_server(**LIKE_OPENAI) as server:
        server.sizes = (SIDE,)
        paid: list[Body] = []

        def note(path: str, body: Body) -> None:
            if not {"seed", "response_format"} & body.keys():
                paid.append(body)

        server.fault = note
        with connected(server) as model:
            assert model.capabilities.names == {}
            assert len(paid) == 2  # with a size and without
            with pytest.raises(SettingsError, match=r"no seed.*give 0 candidates"):
                model.plan(Request("three red apples"))
            one(model, candidates=0)
            ((_, body),) = server.asked
    assert body == {
        "model": "gpt-image-1", "prompt": "three red apples", "n": 1, "size": "32x32",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("lacking", "request_", "says"),
    [
        ("steps", {"steps": 5}, "no number of steps: leave the steps out"),
        ("cfg_scale", {"scale": 5.0}, "no guidance scale: leave the scale out"),
        ("denoising_strength", {"strength": 0.5}, "give a strength of 1"),
        ("negative_prompt", {}, "no negative prompt: .* give 0 candidates"),
        (
            "negative_prompt",
            {"candidates": 0, "negative_prompt": "lowres"},
            "no negative prompt: leave the negative prompt out",
        ),
        ("seed", {"candidates": 0, "seed": 3}, "no seed: leave the seed out"),
    ],
)
def test_what_is_silently_ignored_is_refused(
    lacking: str, request_: dict[str, Any], says: str
) -> None:
    with drawing_server() as server:
        server.names = {name: own for name, own in server.names.items() if name != lacking}
        with connected(server) as model:
            with pytest.raises(SettingsError, match=says):
                model.plan(Request("three red apples", **request_))
            assert not server.asked


def test_steps_and_scale_that_nobody_takes_are_not_made_up() -> None:
    with drawing_server() as server:
        server.names = {"seed": "seed", "negative_prompt": "negative_prompt"}
        with connected(server) as model:
            drawing = one(model, "four apples").drawing
            assert not {"steps", "cfg_scale"} & server.drawn[0].keys()
    assert (drawing.num_inference_steps, drawing.true_cfg_scale) == (1, 0.0)


def test_slightly_unsteady_seeds_are_seeds() -> None:
    with drawing_server() as server:
        plain, count = server.paint, [0]

        def shaken(acting: Any, size: tuple[int, int]) -> Any:
            count[0] += 1
            picture = plain(acting, size)
            picture.putpixel((0, 0), (count[0] % 200, 0, 0))
            return picture

        server.paint = shaken
        with connected(server) as model:
            assert {"seed", "negative"} <= model.capabilities.names.keys()


def test_what_a_server_can_is_remembered_by_server_model_and_key() -> None:
    memory = AnswerMemory()
    with drawing_server() as server:
        with connected(server, memory=memory):
            pass
        spelled = f"{server.url.replace('127.0.0.1', 'LOCALHOST')}/sdapi/v1/"
        found = addresses.image_server(spelled)
        with closing(ServerModel(spelled, found, retry_policy=QUICK, memory=memory)) as model:
            model.connect()
        assert server.drawn == []
        with closing(
            ServerModel(spelled, found, "other-key-123", retry_policy=QUICK, memory=memory)
        ) as model:
            model.connect()
        assert server.drawn != []


@pytest.mark.parametrize("kept", ["{", '{"names": {"seed": "; rm"}, "size": [32, 32]}', "null"])
def test_what_is_remembered_is_checked(kept: str) -> None:
    class Planted(AnswerMemory):
        def recall(self, key: str) -> str | None:
            return kept

    with drawing_server() as server, connected(server, memory=Planted()) as model:
        assert model.capabilities.takes("negative")


def test_a_named_model_is_asked_for_and_must_be_there() -> None:
    with drawing_server() as server:
        with connected(server, name=f"{server.url}#other") as model:
            one(model)
            assert server.drawn[0]["override_settings"] == {"sd_model_checkpoint": "other"}
        with (
            pytest.raises(ModelError, match=r"no model 'mine'; it has dream\.safetensors"),
            connected(server, name=f"{server.url}#mine"),
        ):
            pass


def page(path: str, body: Body) -> Reply:
    return Reply(b"<html>It works!</html>")


def later(reply: Reply) -> Any:
    """A fault of everything but the list of models and the options."""
    return lambda path, body: reply if body else None


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (page, "not as A1111 does; start A1111 with --api"),
        (lambda path, body: refusal("Not Found", 404), r"no API of A1111 \(404"),
        (lambda path, body: refusal("no", 405), r"takes no pictures there \(405\); start A1111"),
        (
            lambda path, body: Reply("", 302, {"location": "http://127.0.0.1:1/elsewhere"}),
            "takes no pictures there",
        ),
        (lambda path, body: refusal("busy", 503), "gave no answer in 2 tries"),
        (later(Reply({"images": []})), "not with a picture"),
        (later(Reply({"images": ["!!!"]})), "the picture is no base64"),
        (later(Reply({"images": [b64encode(b"%!PS-Adobe").decode()]})), "no PNG, JPEG or WebP"),
        (later(Reply({"images": [7]})), "no text where the picture"),
        (later(Reply([1])), "no JSON with a list of 'images'"),
        (later(Reply(b"\xff\xfe")), "not with a picture"),
        (later(refusal("CUDA out of memory", 422)), "CUDA out of memory"),
    ],
)
def test_a_server_that_draws_nothing_is_one_sentence_and_is_not_remembered(
    fault: Any, says: str
) -> None:
    memory = AnswerMemory()
    with drawing_server(fault=fault) as server:
        with pytest.raises(ModelError, match=says) as caught, connected(server, memory=memory):
            pass
        assert "\n" not in str(caught.value)
        assert not memory._texts
        assert all("elsewhere" not in path for path, _ in server.asked)


def test_an_address_in_place_of_a_picture_is_not_fetched() -> None:
    reply = Reply({"data": [{"url": "http://127.0.0.1:1/secret.png"}]})
    with (
        drawing_server(openai=True, fault=lambda path, body: reply) as server,
        pytest.raises(ModelError, match="gives an address in place of a picture"),
        connected(server),
    ):
        pass


def test_a_huge_reply_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "LARGEST", 2**20)
    with (
        drawing_server(fault=later(Reply(b"[" * 2**21))) as server,
        pytest.raises(ModelError, match="sent more than 1 MB"),
        connected(server),
    ):
        pass


def test_a_server_that_is_not_there_is_one_sentence() -> None:
    with drawing_server() as server:
        gone = server.name
    found = addresses.image_server(gone)
    with (
        closing(ServerModel(gone, found, retry_policy=QUICK)) as model,
        pytest.raises(ModelError, match=r"cannot be reached.*is it running"),
    ):
        model.connect()


@pytest.mark.parametrize(
    ("openai", "key", "header"),
    [
        (False, "me:a-long-password", "Basic bWU6YS1sb25nLXBhc3N3b3Jk"),
        (False, "a-long-token", "Bearer a-long-token"),
        (True, "a-long-token", "Bearer a-long-token"),
    ],
)
def test_a_key_is_sent_and_never_shown(openai: bool, key: str, header: str) -> None:
    with drawing_server(openai=openai, key=header) as server:
        with connected(server, key) as model:
            one(model)
            assert server.headers[0]["authorization"] == header
        server.key = "another"
        with pytest.raises(ModelError, match=r"refused the key \(401\)") as caught:
            connected(server, key).__enter__()
        server.key, server.fault = header, lambda path, body: refusal(f"no {header}", 400)
        with pytest.raises(ModelError, match=r"no \w+ \[key\]") as caught:
            connected(server, key).__enter__()
    assert header.split()[1] not in str(caught.value)
    assert key not in str(caught.value)


def test_an_outage_while_drawing_is_one_sentence() -> None:
    with drawing_server() as server, connected(server) as model:
        server.fault = lambda path, body: refusal("restarting", 502)
        with pytest.raises(ModelError, match=r"gave no answer in 2 tries \(502: restarting\)"):
            one(model)
        server.fault = lambda path, body: None
        assert one(model).image.size == (SIDE, SIDE)


def test_a_picture_of_another_size_is_refused() -> None:
    with drawing_server() as server, connected(server) as model:
        plain = server.paint
        server.paint = lambda acting, size: plain(acting, (16, 16))
        with pytest.raises(ModelError, match="drew 16x16 pixels where 32x32 were asked"):
            one(model)


def test_pictures_of_a_batch_are_asked_for_together_and_come_in_order() -> None:
    with drawing_server() as server, connected(server) as model:
        made = model.plan(Request("three red apples"))
        negatives = ["four apples", "five apples", "two apples"]
        batch = model.draw([made.drawing(n, text) for n, text in enumerate(negatives, 1)])
        single = [one(model, text) for text in negatives]
        assert len(server.drawn) == 6
    assert [g.image.tobytes() for g in batch] == [g.image.tobytes() for g in single]


def test_a_cancelled_drawing_is_not_waited_for() -> None:
    with drawing_server() as server, connected(server) as model:
        drawing = model.plan(Request("three red apples")).drawing(0, None)
        checks, cancelled = iter([False, True]), Event()
        server.fault = lambda path, body: None if cancelled.wait(60) else refusal("too late")
        with pytest.raises(Cancelled):
            model.draw([drawing], Watch(cancelled=lambda: next(checks)))
        cancelled.set()


def test_another_models_origin_is_refused() -> None:
    with drawing_server() as server, connected(server) as model:
        made = model.plan(Request("three red apples", strength=0.5))
        origin = model.origin(one(model).image, made.template)
        assert origin is not None
        foreign = replace(made.template, origin=replace(origin, model="other"))
        with pytest.raises(ModelError, match="is of 'other'"):
            model.draw([foreign])
