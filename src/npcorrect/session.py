"""One way in for every face: settings, checked; a session of model, roles and rankers; policy.

``check`` refuses, without torch, whatever could not work. ``open_session`` loads and connects, and
closes at the end what it opened.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from PIL.Image import Image

from npcorrect import settings as declared
from npcorrect.card import Card, CardModel
from npcorrect.diffusion.base import ImageModel, TextEncoder
from npcorrect.errors import SettingsError
from npcorrect.extras import requiring
from npcorrect.loop import Correction, OnEvent, correct, sized
from npcorrect.plan import Plan, plan, refuse_idle_weight
from npcorrect.provenance import Provenance, provenance
from npcorrect.ranking import DEFAULT_RANKER, Ranker, ranker_maker
from npcorrect.records import Checklist, Generation, Request
from npcorrect.remote.family import ServerFamily, server_family
from npcorrect.result import Result
from npcorrect.settings import LoadSettings, RoleSettings
from npcorrect.vlm import addresses, build
from npcorrect.vlm.roles import Roles
from npcorrect.vlm.settings import VLMSettings, VLMTable

if TYPE_CHECKING:
    from npcorrect.diffusion.families import FamilySpec
    from npcorrect.diffusion.pipeline import PipelineModel
    from npcorrect.remote.model import ServerModel

    Family = FamilySpec | ServerFamily

S = TypeVar("S", bound=declared.Settings)
DEVICES = ("cuda", "mps", "cpu")
EMBEDDED = "mini"
"""What the embedded model is called."""
SOURCE_RANKER = "source"
"""The ranker of models that need none: a server lends no text encoder, and the embedded roles
propose the best negative first."""


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """What a session opens: the image model, the roles, and how servers are reached.

    Raises:
        SettingsError: one of them is no record of its kind.
    """

    load: LoadSettings = field(default_factory=LoadSettings)
    roles: RoleSettings = field(default_factory=RoleSettings)
    table: VLMTable = field(default_factory=VLMTable)

    def __post_init__(self) -> None:
        """Refuse what is no settings."""
        for name, kind in (("load", LoadSettings), ("roles", RoleSettings), ("table", VLMTable)):
            declared.check_kind(
                getattr(self, name), kind, f"setting {name!r}", f"a {kind.__name__}"
            )

    @property
    def vlm(self) -> VLMSettings:
        """How the models that play roles are asked; local ones run where the image model does."""
        device, dtype = self.load.device or "cpu", self.load.dtype or "float32"
        return VLMSettings(self.roles, self.table, device, dtype)

    @property
    def embedded(self) -> bool:
        """Whether the image model is the embedded one, which brings roles of its own."""
        return self.load.model == EMBEDDED

    @property
    def on_server(self) -> bool:
        """Whether the image model is on a server."""
        return addresses.is_server(self.load.model)

    def policy(self, request: Request) -> Request:
        """The request as faces send it, with the ranker that suits the model.

        Each look of a named verifier is paid for, so it must be asked for.

        Raises:
            SettingsError: it is no ``Request``.
        """
        declared.check_kind(request, Request, "request", "a Request")
        looks = request.looks if self.roles.embedded_verifier else request.looks or 0
        default = SOURCE_RANKER if self.on_server or self.embedded else DEFAULT_RANKER
        return replace(request, looks=looks, ranker=request.ranker or default)


def check(
    settings: SessionSettings, request: Request | None = None, original: Image | None = None
) -> Plan | None:
    """Refuse what could not work, before weights are loaded, anyone is asked or a folder is made.

    Returns the plan of the request, where there is one. ``original`` is the picture that it is to
    correct.

    Raises:
        InputError: a setting cannot work, alone or with the others.
    """
    declared.check_kind(settings, SessionSettings, "argument 'settings'", "SessionSettings")
    declared.check(settings.load)
    device = settings.load.device
    if device is not None and device.partition(":")[0] not in DEVICES:
        raise SettingsError(f"The device {device[:60]!r} is unknown; use {', '.join(DEVICES)}.")
    if settings.roles.embedded_verifier and not settings.embedded:
        raise SettingsError(
            f"The model {settings.load.model!r} is {family_of(settings.load).title}, whose "
            "pictures the embedded verifier cannot read; name a vision-language model that looks "
            "at them with --vlm."
        )
    build.check_roles(settings.vlm, settings.embedded)
    family = family_of(settings.load)
    if settings.on_server:
        _server(settings.load.model, settings.table)
    return None if request is None else check_request(settings, request, family, original)


def check_device(settings: LoadSettings) -> None:
    """Refuse an accelerator that is not on this machine; torch is imported where one is named.

    Raises:
        ModelError: it is not there.
        SettingsError: torch is not installed.
    """
    if settings.device in (None, "cpu"):
        return
    with requiring("Drawing"):
        from npcorrect.diffusion.memory import require_device

    require_device(settings.device)


def check_request(
    settings: SessionSettings,
    request: Request,
    family: Family,
    original: Image | None = None,
) -> Plan:
    """Refuse a request that could not work with settings that could; see :func:`check`.

    Raises:
        InputError: a setting cannot work, alone or with the others.
    """
    asked = settings.policy(request)
    planned = asked
    if original is not None:
        planned = sized(asked, original)
        check_original(settings, original)
    made = plan(planned, family, family.defaults)
    if settings.on_server and asked.ranker != SOURCE_RANKER:
        raise SettingsError(
            f"The ranker {asked.ranker!r} needs the model's text encoder, which {family.title} "
            f"does not lend; use {SOURCE_RANKER!r}."
        )
    if asked.rule is None:
        refuse_idle_weight(asked, family.defaults.rule, family)
    return made


def check_original(settings: SessionSettings, original: Image) -> None:
    """Refuse a picture that the embedded verifier, where it is to look, cannot read.

    Raises:
        SettingsError: it is of another size.
    """
    from npcorrect.mini.family import FAMILY

    sides = FAMILY.defaults.sizes
    if settings.roles.embedded_verifier and not {*original.size} <= {*sides}:
        raise SettingsError(
            f"The original, of size {original.width} x {original.height} pixels, cannot be read by "
            f"the embedded verifier, which takes sides of {', '.join(map(str, sides))}; scale it, "
            "or name a vision-language model that looks at it with --vlm."
        )


def check_ranker(name: str, model: ImageModel) -> None:
    """Refuse a ranker that reads texts as a model does which lends no encoder.

    Raises:
        SettingsError: the model has none.
    """
    if name != SOURCE_RANKER and not hasattr(model, "encode"):
        raise SettingsError(
            f"The ranker {name!r} needs a text encoder, which {model.name!r} has not; use "
            f"{SOURCE_RANKER!r}."
        )


@dataclass(frozen=True)
class Session:
    """An image model, the roles and the rankers, ready to correct one prompt after the other."""

    model: ImageModel
    roles: Roles
    settings: SessionSettings = field(default_factory=SessionSettings)

    @cached_property
    def _ranker(self) -> Any:
        """The ranker of a name, made once: rankers remember the texts that they have seen."""

        @cache
        def named(name: str) -> Ranker:
            check_ranker(name, self.model)
            encoder: TextEncoder = self.model  # type: ignore[assignment]
            return ranker_maker(name)(encoder)

        return named

    @cached_property
    def family(self) -> Family:
        """The family of the session's model, identified once."""
        return family_of(self.settings.load)

    @cached_property
    def provenance(self) -> Provenance:
        """How the pictures of this session are made and judged."""
        return made_with(self.model, self.settings)

    def ranker(self, name: str) -> Ranker:
        """The ranker of this name.

        Raises:
            SettingsError: there is none, or the model has no text encoder for it.
        """
        ranker: Ranker = self._ranker(name)
        return ranker

    def correct(
        self,
        request: Request,
        on_event: OnEvent | None = None,
        *,
        checklist: Checklist | None = None,
        original: Image | Generation | None = None,
        begun: Result | None = None,
    ) -> Correction:
        """A correction of one prompt; see :func:`npcorrect.loop.correct`.

        Raises:
            InputError: the request cannot work.
        """
        asked = self.settings.policy(request)
        return correct(
            asked,
            self.model,
            self.roles,
            self.ranker(asked.ranker or DEFAULT_RANKER),
            on_event,
            checklist=checklist,
            original=original,
            begun=begun,
            made_with=self.provenance,
        )


