"""A client of A1111's API, unchanged."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx2
import pytest
import webuiapi

from npcorrect.serve.security import Access
from tests.serve.asking import PROMPT, submit
from tests.serve.fakes import FakeServer, client_of, listening
from tests.timing import until

SIZE = {"width": 16, "height": 16}


@pytest.fixture
def api(address: str) -> webuiapi.WebUIApi:
    return webuiapi.WebUIApi(port=urlsplit(address).port)


def test_the_corrected_pictures_come_back(api: webuiapi.WebUIApi) -> None:
    result = api.txt2img(
        prompt=PROMPT,
        seed=5,
        steps=6,
        cfg_scale=3.0,
        batch_size=2,
        negative_prompt="frames",
        **SIZE,
    )
    assert len(result.images) == 2
    parameters = result.images[0].info["parameters"]
    assert "Steps: 6, CFG scale: 3.0, Seed: 5, Size: 16x16" in parameters
    assert "\nNegative prompt: frames" in parameters
    assert result.info["accepted"] == [True, True]
    assert result.info["all_seeds"][0] == 5
    assert result.info["negative_prompt"] == "frames"
    assert "negative_prompt" not in result.info["ignored"]
    plain = api.txt2img(prompt=PROMPT, seed=5, negative_prompt="", **SIZE)
    assert "Negative prompt: frames" not in plain.images[0].info["parameters"]


def test_a_seed_of_minus_one_is_a_random_one(api: webuiapi.WebUIApi) -> None:
    seeds = [api.txt2img(prompt=PROMPT, **SIZE).info["seed"] for _ in range(2)]
    assert seeds[0] != seeds[1]


def test_what_cannot_be_drawn_is_refused(api: webuiapi.WebUIApi) -> None:
    with pytest.raises(RuntimeError, match="speaks of lamps"):
        api.txt2img(prompt="a lamp", **SIZE)


def test_a_client_finds_what_it_looks_for(api: webuiapi.WebUIApi) -> None:
    assert api.util_get_model_names() == ["fake"]
    assert api.util_get_current_model() == "fake"
    assert api.get_options()["sd_model_checkpoint"] == "fake"
    assert api.get_samplers()[0]["name"]
    assert api.get_schedulers()[0]["name"]
    assert api.get_upscalers() == api.get_latent_upscale_modes() == api.get_sd_vae() == []
    assert api.set_options({"sd_model_checkpoint": "fake"}) is None
    assert "no model" in api.set_options({"sd_model_checkpoint": "other"})["error"]["message"]
    api.util_wait_for_ready()


def test_progress_is_shown_and_a_job_interrupted(server: FakeServer) -> None:
    server.holds = lambda drawing, step: step == 4
    with listening(server) as address, client_of(address) as client:
        api = webuiapi.WebUIApi(port=urlsplit(address).port)
        job = submit(client)
        until(lambda: api.get_progress()["progress"] == 1.0)
        assert api.get_progress()["state"]["job_count"] == 1
        api.interrupt()
        assert client.get(f"/v1/jobs/{job}").json()["ended"] == "stopped"


def test_the_token_is_the_password(server: FakeServer) -> None:
    server.access = Access(token="a token of some length")
    with listening(server) as address:
        api = webuiapi.WebUIApi(
            port=urlsplit(address).port, username="anyone", password=server.access.token
        )
        assert api.util_get_model_names() == ["fake"]


def test_it_is_not_there_unless_asked_for(server: FakeServer) -> None:
    server.a1111 = False
    with listening(server) as address:
        assert httpx2.get(f"{address}/sdapi/v1/options").status_code == 404
