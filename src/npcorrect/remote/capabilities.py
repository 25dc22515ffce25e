"""What a server that draws can do, found out by small draws; a refusal is no failure.

That a server does not refuse a parameter does not say that it uses it: it must be seen to act.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL.Image import Image

Parameter = Literal["seed", "negative", "steps", "scale", "strength"]
PROMPT, NEGATIVE = "two red circles", "red circles"
_FEW, _MORE = 3, 5
"""Steps of the draws that find out what a server can."""
_SEED, _OTHER_SEED = 11, 12
_LOW, _HIGH = 4.0, 9.0
"""Guidance scales whose pictures must differ."""
_STRENGTHS = (0.4, 0.9)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One picture to ask for; None is what the server is not told.

    ``size`` is width and height in pixels. ``image`` is what it begins with, of which ``strength``
    is the share that is drawn anew.
    """

    prompt: str = PROMPT
    negative: str | None = None
    seed: int | None = None
    steps: int | None = None
    scale: float | None = None
    size: tuple[int, int] | None = None
    image: Image | None = None
    strength: float | None = None


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What requests to a server may contain, and what acts.

    ``size`` is the width and height, in pixels, of pictures that nobody asks a size for, ``sized``
    whether one may be asked for. ``names`` are the parameters that were seen to act, with their
    names there. ``base64`` says that pictures must be asked for in the answer itself.
    """

    size: tuple[int, int] = (0, 0)
    sized: bool = False
    names: Mapping[Parameter, str]
    base64: bool = False

    def takes(self, parameter: Parameter) -> bool:
        """Whether a parameter was seen to change the picture."""
        return parameter in self.names

    @property
    def restarts(self) -> bool:
        """Whether a picture may begin with another, so many steps before its end."""
        return self.takes("strength") and self.takes("steps")

    def with_name(self, parameter: Parameter, name: str) -> Capabilities:
        """These, with a name for a parameter; none where it is empty."""
        others = {key: known for key, known in self.names.items() if key != parameter}
        return replace(self, names=others | ({parameter: name} if name else {}))


Try = Callable[[Asked, Capabilities], Awaitable[Image | None]]
"""Draws with these capabilities; None where the server refuses the request."""


async def probe(
    attempt: Try, able: Capabilities, names: Mapping[Parameter, tuple[str, ...]], *, few: bool
) -> Capabilities:
    """What a server can, whose pictures have ``able.size`` where nobody asks for one.

    ``names`` are those under which each parameter is tried. ``few`` says that a number of steps is
    surely read, so that no draw needs more than a few. Without seeds nothing can be seen to act.
    """
    base = Asked(steps=_FEW) if few else Asked()
    able = able.with_name("steps", names["steps"][0] if few else "")
    able = await _size(attempt, able, base)
    for name in names["seed"]:
        seeded = able.with_name("seed", name)
        same = replace(base, seed=_SEED)
        one, two, other = [
            await attempt(asked, seeded) for asked in (same, same, replace(base, seed=_OTHER_SEED))
        ]
        if one and two and other and 2 * distance(one, two) < distance(one, other):
            trial = _Trial(attempt, names, one, 2 * distance(one, two))
            return await trial.all(seeded, same)
    return replace(able, names={})


async def _size(attempt: Try, able: Capabilities, base: Asked) -> Capabilities:
    sized = replace(able, sized=True)
    picture = await attempt(replace(base, size=able.size), sized)
    return sized if picture and picture.size == able.size else able


@dataclass(frozen=True)
class _Trial:
    """Draws of one seed, of which ``first`` is the plain one; repeats differ by ``noise``.

    Each part returns the capabilities, with what the draws that follow are asked by.
    """

    attempt: Try
    names: Mapping[Parameter, tuple[str, ...]]
    first: Image
    noise: float

    async def all(self, able: Capabilities, base: Asked) -> Capabilities:
        """The capabilities with every parameter tried that the server may take, but the seed."""
        able, base = await self._steps(able, base)
        able, base = await self._guidance(able, base)
        begun = replace(base, image=self.first)
        low, high = (replace(begun, strength=strength) for strength in _STRENGTHS)
        return await self._named("strength", able, low, high)

    async def _steps(self, able: Capabilities, base: Asked) -> tuple[Capabilities, Asked]:
        more = replace(base, steps=_MORE if base.steps else _FEW)
        able = await self._named("steps", able, base, more)
        return able, replace(base, steps=_FEW if able.takes("steps") else None)

    async def _guidance(self, able: Capabilities, base: Asked) -> tuple[Capabilities, Asked]:
        """The negative, and the scale that weighs it: some scales act with a negative alone."""
        denied = replace(base, negative=NEGATIVE)
        for name in self.names["negative"]:
            named = able.with_name("negative", name)
            if await self.attempt(denied, named) is None:
                continue
            low, high = (replace(denied, scale=scale) for scale in (_LOW, _HIGH))
            named = await self._named("scale", named, low, high)
            scaled = replace(base, scale=_LOW if named.takes("scale") else None)
            if await self._acts(named, scaled, replace(scaled, negative=NEGATIVE)):
                return named, scaled
        low, high = (replace(base, scale=scale) for scale in (_LOW, _HIGH))
        return await self._named("scale", able, low, high), base

    async def _named(
        self, parameter: Parameter, able: Capabilities, one: Asked, other: Asked
    ) -> Capabilities:
        """The capabilities with the first name by which two values make two pictures."""
        for name in self.names[parameter]:
            named = able.with_name(parameter, name)
            if await self._acts(named, one, other):
                return named
        return able.with_name(parameter, "")

    async def _acts(self, able: Capabilities, one: Asked, other: Asked) -> bool:
        first = await self.attempt(one, able)
        second = await self.attempt(other, able) if first else None
        return bool(first and second and distance(first, second) > self.noise)


def distance(one: Image, other: Image) -> float:
    """The mean difference of two pictures' bytes, 0 to 255; infinite where their sizes differ."""
    if one.size != other.size:
        return float("inf")
    pixels = (np.asarray(image.convert("RGB"), dtype=np.float64) for image in (one, other))
    return float(np.abs(np.subtract(*pixels)).mean())