@contextmanager
def open_session(settings: SessionSettings) -> Generator[Session]:
    """Connect the roles, load the model, and let go of both at the end.

    Servers are asked first: what is missing there should not wait for large weights. Where networks
    are offloaded, a VLM of this machine takes turns on the card with the image model.

    Raises:
        InputError: a setting cannot work, or a model is not to be had.
    """
    check(settings)
    check_device(settings.load)
    embedded = None
    if settings.embedded:
        embedded = embedded_roles()
    card = Card() if settings.load.offload != "none" else None
    with (
        build.roles(settings.vlm, embedded, card) as roles,
        open_model(settings) as model,
    ):
        if settings.on_server:  # its pictures may be paid for: none is drawn ahead, in vain
            roles = replace(roles, overlap=False)
        shared = CardModel(model, card) if card and roles.turns else model
        yield Session(shared, roles, settings)


@contextmanager
def open_model(settings: SessionSettings, *, named: bool = True) -> Generator[ImageModel]:
    """The image model, loaded or connected, and let go of at the end.

    ``named`` says that the user named it; only then may a server have NPC_MODEL_KEY.

    Raises:
        InputError: it is not to be had.
    """
    if not settings.on_server:
        yield load_model(settings.load)
        return
    with closing(_on_server(settings, named)) as model:
        model.connect()
        yield model


