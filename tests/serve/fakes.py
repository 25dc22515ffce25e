"""A server with a fake image model and fake roles: at once, or as far as a test lets it draw."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2
import uvicorn
from PIL import Image, ImageDraw

from npcorrect.diffusion.fake import FAKE_DEFAULTS, FakeFamily
from npcorrect.errors import PromptError
from npcorrect.loop import sized
from npcorrect.plan import Defaults, plan
from npcorrect.records import (
    Candidate,
    Caption,
    Check,
    Checklist,
    Drawing,
    Request,
    Requirement,
    Verdict,
)
from npcorrect.serve.app import ServerSettings, create_app
from npcorrect.serve.security import Access
from npcorrect.serve.service import Limits
from npcorrect.serve.store import open_store
from npcorrect.session import Session
from npcorrect.vlm.roles import Roles
from tests.fakes import HeldModel, Holds

CIRCLES = Requirement("r1", "count", "there are three red apples", "apple", "3")
SQUARE = Requirement("r2", "object", "a blue cup is visible", "cup", "cup")
SIDE = 16


def paint(drawing: Drawing) -> Image.Image:
    """A picture that shows its seed and whether it has a negative."""
    size = drawing.width, drawing.height
    image = Image.new("RGB", size, (240, 236, 228))
    shade = (40, 90, 180) if drawing.negative_prompt else (200, 60, 50)
    reach = size[0] // 4 + drawing.seed % 5
    ImageDraw.Draw(image).ellipse((2, 2, 2 + reach, 2 + reach), fill=shade)
    return image


@dataclass
class FakeRoles:
    """All four roles. The picture number ``good`` is accepted, counted from 0; -1: none is."""

    good: int = 1
    verified: int = field(default=0, init=False)

    def roles(self) -> Roles:
        """These roles."""
        return Roles(self, self, self, self)

    def checklist(self, prompt: str) -> Checklist:
        """Two claims of any prompt; it begins the count anew."""
        self.verified = 0
        return Checklist(prompt, (CIRCLES, SQUARE))

    def verify(self, image: Image.Image, checklist: Checklist) -> Verdict:
        """Right at the good picture."""
        right = self.verified == self.good
        self.verified += 1
        return Verdict((Check(CIRCLES, right, "" if right else "four apples"), Check(SQUARE, True)))

    def caption(self, image: Image.Image) -> Caption:
        """What it shows instead."""
        return Caption("four red apples", ("four red apples",))

    def propose(
        self, checklist: Checklist, verdict: Verdict, caption: Caption, limit: int
    ) -> tuple[Candidate, ...]:
        """Three negatives."""
        texts = ("<b>five</b> apples", "four apples", "a fourth apple")
        return tuple(Candidate(text, "targeted", "it shows four") for text in texts[:limit])


def redrawing(drawing: Drawing, step: int) -> bool:
    """Holds every picture but the original before its first step."""
    return drawing.negative_prompt is not None


@dataclass
class FakeServer:
    """What a test may set of a server, and what it may look at afterwards.

    A drawing stays where it is, after so many steps, as long as ``holds`` is true or until it is
    cancelled: no test depends on how long something takes.
    """

    folder: Path
    defaults: Defaults = FAKE_DEFAULTS
    good: int = 1
    holds: Holds = lambda drawing, step: False
    access: Access = field(default_factory=Access)
    limits: Limits = field(default_factory=Limits)
    opened: Callable[[], Any] | None = None
    a1111: bool = True
    workers: int = 1
    failed: list[bool] = field(default_factory=list, init=False)

    def model(self) -> HeldModel:
        """A model that draws as far as the server's drawings may go."""
        defaults = replace(self.defaults, sizes=(SIDE,))
        return HeldModel(lambda drawing, step: self.holds(drawing, step), defaults, paint=paint)

    def check(self, request: Request, original: Image.Image | None = None) -> object:
        """The plan of a request; a prompt of lamps is not understood."""
        sizes = replace(self.defaults, sizes=(*self.defaults.sizes, SIDE))
        made = plan(sized(request, original) if original else request, FakeFamily(), sizes)
        if "lamp" in request.prompt:
            raise PromptError("The prompt speaks of lamps; draw something else.")
        return made

    @contextmanager
    def app(self) -> Iterator[Any]:
        """The application."""
        session = Session(self.model(), FakeRoles(self.good).roles())
        with open_store(self.folder) as store:
            yield create_app(
                ServerSettings(
                    model="fake",
                    store=store,
                    opened=self.opened or (lambda: nullcontext(session)),
                    check=self.check,
                    on_failure=lambda: self.failed.append(True),
                    access=self.access,
                    limits=self.limits,
                    a1111=self.a1111,
                    workers=self.workers,
                )
            )


@contextmanager
def listening(server: FakeServer, port: int = 0) -> Iterator[str]:
    """The server behind a real socket; its address. Port 0 is any free one."""
    with server.app() as app:
        config = uvicorn.Config(
            app, port=port, log_level="error", timeout_graceful_shutdown=1, lifespan="on"
        )
        running = uvicorn.Server(config)
        thread = Thread(target=running.run, daemon=True)
        thread.start()
        while not running.started:
            time.sleep(0.01)
        (socket,) = running.servers[0].sockets
        try:
            yield f"http://127.0.0.1:{socket.getsockname()[1]}"
        finally:
            running.should_exit = True
            thread.join()


def client_of(address: str) -> httpx2.Client:
    """Asks a server as a script would; the certificates that it does not need take long to read."""
    return httpx2.Client(base_url=address, timeout=120, verify=False)


@contextmanager
def served(server: FakeServer) -> Iterator[httpx2.Client]:
    """Asks the server behind a real socket."""
    with listening(server) as address, client_of(address) as client:
        yield client
