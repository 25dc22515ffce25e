"""OpenAI's own client, unchanged."""

from __future__ import annotations

import json
import socket
from base64 import b64decode
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
import pytest
from PIL import Image

from npcorrect.records import Request
from npcorrect.result import load_result
from npcorrect.serve.security import Access
from npcorrect.serve.service import Limits
from npcorrect.serve.store import open_store
from tests.serve.asking import PROMPT, kept, parsed
from tests.serve.fakes import FakeServer, client_of, listening, redrawing, served
from tests.timing import until

SOURCE = {"ranker": "source"}


@pytest.fixture
def images(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as images:
        yield images


def text(encoded: str | None) -> str:
    """The parameters in a picture."""
    assert encoded
    return str(Image.open(BytesIO(b64decode(encoded))).info["parameters"])


def test_the_corrected_picture_comes_as_base64(images: openai.OpenAI) -> None:
    answer = images.images.generate(prompt=PROMPT, model="fake", extra_body={**SOURCE, "seed": 4})
    assert answer.data
    (image,) = answer.data
    assert "Negative prompt: <b>five</b> apples" in text(image.b64_json)
    assert "Seed: 4" in text(image.b64_json)
    assert image.model_extra
    assert image.model_extra["accepted"] is True


def test_several_pictures_have_seeds_of_their_own(images: openai.OpenAI) -> None:
    answer = images.images.generate(prompt=PROMPT, n=2, size="16x24")
    assert answer.data
    seeds = [text(image.b64_json).partition("Seed: ")[2].split(",")[0] for image in answer.data]
    assert len(set(seeds)) == 2
    assert "Size: 16x24" in text(answer.data[0].b64_json)


def test_an_address_leads_to_the_picture(images: openai.OpenAI) -> None:
    answer = images.images.generate(prompt=PROMPT, response_format="url")
    assert answer.data
    assert answer.data[0].url
    assert httpx2.get(answer.data[0].url).content.startswith(b"\x89PNG")


def test_attempts_arrive_as_partial_images(images: openai.OpenAI) -> None:
    stream = images.images.generate(prompt=PROMPT, stream=True, partial_images=3, extra_body=SOURCE)
    first, second, last = list(stream)
    assert first.type == second.type == "image_generation.partial_image"
    assert (first.partial_image_index, second.partial_image_index) == (0, 1)
    assert last.type == "image_generation.completed"
    assert last.b64_json == second.b64_json != first.b64_json
    assert last.size == "16x16"


def test_without_partial_images_the_last_comes_alone(images: openai.OpenAI) -> None:
    (last,) = list(images.images.generate(prompt=PROMPT, stream=True))
    assert last.type == "image_generation.completed"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"prompt": "a lamp"}, "speaks of lamps"),
        ({"prompt": PROMPT, "model": "dall-e-3"}, "no model 'dall-e-3' here"),
        ({"prompt": PROMPT, "size": "huge"}, "'size' cannot be used"),
        ({"prompt": PROMPT, "size": "17x16"}, "17"),
        ({"prompt": PROMPT, "n": 0}, "'n' cannot be used"),
        ({"prompt": PROMPT, "n": 2, "stream": True}, "give 1"),
        ({"prompt": PROMPT, "output_format": "webp"}, "'output_format' cannot be used"),
        ({"prompt": PROMPT, "extra_body": {"stepps": 3}}, "did you mean steps"),
    ],
)
def test_errors_are_the_clients_own(
    images: openai.OpenAI, options: dict[str, object], says: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=says):
        images.images.generate(**options)  # type: ignore[call-overload]


def test_the_models_are_listed(images: openai.OpenAI) -> None:
    assert [model.id for model in images.models.list()] == ["fake"]


def test_the_key_is_the_token(server: FakeServer) -> None:
    server.access = Access(token="a token of some length")
    with listening(server) as address:
        for key, accepted in (("wrong", False), ("a token of some length", True)):
            with openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0) as images:
                if accepted:
                    assert images.images.generate(prompt=PROMPT).data
                else:
                    with pytest.raises(openai.AuthenticationError, match="token"):
                        images.images.generate(prompt=PROMPT)


@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_stops_the_job(server: FakeServer, stream: bool) -> None:
    server.holds = redrawing
    body = json.dumps({"prompt": PROMPT, "stream": stream})
    with listening(server) as address, client_of(address) as client:
        parts = urlsplit(address)
        head = f"POST /v1/images/generations HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection((parts.hostname, parts.port)) as connection:
            connection.sendall((head + body).encode())
            (job,) = until(lambda: client.get("/v1/jobs").json()["jobs"])
        assert kept(client, job["id"])[-1].body["ended"] == "stopped"


def test_a_job_that_fails_is_an_error_in_the_stream(server: FakeServer) -> None:
    server.holds = redrawing
    with listening(server) as address, client_of(address) as client:
        body = {"prompt": PROMPT, "stream": True}
        with client.stream("POST", "/v1/images/generations", json=body) as answer:
            with client_of(address) as other:
                (job,) = until(lambda: other.get("/v1/jobs").json()["jobs"])
                other.delete(f"/v1/jobs/{job['id']}")
            (told,) = parsed(answer.iter_lines())
    assert told.kind == "error"
    assert "stopped" in json.dumps(told.body)


