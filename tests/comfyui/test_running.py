"""The pack in a running ComfyUI, over HTTP: corrections equal to ours, and guiders to its own.

``NPC_COMFYUI`` names ComfyUI's folder and ``NPC_COMFYUI_PYTHON`` the Python that runs it; without
them everything here is skipped.
"""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import npcorrect
from npcorrect import Attempt, Request, Session, SessionSettings, open_session

FOLDER = os.environ.get("NPC_COMFYUI", "")
PYTHON = os.environ.get("NPC_COMFYUI_PYTHON", "")
REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    not (FOLDER and PYTHON), reason="NPC_COMFYUI and NPC_COMFYUI_PYTHON name no ComfyUI"
)
EXAMPLES = sorted((REPOSITORY / "comfyui" / "example_workflows").glob("*.json"))
Graph = dict[str, dict[str, Any]]
FAILING = [
    ("a smaller cat and a smaller dog", 51),
    ("a larger bus and a larger cup", 63),
]
"""Prompts that contradict themselves, so that no picture of them is right, and seeds."""
LOOKING: dict[str, Any] = {"rule": "turns", "looks": 2, "strength": 1.0, "rewinds": 1}
MOMENT = 5.0
"""Seconds: far less than what is cancelled would take, and enough for a busy machine."""
LISTENER = """
import aiohttp, asyncio, json, sys
async def main():
    async with aiohttp.ClientSession() as session, session.ws_connect(sys.argv[1]) as socket:
        print(json.dumps({"type": "connected"}), flush=True)
        async for message in socket:
            if message.type == aiohttp.WSMsgType.TEXT:
                print(message.data, flush=True)
            else:
                print(json.dumps({"type": "preview", "bytes": len(message.data)}), flush=True)
asyncio.run(main())
"""


