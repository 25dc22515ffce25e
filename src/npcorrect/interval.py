"""From where to where in a schedule something acts. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from re import fullmatch
from typing import Literal

from npcorrect.errors import SettingsError
from npcorrect.text import shown

Unit = Literal["steps", "shares", "sigmas"]
_SIGMA = "sigma:"
_NUMBER = r"([0-9]{1,9}\.?|[0-9]{0,9}\.[0-9]{1,20})(e-?[0-9]{1,3})?"


@dataclass(frozen=True)
class Interval:
    """A part of a schedule, from ``start`` up to before ``stop``, as diffusers' guiders have it.

    ``unit`` says what both are: ``steps``, counted from 0; ``shares`` of all steps, 0 to 1; or
    ``sigmas``, noise levels as the scheduler has them. Those fall, so ``start`` is the higher, and
    a step is within where ``stop < sigma <= start``.

    Raises:
        SettingsError: they are no such numbers, or not in this order.
    """

    start: float
    stop: float
    unit: Unit = "shares"

    def __post_init__(self) -> None:
        """Refuse what no schedule could contain."""
        first, last = (self.stop, self.start) if self.unit == "sigmas" else (self.start, self.stop)
        whole = all(isinstance(end, int) for end in (first, last))
        most = 1 if self.unit == "shares" else inf
        if not 0 <= first < last <= most or (self.unit == "steps" and not whole):
            raise _unusable(str(self))

    @classmethod
    def read(cls, value: int | float | str) -> Interval:
        """The interval that a value of the setting ``negative`` stands for; ``str`` writes it back.

        Whole numbers are steps and others shares; with ``sigma:`` before them they are noise
        levels. One number alone is where it stops, two have ``..`` between them.

        Raises:
            SettingsError: it is none of these.
        """
        sigmas = str(value).startswith(_SIGMA)
        ends = str(value).removeprefix(_SIGMA).split("..")
        first, last = ends if len(ends) == 2 else ("inf" if sigmas else "0", ends[0])
        numbers = (last,) if sigmas and first == "inf" else (first, last)
        readable = all(fullmatch(_NUMBER, number) for number in numbers)
        if isinstance(value, bool) or len(ends) > 2 or not readable:
            raise _unusable(value)
        try:
            if sigmas:
                return cls(float(first), float(last), "sigmas")
            if (first + last).isdecimal():
                return cls(int(first), int(last), "steps")
            return cls(float(first), float(last))
        except SettingsError:
            raise _unusable(value) from None

    def __str__(self) -> str:
        """The shortest text from which :meth:`read` makes this interval again."""
        kind = int if self.unit == "steps" else float
        before = _SIGMA if self.unit == "sigmas" else ""
        whole = self.start == (inf if self.unit == "sigmas" else 0)
        first = "" if whole else f"{kind(self.start)}.."
        return f"{before}{first}{kind(self.stop)}"

    def steps(self, count: int, sigmas: Sequence[float] | None = None) -> tuple[int, int]:
        """The first of ``count`` steps that is within, from 0, and the first after it that is not.

        ``sigmas`` are the noise levels with which the steps begin. Where they are not known yet,
        all steps are taken to be within an interval of noise levels.

        Raises:
            SettingsError: it contains no step, or does not end with the schedule.
        """
        if self.unit == "sigmas" and sigmas is None:
            return 0, count
        if self.unit == "sigmas":
            within = [k for k, sigma in enumerate(sigmas or ()) if self.stop < sigma <= self.start]
            window = (within[0], within[-1] + 1) if within else (0, 0)
        else:
            one = count if self.unit == "shares" else 1
            window = round(self.start * one), round(self.stop * one)
        if not window[0] < window[1] <= count:
            raise _unusable(str(self), f", with at least 1 of the {count} steps between")
        return window


def _unusable(value: object, more: str = "") -> SettingsError:
    return SettingsError(
        f"The setting 'negative' is {shown(value)}; give steps ('3', '2..10'), shares of them "
        f"('0.06', '0.2..0.7') or noise levels ('sigma:0.95..0.4'), the earlier end first{more}."
    )