def png(size: tuple[int, int] = (16, 16), colour: str = "green") -> tuple[str, bytes]:
    """A picture as the client sends it."""
    file = BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return "picture.png", file.getvalue()


def test_a_picture_that_exists_is_corrected(
    images: openai.OpenAI, address: str, server: FakeServer
) -> None:
    answer = images.images.edit(image=png(), prompt=PROMPT, extra_body={**SOURCE, "seed": 4})
    assert answer.data
    assert answer.data[0].model_extra
    job = answer.data[0].model_extra["job"]
    assert "Negative prompt: <b>five</b> apples" in text(answer.data[0].b64_json)
    result = load_result(server.folder / job)
    original, redrawing = result.attempts
    assert original.generation.image.getpixel((8, 8)) == (0, 128, 0)
    assert (original.cost.images, redrawing.cost.images) == (0, 1)
    assert (result.request.seed, result.request.width, result.request.height) == (4, 16, 16)


def test_an_accepted_picture_comes_back_as_it_was(server: FakeServer) -> None:
    server.good = 0
    with (
        listening(server) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as images,
    ):
        answer = images.images.edit(image=[png()], prompt=PROMPT, n=2)
        assert answer.data
        for image in answer.data:
            assert image.b64_json
            picture = Image.open(BytesIO(b64decode(image.b64_json)))
            assert picture.getpixel((8, 8)) == (0, 128, 0)


def test_attempts_of_a_correction_arrive_as_partial_images(images: openai.OpenAI) -> None:
    told = list(
        images.images.edit(
            image=png(), prompt=PROMPT, stream=True, partial_images=1, extra_body=SOURCE
        )
    )
    kinds = [event.type for event in told]
    assert kinds == ["image_edit.partial_image", "image_edit.completed"]
    assert told[0].b64_json != told[1].b64_json


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"image": ("x.png", b"no picture")}, "'image' cannot be read"),
        ({"image": [png(), png()]}, "There are 2 pictures"),
        ({"mask": png()}, "leave 'mask' out"),
        ({"prompt": "a lamp"}, "speaks of lamps"),
        ({"n": 0}, "'n' cannot be used"),
        ({"image": png((17, 16))}, "17"),
        ({"image": png((16, 3000))}, "3000 is too long"),
        ({"extra_body": {"seed": "x"}}, "'seed' is 'x'"),
        ({"extra_body": {"stepps": 3}}, "did you mean steps"),
        ({"model": "gpt-image-1"}, "no model 'gpt-image-1' here"),
    ],
)
def test_what_cannot_be_corrected_is_refused(
    images: openai.OpenAI, options: dict[str, object], says: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=says):
        images.images.edit(**{"image": png(), "prompt": PROMPT} | options)  # type: ignore[call-overload]


def test_a_form_without_a_picture_is_refused(address: str) -> None:
    answer = httpx2.post(f"{address}/v1/images/edits", data={"prompt": PROMPT})
    assert (answer.status_code, "0 pictures" in answer.text) == (400, True)


def test_only_the_endpoint_of_pictures_takes_large_bodies(server: FakeServer) -> None:
    server.limits = Limits(body=1000, upload=100_000)
    with listening(server) as address:
        for size, status in ((50_000, 400), (200_000, 413)):
            files = {"image": ("x.png", b"x" * size)}
            answer = httpx2.post(f"{address}/v1/images/edits", data={"prompt": PROMPT}, files=files)
            assert answer.status_code == status
        assert httpx2.post(f"{address}/v1/jobs", content=b"x" * 50_000).status_code == 413


def test_a_picture_waits_through_the_end_of_the_server(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        (job,) = store.add([Request(PROMPT, ranker="source")], 1, Image.new("RGB", (16, 16)))
        assert store.claim()
    with served(FakeServer(tmp_path)) as client:
        assert kept(client, job.id)[-1].body["ended"] == "accepted"
    assert load_result(tmp_path / job.id).attempts[0].cost.images == 0


@pytest.mark.parametrize("name", ["negative-prompt", "negative_prompt"])
@pytest.mark.parametrize("text", ["5", "null", "true", "0.5"])
def test_a_text_of_a_form_stays_one_by_either_name(name: str, text: str, address: str) -> None:
    form = {"prompt": PROMPT, "candidates": "0", name: text}
    answer = httpx2.post(f"{address}/v1/images/edits", data=form, files={"image": png()})
    job = answer.json()["data"][0]["job"]
    settings = httpx2.get(f"{address}/v1/jobs/{job}").json()["settings"]
    assert settings["negative-prompt"] == text


def test_what_a_form_says_twice_is_refused(address: str) -> None:
    def sent(form: dict[str, Any], *pictures: str) -> str:
        files = [(name, png()) for name in pictures]
        answer = httpx2.post(f"{address}/v1/images/edits", data={"prompt": PROMPT} | form,
                             files=files)  # fmt: skip
        assert answer.status_code == 400
        return str(answer.json()["error"]["message"])

    assert "There are 2 pictures" in sent({}, "image", "image")
    assert "There are 2 pictures" in sent({}, "image", "image[]")
    assert "'seed' is ['1', '2']" in sent({"seed": ["1", "2"]}, "image")
