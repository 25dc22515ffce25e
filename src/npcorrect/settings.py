"""Every option that a face offers, declared once: its type, its help, its choices and its range.

A field of a settings record is an option. Flags, environment variables, TOML keys, JSON bodies and
ComfyUI inputs are made from :func:`options`, and all of them are checked by :func:`check`. None
leaves a choice to the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from difflib import get_close_matches
from math import nan
from pathlib import Path
from re import fullmatch
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from npcorrect.errors import SettingsError
from npcorrect.text import shown

if TYPE_CHECKING:
    from pydantic import BaseModel

S = TypeVar("S", bound="Settings")
Panel = Literal["Picture", "Correction", "Model", "Roles"]
RULES = ("paper", "extra", "turns", "dynamic", "nag", "vsf")
"""The guidance rules; :mod:`npcorrect.diffusion.rules` has an object for each."""
WITHIN_ATTENTION = ("nag", "vsf")
"""The rules that need no guidance, and so act on distilled models too."""
RANKERS = ("salient", "requirements", "paper", "source")
"""The text-space scores; :mod:`npcorrect.ranking` has a class for each."""
MAX_TEXT = 10_000
"""Characters that any text option may have."""
MAX_CANDIDATES = 50
MAX_LORA_WEIGHT = 100


@dataclass(frozen=True, kw_only=True)
class Option:
    """What every face needs to know of an option.

    ``name`` is what users call it in TOML and JSON, ``flags`` what it is called on the command
    line, where ``off`` switches a truth value off. ``limits`` are pydantic's ``ge``, ``gt``,
    ``le`` and ``lt``. ``advanced`` options come after the everyday ones. ``may_be_empty`` tells
    texts that mean something where they are empty.
    """

    field: str
    name: str
    flags: tuple[str, ...]
    off: str
    type: Any
    default: Any
    help: str
    panel: Panel
    choices: tuple[str, ...]
    limits: Mapping[str, float]
    advanced: bool
    may_be_empty: bool

    @property
    def variable(self) -> str:
        """The name of the environment variable that sets it, such as ``NPC_NEGATIVE_SCALE``."""
        return "NPC_" + self.name.upper().replace("-", "_")

    @property
    def kinds(self) -> tuple[type, ...]:
        """The types that a value may have, None left out; a list of texts is ``tuple``."""
        union = get_origin(self.type) in (Union, UnionType)
        members = get_args(self.type) if union else (self.type,)
        return tuple(get_origin(kind) or kind for kind in members if kind is not type(None))

    @property
    def expected(self) -> str:
        """A phrase that says which values the option takes: choices, or types with limits."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
        texts = [words.get(kind, "a list of texts") for kind in self.kinds]
        if str in self.kinds:
            least = 0 if self.may_be_empty else 1
            texts[self.kinds.index(str)] = f"a text of {least} to {MAX_TEXT} characters"
        bounds = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
        limits = " and ".join(f"{bounds[key]} {value}" for key, value in self.limits.items())
        return " or ".join(texts) + (f", {limits}" if limits else "")


