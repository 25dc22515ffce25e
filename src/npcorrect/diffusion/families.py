"""One row for each family of diffusion models: all that the wrapper must know of it.

Each row says where its defaults come from; the window is that of the method's released code, which
knows FLUX.1 [dev] alone. Nothing here loads a weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil
from typing import Any, Literal

from npcorrect.diffusion import latents
from npcorrect.diffusion.attention import AttentionSite, AttentionSpec
from npcorrect.diffusion.calls import Calls
from npcorrect.diffusion.nag import NagSpec
from npcorrect.diffusion.rules import RULES, Rule
from npcorrect.diffusion.text import TextSpec, between, chat, lowered, prompt_template
from npcorrect.diffusion.vsf import VsfSpec
from npcorrect.plan import Defaults


def _defaults(
    steps: int,
    scale: float,
    size: int,
    length: int,
    multiple: int = 16,
    rule: str = "paper",
    nag_scale: float = 4.0,
) -> Defaults:
    """Defaults of a real model; its window, looks and mu of rule ``extra`` are not measured yet."""
    return Defaults(
        num_inference_steps=steps,
        true_cfg_scale=scale,
        negative_scale=1.0,
        rule=rule,
        window=1.0,
        looks=0,
        fresh_from=0,
        sizes=(size,),
        max_sequence_length=length,
        multiple=multiple,
        nag_scale=nag_scale,
    )


def any_text(text: str) -> None:
    """Accept every text: the check of families that can be asked for anything."""


@dataclass(frozen=True)
class FamilySpec:
    """A family of models.

    ``pipeline`` is the diffusers class. ``calls`` says how it asks its denoiser for the branches,
    ``scale_argument`` what it calls the guidance scale, and ``scale_offset`` what must be added to
    that for ``v_neg + scale (v_pos - v_neg)``. ``after`` the window the conditional branch stands
    ``alone``, or guidance goes on against the ``empty`` text, which is ``empty`` here (None: what
    the pipeline makes of no negative). ``arguments`` go into every call. ``distilled`` says why
    guidance cannot act, where it cannot. ``restarts`` says that its pipeline takes latents as its
    denoiser does, and so can begin with a noised picture. ``single`` pipelines draw a batch one by
    one, because their pictures depend on their neighbours' lengths. ``rescales`` says that a guided
    prediction gets the positive one's norm. ``sign`` is -1 where the denoiser predicts the negative
    velocity. ``nag`` and ``vsf`` say how it takes these rules. ``decode`` makes pixels of clean
    latents, ``encode`` clean latents of pixels, where a draw can begin with a picture that exists.
    ``check_prompt`` and ``check_negative`` refuse prompts and standing negatives that the model
    knows nothing of. ``checkpoints`` are well-known members on the Hub, ``source`` says whose
    defaults these are.
    """

    name: str
    title: str
    pipeline: str
    calls: Calls
    text: TextSpec
    defaults: Defaults
    checkpoints: tuple[str, ...] = ()
    source: str = "its diffusers pipeline"
    scale_argument: Literal["guidance_scale", "true_cfg_scale"] = "guidance_scale"
    scale_offset: float = 0.0
    after: Literal["alone", "empty"] = "empty"
    empty: str | None = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    negative_as: Literal["text", "embeddings"] = "text"
    distilled: str = ""
    restarts: bool = False
    nag: NagSpec | None = None
    vsf: VsfSpec | None = None
    single: bool = False
    rescales: bool = False
    sign: int = 1
    decode: latents.Decode = latents.decode_plain
    encode: latents.Encode | None = None
    check_prompt: Callable[[str], None] = any_text
    check_negative: Callable[[str], None] = any_text

    @property
    def windows(self) -> bool:
        """True: a negative can act in a part of the steps."""
        return True

    @property
    def denoiser(self) -> str:
        """The name of the pipeline's component that predicts: ``unet`` or ``transformer``."""
        return "unet" if self.calls.state[0] == "sample" else "transformer"

    @property
    def guides_always(self) -> bool:
        """Whether plain pictures are drawn under guidance too."""
        return self.after == "empty"

    @property
    def least_scale(self) -> float:
        """The true CFG scale above which the pipeline makes a second branch."""
        return 1.0 - self.scale_offset

    @cached_property
    def rules(self) -> Mapping[str, type[Rule]]:
        """The rules by which a negative can act, by name."""
        return {
            name: rule
            for name, rule in RULES.items()
            if (rule.guided and not self.distilled) or self.attention(name) is not None
        }

    def attention(self, rule: str) -> AttentionSpec | None:
        """How the family takes a rule that acts within attention, by its name; None: not at all."""
        specs: dict[str, AttentionSpec | None] = {"nag": self.nag, "vsf": self.vsf}
        return specs.get(rule)