@dataclass(frozen=True)
class Server:
    """A ComfyUI that runs, and the folder that it writes to."""

    address: str
    base: Path

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=60) as answer:
            return answer.read()

    def post(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(
            f"http://{self.address}{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or "null")
        except urllib.error.HTTPError as error:
            return json.loads(error.read())

    def queue(self, graph: Graph, client: str = "test") -> str:
        answer = self.post("/prompt", {"prompt": graph, "client_id": client})
        assert "prompt_id" in answer, answer
        return str(answer["prompt_id"])

    def wait(self, prompt: str) -> Any:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            history = json.loads(self.get(f"/history/{prompt}"))
            if history:
                return history[prompt]
            time.sleep(0.05)
        raise TimeoutError(prompt)

    def run(self, graph: Graph) -> Any:
        done = self.wait(self.queue(graph))
        assert done["status"]["status_str"] == "success", done["status"]
        return done["outputs"]

    def picture(self, reference: dict[str, str]) -> Any:
        whole = Image.open(io.BytesIO(self.get("/view?" + urlencode(reference))))
        return np.array(whole.convert("RGB")).astype(int)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    base = tmp_path_factory.mktemp("comfyui")
    (base / "custom_nodes").mkdir()
    (base / "user").mkdir()
    (base / "custom_nodes" / "npcorrect").symlink_to(REPOSITORY / "comfyui")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [PYTHON, "main.py", "--cpu", "--use-pytorch-cross-attention", "--port", str(port)]
    command += [
        "--disable-api-nodes",
        "--base-directory",
        str(base),
        "--database-url",
        "sqlite:///:memory:",
    ]
    environment = os.environ | {
        "PYTHONPATH": str(Path(npcorrect.__file__).parents[1]),
        "NPC_VLM_KEY": "secret-of-the-environment",
    }
    with (base / "log.txt").open("w") as log:
        process = subprocess.Popen(command, cwd=FOLDER, env=environment, stdout=log, stderr=log)
    running = Server(f"127.0.0.1:{port}", base)
    try:
        _until_ready(running, process)
        yield running
    finally:
        process.terminate()
        process.wait(30)


def _until_ready(server: Server, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        try:
            assert b"NPCCorrect" in server.get("/object_info/NPCCorrect")
        except OSError:
            assert process.poll() is None, (server.base / "log.txt").read_text()[-3000:]
            time.sleep(0.2)
        else:
            return
    raise TimeoutError("ComfyUI does not start")


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with open_session(SessionSettings()) as opened:
        yield opened


def correcting(prompt: str, seed: int = 0, vlm: str = "", **inputs: Any) -> Graph:
    """A graph that corrects a prompt with the embedded model."""
    return {
        "model": {"class_type": "NPCMiniatureModel", "inputs": {}},
        "roles": {"class_type": "NPCRoles", "inputs": {"vlm": vlm}},
        "latent": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 192, "height": 192, "batch_size": 1},
        },
        "correct": {
            "class_type": "NPCCorrect",
            "inputs": {
                "model": ["model", 0],
                "clip": ["model", 1],
                "vae": ["model", 2],
                "roles": ["roles", 0],
                "latent_image": ["latent", 0],
                "prompt": prompt,
                "seed": seed,
                "steps": -1,
                "cfg": -1,
                "redrawings": 5,
                "sampler_name": "euler",
                "scheduler": "simple",
            }
            | inputs,
        },
        "report": {"class_type": "PreviewAny", "inputs": {"source": ["correct", 6]}},
    }


def facts(attempt: dict[str, Any]) -> Any:
    generation = attempt["generation"]
    names = ("seed", "negative_prompt", "steering", "looks", "rewinds", "evaluations", "start_step")
    return [generation[name] for name in names], attempt["verdict"]["accepted"]


def our_facts(attempt: Attempt) -> Any:
    drawn = attempt.generation
    steering = [list(change) for change in drawn.steering]
    return [
        drawn.drawing.seed, drawn.drawing.negative_prompt, steering, drawn.looks, drawn.rewinds,
        drawn.evaluations, drawn.start_step,
    ], attempt.verdict.accepted  # fmt: skip


@pytest.mark.parametrize("settings", [{}, LOOKING])
@pytest.mark.parametrize(("prompt", "seed"), FAILING)
def test_a_whole_correction_equals_ours(
    server: Server, session: Session, prompt: str, seed: int, settings: dict[str, Any]
) -> None:
    correction = session.correct(Request(prompt, seed=seed, **settings))
    attempts = list(correction)
    outputs = server.run(correcting(prompt, seed, **settings))
    report = json.loads(outputs["report"]["text"][0])
    assert len(attempts) > 1
    assert [facts(attempt) for attempt in report["attempts"]] == list(map(our_facts, attempts))
    assert report["ended"] == correction.ended
    for attempt, shown in zip(attempts, outputs["correct"]["images"], strict=True):
        difference = np.array(attempt.generation.image).astype(int) - server.picture(shown)
        assert np.abs(difference).max() <= 1


def sampled(guider: dict[str, Any], sampler: str) -> Graph:
    """A graph that samples with a guider and saves the latent, bit by bit."""
    texts = {"positive": "two red bananas", "negative": "three blue clocks", "empty": ""}
    encoded = {
        name: {"class_type": "CLIPTextEncode", "inputs": {"clip": ["model", 1], "text": text}}
        for name, text in texts.items()
    }
    drawing = correcting("")
    return {
        "model": drawing["model"],
        "latent": drawing["latent"],
        **encoded,
        "guider": guider,
        "noise": {"class_type": "RandomNoise", "inputs": {"noise_seed": 5}},
        "sampler": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": sampler}},
        "sigmas": {
            "class_type": "BasicScheduler",
            "inputs": {
                "model": ["model", 0], "scheduler": "simple", "steps": 6, "denoise": 1.0
            },
        },
        "sample": {
            "class_type": "SamplerCustomAdvanced",
            "inputs": {
                "noise": ["noise", 0], "guider": ["guider", 0], "sampler": ["sampler", 0],
                "sigmas": ["sigmas", 0], "latent_image": ["latent", 0],
            },
        },
        "save": {
            "class_type": "SaveLatent",
            "inputs": {"samples": ["sample", 0], "filename_prefix": "latent"},
        },
    }  # fmt: skip


def latent_of(server: Server, graph: Graph) -> Any:
    saved = server.run(graph)["save"]["latents"][0]
    return load_file(server.base / "output" / saved["subfolder"] / saved["filename"])[
        "latent_tensor"
    ]


def scheduled(start: float, stop: float, **inputs: Any) -> dict[str, Any]:
    common = {
        "model": ["model", 0], "positive": ["positive", 0], "negative": ["negative", 0],
        "cfg": 3.5, "start": start, "stop": stop, "afterwards": "alone",
    }  # fmt: skip
    return {"class_type": "NPCNegativeSchedule", "inputs": common | inputs}


CFG = {
    "class_type": "CFGGuider",
    "inputs": {
        "model": ["model", 0], "positive": ["positive", 0], "negative": ["negative", 0], "cfg": 3.5
    },
}  # fmt: skip
BASIC = {
    "class_type": "BasicGuider",
    "inputs": {"model": ["model", 0], "conditioning": ["positive", 0]},
}


@pytest.mark.parametrize(
    "sampler", ["euler", "heun", "dpm_2", "dpmpp_2m", "euler_ancestral", "uni_pc", "res_multistep"]
)
def test_all_steps_equal_cfg_and_none_equal_the_prompt_alone(server: Server, sampler: str) -> None:
    whole = latent_of(server, sampled(CFG, sampler))
    alone = latent_of(server, sampled(BASIC, sampler))
    assert torch.equal(latent_of(server, sampled(scheduled(0, 1), sampler)), whole)
    assert torch.equal(latent_of(server, sampled(scheduled(0.5, 0.5), sampler)), alone)
    part = latent_of(server, sampled(scheduled(0, 0.5), sampler))
    assert not torch.equal(part, whole)
    assert not torch.equal(part, alone)


def test_every_rule_acts_in_a_guider(server: Server) -> None:
    plain = latent_of(server, sampled(CFG, "euler"))
    for rule in ("extra", "turns"):
        guider = scheduled(0, 1, rule=rule, unconditional=["empty", 0])
        assert not torch.equal(latent_of(server, sampled(guider, "euler")), plain)


def listening(server: Server, client: str) -> subprocess.Popen[str]:
    address = f"ws://{server.address}/ws?clientId={client}"
    process = subprocess.Popen([PYTHON, "-c", LISTENER, address], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "connected" in process.stdout.readline()
    return process


def test_emerging_pictures_are_shown(server: Server) -> None:
    process = listening(server, "watcher")
    prompt, seed = FAILING[1]
    done = server.wait(server.queue(correcting(prompt, seed, redrawings=4, **LOOKING), "watcher"))
    report = json.loads(done["outputs"]["report"]["text"][0])
    process.terminate()
    messages = [json.loads(line) for line in process.communicate()[0].splitlines()]
    looks = sum(attempt["generation"]["looks"] for attempt in report["attempts"])
    assert looks
    assert sum(message["type"] == "preview" for message in messages) >= looks
    steps = [m["data"]["value"] for m in messages if m["type"] == "progress"]
    assert steps == sorted(steps)


def interrupt(server: Server, prompt: str) -> float:
    """Cancel, and wait; returns the seconds that it took."""
    started = time.monotonic()
    server.post("/interrupt", {})
    done = server.wait(prompt)
    kinds = [message[0] for message in done["status"]["messages"]]
    assert kinds[-1] == "execution_interrupted", kinds
    return time.monotonic() - started


def test_cancelling_a_drawing_acts_at_once(server: Server) -> None:
    graph = correcting("two red bananas", 9, steps=1000, looks=0, rewinds=0, strength=1.0)
    process = listening(server, "canceller")
    prompt = server.queue(graph, "canceller")
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["type"] == "progress" and json.loads(line)["data"]["value"] > 0:
            break
    assert interrupt(server, prompt) < MOMENT
    process.terminate()
    process.communicate()


class Slow(BaseHTTPRequestHandler):
    """A server that never answers a question."""

    asked = threading.Event()
    closing = threading.Event()

    def do_POST(self) -> None:
        self.asked.set()
        self.closing.wait(60)

    def log_message(self, *args: Any) -> None:
        """Nothing."""


def test_cancelling_while_a_server_thinks_acts_at_once(server: Server) -> None:
    slow = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    slow.daemon_threads = True
    threading.Thread(target=slow.serve_forever, daemon=True).start()
    name = f"http://127.0.0.1:{slow.server_address[1]}/v1#eyes"
    try:
        prompt = server.queue(correcting("two red bananas", 8, vlm=name))
        assert Slow.asked.wait(120)
        assert interrupt(server, prompt) < MOMENT
    finally:
        Slow.closing.set()
        slow.shutdown()
        slow.server_close()
    history = server.get(f"/history/{prompt}")
    assert b"secret-of-the-environment" not in history


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"prompt": " "}, "The prompt is empty"),
        ({"prompt": "a unicorn"}, "unicorn"),
        ({"prompt": "sixteen red bananas"}, "sixteen"),
        ({"looks": 100}, "The number of looks is 100"),
        ({"rule": "paper", "looks": 2}, "Rule 'paper' keeps one negative"),
        ({"cfg": 1.0}, "At a true CFG scale of 1"),
        ({"schedule": "2..1"}, "The setting 'negative' is '2..1'"),
        ({"strength": 0.0}, "The setting 'strength' is 0.0"),
        ({"original": ["square", 0]}, "make them the same"),
        ({"latent_image": ["pair", 0]}, "give a batch of 1"),
        ({"latent_image": ["large", 0]}, "its sides are 192"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(
    server: Server, inputs: dict[str, Any], says: str
) -> None:
    graph = correcting(**({"prompt": "two red bananas"} | inputs))
    sizes = {"pair": (192, 2), "large": (256, 1)}
    for name, (side, batch) in sizes.items():
        values = {"width": side, "height": side, "batch_size": batch}
        graph[name] = {"class_type": "EmptyLatentImage", "inputs": values}
    values = {"width": 64, "height": 64, "batch_size": 1, "color": 0}
    graph["square"] = {"class_type": "EmptyImage", "inputs": values}
    assert says in refusal(server, graph)


def refusal(server: Server, graph: Graph) -> str:
    """The one message by which ComfyUI refuses a graph, at once or as it runs."""
    answer = server.post("/prompt", {"prompt": graph, "client_id": "test"})
    if "prompt_id" not in answer:
        (node,) = answer["node_errors"].values()
        (error,) = node["errors"]
        return str(error["details"])
    messages = server.wait(answer["prompt_id"])["status"]["messages"]
    (error,) = [message for kind, message in messages if kind == "execution_error"]
    return str(error["exception_message"])


@pytest.mark.parametrize(
    ("vlm", "says"),
    [("what", "is not understood"), ("http://user:pass@x/v1#m", "holds a key")],
)
def test_roles_that_cannot_be_opened_are_refused(server: Server, vlm: str, says: str) -> None:
    message = refusal(server, correcting("two red bananas", vlm=vlm))
    assert says in message
    assert "pass@" not in message


def test_a_guider_without_what_its_rule_needs_is_refused(server: Server) -> None:
    graph = sampled(scheduled(0, 1, rule="turns"), "euler")
    assert "'unconditional' is missing" in refusal(server, graph)
    graph = sampled(scheduled(0, 1, rule="extra", cfg=1.0, unconditional=["empty", 0]), "euler")
    assert "no effect at a cfg of 1" in refusal(server, graph)
    graph = sampled(scheduled(0.5, 0.52), "euler")
    assert "at least 1 of the 6 steps" in refusal(server, graph)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_workflows_fit_the_nodes(server: Server, path: Path) -> None:
    for node in json.loads(path.read_text())["nodes"]:
        described = json.loads(server.get(f"/object_info/{node['type']}"))[node["type"]]
        inputs = described["input"]
        known = [*inputs.get("required", {}), *inputs.get("optional", {})]
        assert [one["name"] for one in node["inputs"] if one["name"] not in known] == []
        assert [one["name"] for one in node["outputs"]] == described["output_name"]


@pytest.mark.parametrize("ranker", ["salient", "requirements"])
def test_a_picture_is_verified_and_negatives_are_ranked(server: Server, ranker: str) -> None:
    prompt, seed = FAILING[0]
    graph = correcting(prompt, seed, redrawings=0)
    graph["verify"] = {
        "class_type": "NPCVerify",
        "inputs": {"image": ["correct", 0], "roles": ["roles", 0], "prompt": prompt},
    }
    graph["rank"] = {
        "class_type": "NPCRankNegatives",
        "inputs": {
            "clip": ["model", 1],
            "prompt": prompt,
            "negatives": "four apples\n\ntwo clocks",
            "ranker": ranker,
            "roles": ["roles", 0],
        },
    }
    shown = {"accepted": ["verify", 0], "failed": ["verify", 2], "caption": ["verify", 3]}
    shown |= {"best": ["rank", 0], "table": ["rank", 1]}
    for name, source in shown.items():
        graph[name] = {"class_type": "PreviewAny", "inputs": {"source": source}}
    outputs = server.run(graph)
    texts = {name: outputs[name]["text"][0] for name in (*shown, "report")}
    verdict = json.loads(texts["report"])["attempts"][0]["verdict"]
    failed = [c["requirement"]["text"] for c in verdict["checks"] if c["passed"] is False]
    assert texts["accepted"] == "False"
    assert [line.split(" (seen")[0] for line in texts["failed"].splitlines()] == failed
    assert texts["caption"]
    ours = npcorrect_ranking(prompt, ranker)
    assert [float(line.split()[0]) for line in texts["table"].splitlines()] == pytest.approx(ours)
    assert texts["table"].splitlines()[0].split("  ")[1] == texts["best"]


def npcorrect_ranking(prompt: str, name: str) -> list[float]:
    """The scores by our own text encoder, best first, to the digits of the table."""
    from npcorrect.mini.checklist import MiniChecklister
    from npcorrect.ranking import ranker_maker
    from npcorrect.records import Candidate

    candidates = [Candidate(text, "targeted") for text in ("four apples", "two clocks")]
    ranker = ranker_maker(name)(npcorrect.load())
    ranking = ranker.rank(MiniChecklister().checklist(prompt), candidates)
    return [round(ranked.score, 4) for ranked in ranking]
