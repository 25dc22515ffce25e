"""``npc serve`` with the embedded model, as a user runs it."""

from __future__ import annotations

import signal
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import httpx2
from PIL import Image

from npcorrect.result import load_result
from tests.serve.asking import kept, submit

PROMPT = "three red apples and one blue cup"


def test_a_correction_over_a_real_socket(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "npcorrect", "serve", "--port", "0"]
    command += ["--out", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            address = server.stdout.readline().split()[3].rstrip(";")
            with httpx2.Client(base_url=address, timeout=120) as client:
                refused = client.post("/v1/jobs", json={"prompt": "three lamps"})
                assert "'lamps'" in refused.json()["error"]["message"]
                job = submit(client, prompt=PROMPT, seed=7, candidates=1, ranker="salient")
                told = kept(client, job)
                assert told[-1].body["ended"] in ("accepted", "exhausted")
                picture = client.get(f"/v1/jobs/{job}/attempts/0.png").content
            server.send_signal(signal.SIGTERM)
            assert server.wait(120) == 0
        finally:
            server.kill()
    assert Image.open(BytesIO(picture)).size == (192, 192)
    assert load_result(tmp_path / job).request.seed == 7