_T5 = TextSpec((("tokenizer", "text_encoder"),))
_CLIP = TextSpec((("tokenizer", "text_encoder"),), masked=False, padded=True)
_FLUX_T5 = TextSpec((("tokenizer_2", "text_encoder_2"),), masked=False, padded=True)
_UNET = Calls("negative first", ("sample", "timestep"))
_FLUX_CALLS = Calls("separate", shared=("txt_ids", "img_ids"))
# The strengths of NAG, and `nag_scale` in the defaults, are the reference's. It has no code for
# SD 1.x, PixArt and Sana, which take SDXL's, nor for Chroma, FLUX.2 and Z-Image, which take
# FLUX.1's and the paper's L1 norm.
_CROSS = NagSpec((AttentionSite(r".*\.attn2"),), alpha=0.5, keeps=("added_cond_kwargs",))
_SD3_SITES = (AttentionSite(r"transformer_blocks\.\d+\.attn"),)
_DOUBLE_AND_SINGLE = (
    AttentionSite(r"transformer_blocks\.\d+\.attn"),
    AttentionSite(r"single_transformer_blocks\.\d+\.attn", "last", projected=False),
)
_FLUX_NAG = NagSpec(_DOUBLE_AND_SINGLE, norm=2, positive=r"transformer_blocks\.\d+\.norm1")
_JOINT_2 = NagSpec(
    (
        AttentionSite(r"transformer_blocks\.\d+\.attn"),
        AttentionSite(r"single_transformer_blocks\.\d+\.attn", "last"),
    )
)
_AS_ASKED = {"use_resolution_binning": False, "clean_caption": False}