def option(
    default: Any,
    help: str,  # noqa: A002 (the field's word for it)
    panel: Panel,
    *,
    name: str = "",
    flags: tuple[str, ...] = (),
    off: str = "",
    choices: tuple[str, ...] = (),
    advanced: bool = False,
    may_be_empty: bool = False,
    **limits: float,
) -> Any:
    """A field that is an option; its name is the field's with ``-`` for ``_`` unless given."""
    described = {
        "help": help,
        "panel": panel,
        "name": name,
        "flags": flags,
        "off": off,
        "choices": choices,
        "advanced": advanced,
        "may_be_empty": may_be_empty,
        "limits": limits,
    }
    return field(default=default, metadata={"option": described})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of the settings records, whose fields are the options."""


@dataclass(frozen=True, kw_only=True)
class DrawSettings(Settings):
    """What is drawn and how it is corrected."""

    seed: int = option(0, "Seed of the first picture.", "Picture", ge=0, lt=2**63)
    steps: int | None = option(None, "Denoising steps of a picture.", "Picture", ge=1, le=1000)
    scale: float | None = option(
        None, "True classifier-free guidance scale.", "Picture", ge=0, le=1000
    )
    size: int | None = option(None, "Height and width in pixels.", "Picture", ge=16, le=16384)
    height: int | None = option(
        None, "Height in pixels, where it differs.", "Picture", advanced=True, ge=16, le=16384
    )
    width: int | None = option(
        None, "Width in pixels, where it differs.", "Picture", advanced=True, ge=16, le=16384
    )
    negative_prompt: str | None = option(
        None,
        "What no picture should have, such as 'lowres, watermark': it guides every step of every "
        "picture, in the unconditional text's place. An empty text is one too.",
        "Picture",
        may_be_empty=True,
    )
    candidates: int = option(
        5,
        "Negatives to try at most, each in a redrawing.",
        "Correction",
        flags=("--candidates", "-k"),
        ge=0,
        le=MAX_CANDIDATES,
    )
    looks: int | None = option(
        None,
        "How often to look at a redrawing while it emerges, to renew its negative. A "
        "vision-language model looks only if asked to: each look is asked and paid for.",
        "Correction",
        ge=0,
        le=1000,
    )
    fresh: bool | None = option(
        None,
        "Give each redrawing a seed of its own; kept, the picture stays what it is but for its "
        "faults. By default as the model does best.",
        "Correction",
        off="keep",
    )
    strength: float | None = option(
        None,
        "Share of the steps that a redrawing takes, beginning with the noised original; 1 begins "
        "with noise alone.",
        "Correction",
        gt=0,
        le=1,
    )
    rewinds: int | None = option(
        None,
        "How often a redrawing may begin again where its last look finds it wrong.",
        "Correction",
        ge=0,
        le=100,
    )
    rule: str | None = option(
        None,
        "How the negative enters: in the unconditional branch's place ('paper'), beside it in "
        "every step ('extra'), in turn ('turns') or as far as the picture contains it ('dynamic'), "
        "or within attention ('nag', 'vsf').",
        "Correction",
        choices=RULES,
        advanced=True,
    )
    negative_scale: float | None = option(
        None,
        "Weight of the negative (all rules but 'paper').",
        "Correction",
        advanced=True,
        gt=0,
        le=1000,
    )
    negative: int | float | str | None = option(
        None,
        "When the negative acts, from one point up to before another: steps ('0..3', or '3' for "
        "the first three), shares of them ('0..0.06', '0.2..0.7', '0.0..1') or noise levels "
        "('sigma:0.95..0.4').",
        "Correction",
        flags=("--negative", "-n"),
        advanced=True,
    )
    ranker: str | None = option(
        None,
        "Which negative comes first, by its score in text space (default: 'salient'); 'source' "
        "keeps the order in which they were proposed, and is the default of the embedded model and "
        "of one on a server.",
        "Correction",
        choices=RANKERS,
        advanced=True,
    )
    batch: int = option(
        1,
        "Redrawings drawn together; fewer where memory runs out.",
        "Correction",
        advanced=True,
        ge=1,
        le=1024,
    )


@dataclass(frozen=True, kw_only=True)
class LoadSettings(Settings):
    """Which image model is loaded, and how. Weights are safetensors only.

    ``device`` is the first there is of cuda, mps and cpu, ``dtype`` bfloat16 on cuda, float16 on
    mps, else float32.
    """

    model: str = option(
        "mini",
        "A Hub id, a diffusers folder, a .safetensors file, 'mini', the embedded model, or a "
        "server: http://127.0.0.1:7860 (A1111's API) or http://localhost:8000/v1#model (OpenAI's).",
        "Model",
    )
    device: str | None = option(None, "cuda, mps or cpu; by default the first there is.", "Model")
    dtype: str | None = option(
        None,
        "Precision; by default what suits the device.",
        "Model",
        choices=("float32", "bfloat16", "float16"),
    )
    offload: str = option(
        "none",
        "Keep networks in main memory until they are needed: 'model', or 'sequential' (slower). A "
        "VLM of this machine (local: or Ollama) then takes turns with them.",
        "Model",
        choices=("none", "model", "sequential"),
    )
    vae_tiling: bool = option(False, "Decode large pictures in tiles.", "Model", advanced=True)
    quantize: str | None = option(
        None,
        "Keep the largest networks in fewer bits (CUDA).",
        "Model",
        choices=("8bit", "4bit"),
        advanced=True,
    )
    compile: bool = option(False, "Compile the denoiser.", "Model", advanced=True)
    lora: tuple[str, ...] = option(
        (),
        "A LoRA's file, folder or Hub id, with =WEIGHT behind it if not 1; give it several times.",
        "Model",
        advanced=True,
    )
    family: str | None = option(
        None, "The model's family, where it is not recognised; see 'npc models'.", "Model",
        advanced=True,
    )  # fmt: skip
    base: str | None = option(
        None, "Hub id or folder that lends a single file what it lacks.", "Model", advanced=True
    )
    revision: str | None = option(
        None, "Branch, tag or commit of a Hub id.", "Model", advanced=True
    )
    variant: str | None = option(None, "Weights variant, such as fp16.", "Model", advanced=True)
    offline: bool = option(False, "Use the local cache only.", "Model", advanced=True)
    trust_remote_code: bool = option(
        False, "Run code that the model's repository brings.", "Model", advanced=True
    )

    @property
    def model_name(self) -> str:
        """What others call the model: a file's name without its folder and its ending."""
        name = self.model.replace("\\", "/").rpartition("/")[2]
        ending = ".safetensors"
        return name.removesuffix(ending) if name.endswith(ending) else self.model