def _on_server(settings: SessionSettings, named: bool) -> ServerModel:
    name = settings.load.model
    server, key = _server(name, settings.table, named)
    from npcorrect.remote.model import ServerModel

    policy, memory = settings.table.retry_policy, build.memory_of(settings.vlm)
    return ServerModel(name, server, key, retry_policy=policy, memory=memory)


def _server(name: str, table: VLMTable, named: bool = True) -> tuple[addresses.Server, str]:
    """The server that draws, and its key.

    Raises:
        SettingsError: the name is not understood, or a key is missing.
    """
    server = addresses.image_server(name)
    chosen = name if named else None
    return server, addresses.key_for(server, table.keys, chosen, "NPC_MODEL_KEY")


def made_with(model: ImageModel | None, settings: SessionSettings) -> Provenance:
    """How pictures of a model, loaded by these settings, are made and judged.

    Without the model, what only a loaded one knows stays empty.

    Raises:
        ModelError: its weights cannot be read.
    """
    embedded = Path(__file__).with_name("mini") / "weights"
    weights = embedded if settings.embedded else Path(settings.load.model)
    return provenance(model, settings.load, settings.roles, weights, _lender(settings.load))


def _lender(load: LoadSettings) -> str:
    """The Hub id or folder that lends a single file what it lacks; empty for other models."""
    if not Path(load.model).is_file():
        return ""
    from npcorrect.diffusion.identify import identify

    return identify(load).base


def load_model(settings: LoadSettings) -> PipelineModel:
    """The image model that the settings name, in this process.

    Raises:
        ModelError: it is missing, gated, corrupt, of no known family, or too large for memory.
        SettingsError: a setting is unknown, or cannot be had here; the model is on a server.
    """
    declared.check(settings)
    if addresses.is_server(settings.model):
        raise SettingsError(
            f"The model {settings.model!r} is on a server, where neither its attention nor its "
            "text encoder can be seen; give a Hub id, a folder or a file."
        )
    if settings.model != EMBEDDED:
        with requiring("Drawing"):
            from npcorrect.diffusion.loading import load_pipeline

        return load_pipeline(settings)
    family_of(settings)
    with requiring("Drawing"):
        from npcorrect.mini.embedded import embedded

    return embedded(settings.device or "cpu", settings.dtype or "float32")


def embedded_roles() -> Roles:
    """The roles that the embedded model brings.

    Raises:
        SettingsError: what draws is not installed.
    """
    with requiring("The embedded verifier"):
        from npcorrect.mini.roles import embedded_roles

    return embedded_roles()


def read_requirements(prompt: str, settings: LoadSettings) -> Checklist:
    """What a prompt asks for, read by the model's own grammar or the general one; asks nobody.

    Raises:
        PromptError: the prompt is not understood.
    """
    from npcorrect.vlm.grammar import GrammarChecklister

    if settings.model != EMBEDDED:
        return GrammarChecklister().checklist(prompt)
    from npcorrect.mini.checklist import MiniChecklister

    return MiniChecklister().checklist(prompt)


def family_of(settings: LoadSettings) -> Family:
    """The family of the model that the settings name, without its weights.

    Raises:
        ModelError: there is no such model, or no family for it.
        SettingsError: an option is not for the embedded model, or for one on a server.
    """
    if addresses.is_server(settings.model):
        _refuse_loading(settings, "one on a server")
        return server_family(settings.model)
    if settings.model != EMBEDDED:
        from npcorrect.diffusion.identify import identify

        return identify(settings).family
    from npcorrect.mini.family import FAMILY

    _refuse_loading(settings, "the embedded one")
    return FAMILY


def _refuse_loading(settings: LoadSettings, which: str) -> None:
    """Refuse how weights are loaded where there are none to load."""
    idle = LoadSettings(model=settings.model, device=settings.device, dtype=settings.dtype)
    for one in declared.options(LoadSettings):
        if getattr(settings, one.field) != getattr(idle, one.field):
            raise SettingsError(
                f"--{one.name} is for models from the Hub or from files; {which} needs none."
            )
