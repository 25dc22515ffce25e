"""A model on a server, behind the seam of all image models."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from npcorrect.diffusion.base import UNWATCHED, Watch, shared
from npcorrect.errors import ModelError, SettingsError
from npcorrect.files import read_json
from npcorrect.plan import Plan, plan
from npcorrect.records import Drawing, Generation, Origin, Request, joined
from npcorrect.remote.capabilities import Asked, Capabilities, probe
from npcorrect.remote.dialects import A1111, Dialect, NoPictureError, OpenAIImages
from npcorrect.remote.family import ServerFamily, server_defaults, title
from npcorrect.vlm.addresses import Server, speaks_openai
from npcorrect.vlm.base import Memory
from npcorrect.vlm.event_loop import Background
from npcorrect.vlm.redaction import Redactor
from npcorrect.vlm.settings import RetryPolicy
from npcorrect.vlm.transport import SendingError, Transport

T = TypeVar("T")
VERSION = 1
"""Of what is remembered about servers; raised where it changes its meaning."""
LARGEST = 2**26
"""Bytes of a reply: a picture of 4096 pixels a side, in base64."""
TIMEOUT_FACTOR = 5
"""How many times as long as an answer a picture may take."""
_CAPABILITIES = TypeAdapter(Capabilities)
_OTHER_API = (
    "start A1111 with --api, or give an address that ends in /v1, with #MODEL, for OpenAI's API"
)


class PictureTransport(Transport):
    """Sends requests for pictures; a key with a colon is a name and a password to A1111."""

    takes = "pictures"

    def __init__(self, server: Server, key: str, retry_policy: RetryPolicy) -> None:
        patient = replace(retry_policy, timeout=TIMEOUT_FACTOR * retry_policy.timeout)
        super().__init__(server, key, patient, LARGEST)
        if ":" in key and not speaks_openai(server):
            encoded = b64encode(key.encode()).decode()
            self._client.headers["Authorization"] = f"Basic {encoded}"
            self.redact = Redactor(key, encoded)

    def _absent(self, said: str) -> str:
        if speaks_openai(self._server):
            return super()._absent(said)
        return f"has no API of A1111 (404: {said}); {_OTHER_API}"

    @property
    def likely_address(self) -> str:
        """What to do about an address that does not answer as it should."""
        return super().likely_address if speaks_openai(self._server) else _OTHER_API


class ServerModel:
    """An :class:`~npcorrect.diffusion.base.ImageModel` that asks a server for each picture.

    The server does not say how often it evaluates its denoiser: evaluations are 0. It has no text
    encoder for rankers. Connect it before use, and close it afterwards.
    """

    def __init__(
        self,
        name: str,
        server: Server,
        key: str = "",
        *,
        retry_policy: RetryPolicy | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.name, self.capabilities = name, Capabilities(names={})
        self._server, self._key, self._memory = server, key, memory
        self._dialect: Dialect = OpenAIImages() if speaks_openai(server) else A1111()
        self._background = Background()
        self._transport = PictureTransport(server, key, retry_policy or RetryPolicy())

    def close(self) -> None:
        """Let go of connections and of the thread that holds them."""
        self._background.run(self._transport.close())
        self._background.close()

    def connect(self) -> None:
        """Find out what the server can, by a dozen small draws where it is not remembered.

        Raises:
            ModelError: it does not answer, or draws nothing. Nothing is then remembered.
        """
        self.capabilities = self._asking(self._connected())

    @property
    def family(self) -> ServerFamily:
        """What the server can, as a plan needs it."""
        able = self.capabilities
        steps, scale = able.takes("steps"), able.takes("scale")
        return ServerFamily(
            title=title(self._server),
            defaults=server_defaults(able.size[1], steps=steps, scale=scale),
            restarts=able.restarts,
            least_scale=1.0 if scale else -1.0,
        )

    def plan(self, request: Request) -> Plan:
        """The plan of a request; see :func:`npcorrect.plan.plan`.

        Raises:
            InputError: the server cannot do what was asked.
        """
        family = self.family
        self._refuse(request)
        width, height = self.capabilities.size
        if request.size is None:
            request = replace(
                request, width=request.width or width, height=request.height or height
            )
        return plan(request, family, family.defaults)

    def check_text(self, text: str) -> None:
        """Accept every text, since a server does not say how much it reads; nothing is raised."""

    def draw(self, drawings: Sequence[Drawing], watch: Watch = UNWATCHED) -> list[Generation]:
        """Draw pictures at once; see :class:`~npcorrect.diffusion.base.ImageModel`.

        A cancelled drawing is not waited for; the server may go on with it.

        Raises:
            Cancelled: the watch has cancelled the drawing.
            ModelError: the server gave no picture, or one of another size.
        """
        if not drawings:
            return []
        first, _ = shared(drawings)
        watch.check()
        for drawing in drawings:
            if drawing.origin is not None and drawing.origin.model != self.name:
                raise ModelError(
                    f"The picture to begin with is of {drawing.origin.model!r}, not {self.name!r}."
                )
        drawn = self._asking(_together([self._drawn(one) for one in drawings]), watch.check)
        watch.step(first.num_inference_steps, first.num_inference_steps)
        return drawn

    def origin(self, image: Image.Image, drawing: Drawing) -> Origin | None:
        """The pixels of a picture, 0 to 255; None where the server cannot begin with one."""
        if not self.capabilities.restarts:
            return None
        sized = image.convert("RGB").resize((drawing.width, drawing.height))
        pixels = np.asarray(sized, dtype=np.float32)[None]
        sigmas = np.linspace(1, 0, drawing.num_inference_steps + 1, dtype=np.float32)
        return Origin(self.name, pixels, sigmas)

    def _refuse(self, request: Request) -> None:
        """Refuse what the server was seen not to do.

        Raises:
            SettingsError: names it, and what to do.
        """
        able, whose = self.capabilities, title(self._server)
        sides = (request.width or request.size, request.height or request.size)
        other = any(side not in (None, size) for side, size in zip(sides, able.size, strict=True))
        kept = "no negative prompt" if able.takes("seed") else "no seed, by which it could be seen"
        wrong = (
            (request.steps is not None and not able.takes("steps"), "no number of steps",
             "leave the steps out"),
            (request.scale is not None and not able.takes("scale"), "no guidance scale",
             "leave the scale out"),
            (request.strength not in (None, 1) and not able.restarts,
             "no picture to begin with", "give a strength of 1"),
            (other and not able.sized, "no size",
             "leave it out; its pictures have {}x{} pixels".format(*able.size)),
            (request.seed != 0 and not able.takes("seed"), "no seed", "leave the seed out"),
            (request.negative_prompt is not None and not able.takes("negative"), kept,
             "leave the negative prompt out"),
            (request.candidates > 0 and not able.takes("negative"), kept,
             "nothing would correct its pictures; give 0 candidates to have them drawn and "
             "verified only"),
        )  # fmt: skip
        for asked, what, remedy in wrong:
            if asked:
                raise SettingsError(f"{whose[0].upper()}{whose[1:]} takes {what}: {remedy}.")

    def _asking(self, task: Coroutine[Any, Any, T], check: Callable[[], object] | None = None) -> T:
        try:
            return self._background.run(task, check)
        except SendingError as failure:
            raise ModelError(str(failure)) from None

    async def _connected(self) -> Capabilities:
        """What the server can, remembered only once every draw was answered or refused."""
        key = self._memory_key(await self._loaded())
        known = self._recalled(key)
        if known is not None:
            return known
        able = await self._bare()
        able = await probe(
            partial(self._extra, able), able, self._dialect.names, few=self._dialect.few
        )
        if self._memory is not None:
            self._memory.keep(key, _CAPABILITIES.dump_json(able).decode())
        return able

    async def _loaded(self) -> str:
        """What A1111 has loaded; OpenAI's API does not say.

        Raises:
            ModelError: there is no such API, or it has not the model.
        """
        if speaks_openai(self._server):
            return ""
        models = self._json(await self._transport.request("GET", "/sdapi/v1/sd-models"), list)
        names = [_text(one, key) for one in models for key in ("title", "model_name")]
        if self._server.model and self._server.model not in names:
            some = ", ".join(dict.fromkeys(filter(None, names[:10:2])))
            raise ModelError(
                f"The server at {self._server.address} has no model {self._server.model!r}; "
                f"it has {self._transport.redact.line(some)}."
            )
        options = self._json(await self._transport.request("GET", "/sdapi/v1/options"), dict)
        return self._server.model or _text(options, "sd_model_checkpoint")

    def _json(self, raw: str, kind: type) -> Any:
        try:
            value = read_json(raw)
        except ValueError:
            value = None
        if not isinstance(value, kind):
            raise ModelError(
                f"The server at {self._server.address} answers, but not as A1111 does; "
                f"{_OTHER_API}."
            )
        return value

    def _memory_key(self, loaded: str) -> str:
        identity = ("images", str(VERSION), self._server.identity, loaded, self._key)
        return sha256("\n".join(identity).encode()).hexdigest()

    def _recalled(self, key: str) -> Capabilities | None:
        text = self._memory.recall(key) if self._memory is not None else None
        try:
            known = _CAPABILITIES.validate_json(text) if text else None
        except ValidationError:
            return None
        names = self._dialect.names
        usable = known and all(known.names[one] in names[one] for one in known.names)
        return known if usable and min(known.size if known else (0, 0)) > 0 else None

    async def _bare(self) -> Capabilities:
        """The least that a request must contain, with the size of its picture.

        Raises:
            SendingError: every request is refused, or none is answered.
            ModelError: what comes is no picture.
        """
        *others, last = self._dialect.least
        for able in others:
            try:
                return replace(able, size=(await self._picture(Asked(), able)).size)
            except SendingError as failure:
                if not failure.refused:
                    raise
        return replace(last, size=(await self._picture(Asked(), last)).size)

    async def _extra(
        self, plain: Capabilities, asked: Asked, able: Capabilities
    ) -> Image.Image | None:
        """A picture of a request with extras.

        None where it fails, if the plain request is still answered.
        """
        try:
            return await self._picture(asked, able)
        except ModelError:
            return None
        except SendingError as failure:
            if not failure.refused:
                await self._picture(Asked(), plain)
            return None

    async def _picture(self, asked: Asked, able: Capabilities) -> Image.Image:
        """The picture that a request brings.

        Raises:
            SendingError: there was no answer.
            ModelError: it is no picture.
        """
        call = self._dialect.call(self._server.model, asked, able)
        raw = await self._transport.request("POST", call.path, **call.content)
        try:
            return self._dialect.read(raw)
        except NoPictureError as error:
            raise ModelError(
                f"The server at {self._server.address} answers, but not with a picture ({error}); "
                "see what it logs."
            ) from None

    async def _drawn(self, drawing: Drawing) -> Generation:
        start, size = perf_counter(), (drawing.width, drawing.height)
        image = await self._picture(_asked(drawing), self.capabilities)
        if image.size != size:
            width, height = image.size
            raise ModelError(
                f"The server at {self._server.address} drew {width}x{height} pixels where "
                f"{size[0]}x{size[1]} were asked for; give a size that it draws."
            )
        return Generation(
            image=image,
            drawing=drawing,
            evaluations=0,
            seconds=perf_counter() - start,
            start_step=drawing.restart_step if drawing.origin else 0,
            origin=self.origin(image, drawing),
        )


def _asked(drawing: Drawing) -> Asked:
    """A drawing as it is asked for."""
    asked = Asked(
        prompt=drawing.prompt,
        negative=joined(drawing.standing_negative, drawing.negative_prompt),
        seed=drawing.seed,
        steps=drawing.num_inference_steps,
        scale=drawing.true_cfg_scale,
        size=(drawing.width, drawing.height),
    )
    if drawing.origin is None:
        return asked
    image = Image.fromarray(drawing.origin.latents[0].astype(np.uint8))
    strength = 1 - drawing.restart_step / drawing.num_inference_steps
    return replace(asked, image=image, strength=strength)


async def _together(tasks: list[Coroutine[Any, Any, T]]) -> list[T]:
    return list(await asyncio.gather(*tasks))


def _text(record: Any, key: str) -> str:
    value = record.get(key) if isinstance(record, dict) else None
    return value if isinstance(value, str) else ""