@dataclass(frozen=True, kw_only=True)
class RoleSettings(Settings):
    """Which models check, describe and propose, and how they are asked."""

    vlm: str | None = option(
        None,
        "The model that checks, describes and proposes: openai:gpt-4.1, "
        "http://localhost:8000/v1#model, or local:ID.",
        "Roles",
    )
    checklister: str | None = option(
        None, "Another model to take prompts apart, or 'grammar'.", "Roles", advanced=True
    )
    verifier: str | None = option(
        None, "Another model to check pictures, or 'embedded'.", "Roles", advanced=True
    )
    captioner: str | None = option(
        None, "Another model to describe pictures.", "Roles", advanced=True
    )
    proposer: str | None = option(
        None, "Another model to propose negatives, or 'rules'.", "Roles", advanced=True
    )
    votes: int = option(
        1, "How often each claim is asked; the majority counts.", "Roles", advanced=True, ge=1,
        le=15,
    )  # fmt: skip
    questions: str = option(
        "together",
        "Ask all claims of a picture in one question where the model answers them as it does "
        "single ones, or always each by itself.",
        "Roles",
        choices=("together", "single"),
        advanced=True,
    )
    budget: str | None = option(
        None,
        "Stop before models take more: 0.50 (money), '200 calls' or '50000 tokens'.",
        "Roles",
    )
    cache: bool = option(
        True,
        "Answer what was asked before from a file; its cost is not counted then.",
        "Roles",
        off="no-cache",
        advanced=True,
    )

    @property
    def embedded_verifier(self) -> bool:
        """Whether the image model's own verifier looks at the pictures."""
        return (self.verifier or self.vlm or "embedded") == "embedded"


_OPTIONS: dict[type[Settings], tuple[Option, ...]] = {}
_MODELS: dict[type[Settings], type[BaseModel]] = {}
"""What was read of each record: every check needs it, and it takes milliseconds to make."""


def options(record: type[Settings]) -> tuple[Option, ...]:
    """The options of a settings record, in the order of its fields."""
    if record not in _OPTIONS:
        types = get_type_hints(record)
        declared = (f for f in fields(record) if "option" in f.metadata)
        _OPTIONS[record] = tuple(_option(one, types[one.name]) for one in declared)
    return _OPTIONS[record]


def _option(declared: Field[Any], kind: Any) -> Option:
    described = dict(declared.metadata["option"])
    name = described.pop("name") or declared.name.replace("_", "-")
    flags = described.pop("flags") or (f"--{name}",)
    assert declared.default is not MISSING
    return Option(
        field=declared.name, name=name, flags=flags, type=kind, default=declared.default,
        **described,
    )  # fmt: skip


def model_of(record: type[Settings]) -> type[BaseModel]:
    """A pydantic model of a record by the options' names: JSON bodies, and what :func:`check` uses.

    It takes no other names, and no type for another, so that ``true`` is no number.
    """
    if record not in _MODELS:
        _MODELS[record] = _model_of(record)
    return _MODELS[record]


def _model_of(record: type[Settings]) -> type[BaseModel]:
    from pydantic import ConfigDict, create_model
    from pydantic import Field as PydanticField

    made: dict[str, Any] = {}
    for one in options(record):
        kind = Literal[one.choices] if one.choices else one.type
        kind = kind | None if one.choices and type(None) in get_args(one.type) else kind
        limits: dict[str, Any] = dict(one.limits)
        if one.kinds == (str,) and not one.choices:
            limits |= {"min_length": 0 if one.may_be_empty else 1, "max_length": MAX_TEXT}
        if float in one.kinds and str not in one.kinds:
            limits["allow_inf_nan"] = False
        described = PydanticField(one.default, alias=one.name, description=one.help, **limits)
        made[one.field] = kind, described
    config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)
    return create_model(record.__name__, __config__=config, **made)


def check(record: Settings) -> None:
    """Refuse values of the wrong type, out of range, or not among the choices.

    Raises:
        SettingsError: names the option, its value and what to give.
    """
    given = {one.field: getattr(record, one.field) for one in options(type(record))}
    _validated(type(record), given, "")