def _z_image_tokens(images: Any) -> int:
    """Image tokens of Z-Image: patches of 2 x 2, padded to a multiple of 32."""
    _, _, height, width = images[0].shape
    return 32 * ceil(int(height // 2 * (width // 2)) / 32)


SD15 = FamilySpec(
    "sd15",
    "Stable Diffusion 1.x",
    "StableDiffusionPipeline",
    _UNET,
    _CLIP,
    _defaults(50, 7.5, 512, 77, multiple=8, nag_scale=2.0),
    ("stable-diffusion-v1-5/stable-diffusion-v1-5",),
    nag=_CROSS,
)
SDXL = FamilySpec(
    "sdxl",
    "Stable Diffusion XL",
    "StableDiffusionXLPipeline",
    _UNET,
    TextSpec(
        (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2")),
        layers=(-2,),
        masked=False,
        padded=True,
    ),
    _defaults(50, 5.0, 1024, 77, multiple=8, nag_scale=2.0),
    ("stabilityai/stable-diffusion-xl-base-1.0",),
    empty=None,
    nag=_CROSS,
)
SDXL_TURBO = replace(
    SDXL,
    name="sdxl-turbo",
    source="the model card",
    title="SDXL-Turbo",
    defaults=_defaults(4, 0.0, 512, 77, multiple=8, rule="nag", nag_scale=2.0),
    checkpoints=("stabilityai/sdxl-turbo",),
    after="alone",
    distilled="SDXL-Turbo was distilled to draw without guidance, in 1 to 4 steps",
)
SD3 = FamilySpec(
    "sd3",
    "Stable Diffusion 3",
    "StableDiffusion3Pipeline",
    Calls("negative first"),
    TextSpec((("tokenizer_3", "text_encoder_3"),), masked=False, padded=True),
    _defaults(28, 7.0, 1024, 256),
    ("stabilityai/stable-diffusion-3-medium-diffusers",),
    nag=NagSpec(_SD3_SITES, alpha=0.125, keeps=("pooled_projections",)),
    restarts=True,
    encode=latents.encode_plain,
)
SD35 = replace(
    SD3,
    name="sd35",
    source="the model card",
    title="Stable Diffusion 3.5",
    defaults=_defaults(28, 3.5, 1024, 256),
    checkpoints=(
        "stabilityai/stable-diffusion-3.5-large",
        "stabilityai/stable-diffusion-3.5-medium",
    ),
)
SD35_TURBO = replace(
    SD35,
    name="sd35-turbo",
    source="the model card",
    title="Stable Diffusion 3.5 Large Turbo",
    defaults=_defaults(4, 0.0, 1024, 256, rule="nag"),
    vsf=VsfSpec(_SD3_SITES, "last", beta=0.1, clips=("tokenizer", "tokenizer_2")),
    checkpoints=("stabilityai/stable-diffusion-3.5-large-turbo",),
    after="alone",
    distilled="Stable Diffusion 3.5 Turbo was distilled to draw without guidance, in 4 steps",
)
FLUX_DEV = FamilySpec(
    "flux-dev",
    "FLUX.1 [dev]",
    "FluxPipeline",
    _FLUX_CALLS,
    _FLUX_T5,
    _defaults(50, 1.8, 1024, 512),
    ("black-forest-labs/FLUX.1-dev",),
    "the method's released code",
    scale_argument="true_cfg_scale",
    after="alone",
    arguments={"guidance_scale": 3.5},
    nag=_FLUX_NAG,
    decode=latents.decode_packed,
    encode=latents.encode_packed,
    restarts=True,
)
FLUX_SCHNELL = replace(
    FLUX_DEV,
    name="flux-schnell",
    source="the model card",
    title="FLUX.1 [schnell]",
    defaults=replace(_defaults(4, 1.0, 1024, 256, rule="nag"), vsf_scale=6.0),
    vsf=VsfSpec(_DOUBLE_AND_SINGLE, "first"),
    checkpoints=("black-forest-labs/FLUX.1-schnell",),
    arguments={"guidance_scale": 0.0},
    distilled="FLUX.1 [schnell] was distilled to draw without guidance, in 1 to 4 steps",
)
QWEN_IMAGE = FamilySpec(
    "qwen-image",
    "Qwen-Image",
    "QwenImagePipeline",
    Calls("separate"),
    TextSpec(
        (("tokenizer", "text_encoder"),),
        layers=(-1,),
        template=prompt_template("prompt_template_encode"),
    ),
    _defaults(50, 4.0, 1328, 1024),
    ("Qwen/Qwen-Image", "Qwen/Qwen-Image-2512"),
    "its diffusers pipeline; the size from the model card",
    scale_argument="true_cfg_scale",
    empty=" ",
    rescales=True,
    decode=latents.decode_qwen,
    restarts=True,
)
KREA2 = FamilySpec(
    "krea2",
    "Krea 2",
    "Krea2Pipeline",
    Calls("separate", shared=("position_ids",)),
    TextSpec(
        (("tokenizer", "text_encoder"),),
        template=between("prompt_template_encode_prefix", "prompt_template_encode_suffix"),
    ),
    _defaults(28, 4.5, 1024, 512),
    ("krea/Krea-2-Raw",),
    scale_offset=1.0,
    decode=latents.decode_krea2,
    restarts=True,
)
CHROMA = FamilySpec(
    "chroma",
    "Chroma",
    "ChromaPipeline",
    _FLUX_CALLS,
    _T5,
    _defaults(35, 5.0, 1024, 512),
    ("lodestones/Chroma1-HD",),
    nag=NagSpec(_DOUBLE_AND_SINGLE),
    decode=latents.decode_packed,
    encode=latents.encode_packed,
    restarts=True,
)
BRIA = FamilySpec(
    "bria",
    "BRIA 3.2",
    "BriaPipeline",
    Calls("negative first", shared=("txt_ids", "img_ids")),
    _T5,
    _defaults(30, 5.0, 1024, 128),
    ("briaai/BRIA-3.2",),
    decode=latents.decode_packed,
    encode=latents.encode_packed,
    restarts=True,
)
PIXART_SIGMA = FamilySpec(
    "pixart-sigma",
    "PixArt-Sigma",
    "PixArtSigmaPipeline",
    Calls("negative first"),
    replace(_T5, template=lowered),
    _defaults(20, 4.5, 1024, 300, nag_scale=2.0),
    ("PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",),
    arguments=_AS_ASKED,
    nag=_CROSS,
)
PIXART_ALPHA = replace(
    PIXART_SIGMA,
    name="pixart-alpha",
    title="PixArt-Alpha",
    pipeline="PixArtAlphaPipeline",
    defaults=_defaults(20, 4.5, 1024, 120),
    checkpoints=("PixArt-alpha/PixArt-XL-2-1024-MS",),
)
SANA = FamilySpec(
    "sana",
    "Sana",
    "SanaPipeline",
    Calls("negative first"),
    replace(_T5, template=lowered),
    _defaults(20, 4.5, 1024, 300, multiple=32, nag_scale=2.0),
    ("Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers",),
    arguments=_AS_ASKED,
    nag=_CROSS,
)
LUMINA2 = FamilySpec(
    "lumina2",
    "Lumina-Image 2.0",
    "Lumina2Pipeline",
    Calls("separate"),
    TextSpec(
        (("tokenizer", "text_encoder"),),
        layers=(-2,),
        prompt_template=lambda pipeline, text: f"{pipeline.system_prompt} <Prompt Start> {text}",
    ),
    _defaults(30, 4.0, 1024, 256),
    ("Alpha-VLLM/Lumina-Image-2.0",),
    rescales=True,
    sign=-1,
    restarts=True,
    encode=latents.encode_plain,
)
AURA_FLOW = FamilySpec(
    "aura-flow",
    "AuraFlow",
    "AuraFlowPipeline",
    Calls("negative first"),
    _T5,
    _defaults(50, 3.5, 1024, 256),
    ("fal/AuraFlow",),
    restarts=True,
    encode=latents.encode_plain,
)
OVIS_IMAGE = FamilySpec(
    "ovis-image",
    "Ovis-Image",
    "OvisImagePipeline",
    _FLUX_CALLS,
    TextSpec((("tokenizer", "text_encoder"),), template=chat(thinking=False, after_system=True)),
    _defaults(50, 5.0, 1024, 256),
    ("AIDC-AI/Ovis-Image-7B",),
    decode=latents.decode_packed,
    encode=latents.encode_packed,
    restarts=True,
)
KANDINSKY5 = FamilySpec(
    "kandinsky5",
    "Kandinsky 5.0",
    "Kandinsky5T2IPipeline",
    Calls("separate", shared=("visual_rope_pos", "text_rope_pos", "scale_factor")),
    TextSpec(
        (("tokenizer", "text_encoder"),),
        layers=(-1,),
        masked=False,
        template=prompt_template("prompt_template"),
    ),
    replace(_defaults(50, 3.5, 1024, 512), multiple=0),
    ("kandinskylab/Kandinsky-5.0-T2I-Lite-sft-Diffusers",),
    single=True,
    decode=latents.decode_kandinsky,
)
Z_IMAGE = FamilySpec(
    "z-image",
    "Z-Image",
    "ZImagePipeline",
    Calls("positive first", ("x", "t")),
    TextSpec((("tokenizer", "text_encoder"),), layers=(-2,), template=chat(thinking=True)),
    _defaults(50, 5.0, 1024, 512),
    ("Tongyi-MAI/Z-Image",),
    scale_offset=1.0,
    nag=NagSpec((AttentionSite(r"layers\.\d+\.attention", "first"),), image_tokens=_z_image_tokens),
    sign=-1,
    decode=latents.decode_listed,
)
Z_IMAGE_TURBO = replace(
    Z_IMAGE,
    name="z-image-turbo",
    source="the model card",
    title="Z-Image-Turbo",
    defaults=_defaults(9, 0.0, 1024, 512, rule="nag"),
    checkpoints=("Tongyi-MAI/Z-Image-Turbo",),
    after="alone",
    distilled="Z-Image-Turbo was distilled to draw without guidance, in 8 steps",
)
FLUX2_KLEIN_BASE = FamilySpec(
    "flux2-klein-base",
    "FLUX.2 [klein] base",
    "Flux2KleinPipeline",
    Calls("separate"),
    TextSpec((("tokenizer", "text_encoder"),), layers=(9, 18, 27), template=chat(thinking=False)),
    _defaults(50, 4.0, 1024, 512),
    ("black-forest-labs/FLUX.2-klein-base-4B", "black-forest-labs/FLUX.2-klein-base-9B"),
    negative_as="embeddings",
    nag=_JOINT_2,
    decode=latents.decode_flux2,
)
FLUX2_KLEIN = replace(
    FLUX2_KLEIN_BASE,
    name="flux2-klein",
    source="the model card",
    title="FLUX.2 [klein]",
    defaults=_defaults(4, 1.0, 1024, 512, rule="nag"),
    checkpoints=("black-forest-labs/FLUX.2-klein-4B", "black-forest-labs/FLUX.2-klein-9B"),
    after="alone",
    distilled="FLUX.2 [klein] was distilled to draw without guidance, in 4 steps",
)

FAMILIES: dict[str, FamilySpec] = {
    family.name: family
    for family in (
        FLUX_DEV,
        FLUX_SCHNELL,
        SD15,
        SDXL,
        SDXL_TURBO,
        SD3,
        SD35,
        SD35_TURBO,
        QWEN_IMAGE,
        KREA2,
        CHROMA,
        BRIA,
        PIXART_SIGMA,
        PIXART_ALPHA,
        SANA,
        LUMINA2,
        AURA_FLOW,
        OVIS_IMAGE,
        KANDINSKY5,
        Z_IMAGE,
        Z_IMAGE_TURBO,
        FLUX2_KLEIN_BASE,
        FLUX2_KLEIN,
    )
}


def families_of(pipeline: str) -> Sequence[FamilySpec]:
    """The families of a diffusers pipeline class, by its name; empty where there is none."""
    return [family for family in FAMILIES.values() if family.pipeline == pipeline]