def check_kind(value: object, kinds: Any, what: str, remedy: str) -> None:
    """Refuse an argument that is none of some types, which are given as ``isinstance`` takes them.

    Raises:
        SettingsError: names the argument, its type and what to give.
    """
    if not isinstance(value, kinds):
        raise SettingsError(f"The {what} is of type {type(value).__name__!r}; give {remedy}.")


def read(
    record: type[S],
    values: Mapping[str, Any],
    place: str,
    others: tuple[str, ...] = (),
    base: S | None = None,
) -> S:
    """A record from a mapping by the options' names, as TOML and JSON bodies have them.

    A name that switches an option off (``keep``) may be used too. ``place`` says in messages
    where the values stand, ``others`` which names may stand beside the record's. ``base`` has the
    values that are not given, in place of the defaults.

    Raises:
        SettingsError: a name is unknown, two names say the same, or a value cannot work.
    """
    by_name = {one.name: one for one in options(record)}
    switches = {one.off: one for one in options(record) if one.off}
    named: dict[str, Any] = {}
    for key, value in values.items():
        name = str(key).replace("_", "-")
        one = switches.get(name) or by_name.get(name)
        if one is None:
            raise SettingsError(unknown_name(str(key), [*by_name, *switches, *others], place))
        if name in switches and not isinstance(value, bool):
            raise SettingsError(
                f"{place}: The setting {name!r} is {shown(value)}; give true or false."
            )
        listed = one.kinds == (tuple,) and isinstance(value, list)
        meant = not value if name in switches else tuple(value) if listed else value
        set_once(named, one.name, meant, str(key), place)
    given = {by_name[name].field: value for name, value in named.items()}
    _validated(record, given, f"{place}: ")
    return replace(base or record(), **given)


def set_once(made: dict[str, Any], name: str, value: Any, key: str, place: str) -> None:
    """Put a value under the name that a key stands for.

    Raises:
        SettingsError: another key stood for it already.
    """
    if name in made:
        raise SettingsError(f"{place}: {key!r} sets {name!r} again; give it once.")
    made[name] = value


def unknown_name(name: str, known: list[str], place: str) -> str:
    """A sentence that refuses a name and offers the nearest ones, or all."""
    near = get_close_matches(name[:60], known, 3)
    remedy = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(sorted(known))}."
    return f"{place}: there is no setting {name[:60]!r}; {remedy}"


def lora_weight(lora: str) -> tuple[str, float]:
    """A LoRA's place and its weight, from ``PLACE`` or ``PLACE=WEIGHT``.

    A place may have the sign in its name, as ``epoch=10.safetensors`` has.

    Raises:
        SettingsError: the weight is not a number, or beyond :data:`MAX_LORA_WEIGHT`.
    """
    place, sign, weight = lora.rpartition("=")
    if not sign or lora.endswith(".safetensors") or Path(lora).exists():
        return lora, 1.0
    try:
        number = float(weight)
    except ValueError:
        number = nan
    if not abs(number) <= MAX_LORA_WEIGHT:
        raise SettingsError(
            f"--lora {lora!r} has the weight {weight!r}; give a number from -{MAX_LORA_WEIGHT} to "
            f"{MAX_LORA_WEIGHT}, such as {place}=0.8."
        )
    return place, number


def read_shard(text: str) -> tuple[int, int]:
    """A part and the number of parts: ``"2/4"`` is the second of four.

    Raises:
        SettingsError: the text names no part.
    """
    match = fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    number, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= count:
        raise SettingsError(f"--shard is {text[:60]!r}; give a part and their number, such as 1/4.")
    return number, count


def _validated(record: type[Settings], given: Mapping[str, Any], before: str) -> None:
    one = _first_wrong(record, given)
    if one is None:
        return
    value = shown(given.get(one.field))
    raise SettingsError(f"{before}The setting {one.name!r} is {value}; give {one.expected}.")


def _first_wrong(record: type[Settings], given: Mapping[str, Any]) -> Option | None:
    """The first option that cannot have its value.

    Pydantic takes whatever has a ``__float__`` for a number, such as a ``Decimal`` or NumPy's
    float32, which neither torch nor JSON does.
    """
    from pydantic import ValidationError

    for one in options(record):
        value, number = given.get(one.field), (int,) if float in one.kinds else ()
        if value is not None and not isinstance(value, one.kinds + number):
            return one
    try:
        model_of(record).model_validate(dict(given))
    except ValidationError as error:
        wrong = str(error.errors(include_input=False, include_url=False)[0]["loc"][0])
        return next(one for one in options(record) if wrong in (one.field, one.name))
    return None
