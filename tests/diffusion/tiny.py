"""A tiny pipeline with random weights for each family: no download, a few milliseconds a step.

The classes are the stock ones that the real checkpoints name; only the configurations are small.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import torch
import transformers
from diffusers.hooks import group_offloading
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn

SIZE = 64
"""Height and width in pixels that every tiny pipeline draws."""
PROMPT, NEGATIVE, OTHER = "three red circles", "four circles", "one small blue star"
WIDTH = 32
GAIN = 2.0

_IMAGE_TEMPLATE = (
    "system describe the image by detailing the color, shape, size, texture, quantity, text, "
    "spatial relationships of the objects and background: user assistant you are a prompt engineer."
)
_LUMINA_TEMPLATE = (
    "you are an assistant designed to generate superior images with the superior degree of "
    "image-text alignment based on textual prompts or user prompts. <prompt start>"
)
_OVIS_TEMPLATE = (
    "user describe the image by detailing the color, quantity, text, shape, size, texture, spatial "
    "relationships of the objects and background: "
)
_WORDS = (
    "zero one two three four five six small large tiny red blue green yellow pink purple black "
    "white circle circles square squares star stars cross crosses heart hearts triangle triangles "
    "cat cats dog dogs a an on in with no to left right of above below and wooden table striped "
    "background photo painting next only think"
)
_SPECIAL = (
    "<pad>",
    "<unk>",
    "</s>",
    "<bos>",
    "<|startoftext|>",
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
)
_CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _vocabulary() -> dict[str, int]:
    templates = f"{_IMAGE_TEMPLATE} {_LUMINA_TEMPLATE} {_OVIS_TEMPLATE} {_WORDS}"
    words = pre_tokenizers.Whitespace().pre_tokenize_str(templates)
    tokens = (*_SPECIAL, "\n", "<", ">", *(word for word, _ in words))
    return {token: place for place, token in enumerate(dict.fromkeys(tokens))}


VOCABULARY = _vocabulary()


def tokenizer(
    start: str = "",
    end: str = "",
    pad: str = "<pad>",
    length: int = 1024,
    kind: type[Any] = transformers.PreTrainedTokenizerFast,
) -> Any:
    """A token per word, mark and line break; ``start`` and ``end`` frame every text.

    With ``start=end=""`` it frames nothing, as Qwen's; the chat template is Qwen's in short.
    """
    core = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[^\S\n]+"), "removed"),
            pre_tokenizers.Split(Regex(r"\n|[^\w\s]"), "isolated"),
        ]
    )
    if start or end:
        frame = [token for token in (start, end) if token]
        core.post_processor = processors.TemplateProcessing(
            single=" ".join(filter(None, (start, "$A", end))),
            special_tokens=[(token, VOCABULARY[token]) for token in frame],
        )
    made = kind(
        tokenizer_object=core,
        pad_token=pad,
        unk_token="<unk>",
        bos_token=start or None,
        eos_token=end or "<|im_end|>",
        model_max_length=length,
        padding_side="right",
    )
    made.add_special_tokens(
        {"additional_special_tokens": [AddedToken(t, normalized=False) for t in _SPECIAL[6:]]}
    )
    made.chat_template = _CHAT_TEMPLATE
    return made


class TextProcessor(transformers.PreTrainedTokenizerFast):  # type: ignore[misc, unused-ignore]
    """Takes the arguments of a Qwen2-VL processor, whose picture half needs torchvision."""

    def __call__(
        self, text: Any = None, images: None = None, videos: None = None, **kwargs: Any
    ) -> Any:
        return super().__call__(text, **kwargs)


def clip_tokenizer() -> Any:
    return tokenizer("<|startoftext|>", "<|endoftext|>", pad="<|endoftext|>", length=77)


def t5_tokenizer() -> Any:
    return tokenizer(end="</s>")


def gemma_tokenizer() -> Any:
    return tokenizer(start="<bos>")


def clip(projection: bool = False) -> Any:
    config = transformers.CLIPTextConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=WIDTH,
        intermediate_size=37,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        bos_token_id=VOCABULARY["<|startoftext|>"],
        eos_token_id=VOCABULARY["<|endoftext|>"],
        pad_token_id=VOCABULARY["<|endoftext|>"],
    )
    if projection:
        return transformers.CLIPTextModelWithProjection(config)
    return transformers.CLIPTextModel(config)


def t5(width: int = WIDTH) -> Any:
    config = transformers.T5Config(
        vocab_size=len(VOCABULARY),
        d_model=width,
        d_kv=8,
        d_ff=37,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        pad_token_id=VOCABULARY["<pad>"],
        eos_token_id=VOCABULARY["</s>"],
        decoder_start_token_id=VOCABULARY["<pad>"],
    )
    return transformers.T5EncoderModel(config)


def umt5() -> Any:
    config = transformers.UMT5Config(
        vocab_size=len(VOCABULARY),
        d_model=WIDTH,
        d_kv=8,
        d_ff=37,
        num_layers=2,
        num_heads=4,
        pad_token_id=VOCABULARY["<pad>"],
        eos_token_id=VOCABULARY["</s>"],
    )
    return transformers.UMT5EncoderModel(config)


def gemma() -> Any:
    config = transformers.Gemma2Config(
        vocab_size=len(VOCABULARY),
        hidden_size=WIDTH,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        pad_token_id=VOCABULARY["<pad>"],
        bos_token_id=VOCABULARY["<bos>"],
        eos_token_id=VOCABULARY["</s>"],
    )
    return transformers.Gemma2Model(config)


def _qwen_text(layers: int) -> dict[str, Any]:
    return {
        "vocab_size": len(VOCABULARY),
        "hidden_size": WIDTH,
        "intermediate_size": 37,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "pad_token_id": VOCABULARY["<pad>"],
        "bos_token_id": VOCABULARY["<bos>"],
        "eos_token_id": VOCABULARY["<|im_end|>"],
    }


def qwen_vl() -> Any:
    text = _qwen_text(2) | {
        "rope_parameters": {
            "rope_type": "default",
            "mrope_section": [2, 3, 3],
            "rope_theta": 1e6,
        }
    }
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": WIDTH,
    }
    config = transformers.Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=0,
        video_token_id=0,
        vision_start_token_id=0,
        vision_end_token_id=0,
    )
    return transformers.Qwen2_5_VLForConditionalGeneration(config)


def qwen3_vl(layers: int) -> Any:
    text = _qwen_text(layers) | {
        "head_dim": 16,
        "rope_parameters": {
            "rope_type": "default",
            "mrope_section": [4, 2, 2],
            "rope_theta": 1e6,
        },
    }
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": WIDTH,
        "deepstack_visual_indexes": [0],
    }
    config = transformers.Qwen3VLConfig(text_config=text, vision_config=vision)
    return transformers.Qwen3VLModel(config)


def qwen3(layers: int, causal: bool) -> Any:
    config = transformers.Qwen3Config(**_qwen_text(layers), head_dim=8)
    return transformers.Qwen3ForCausalLM(config) if causal else transformers.Qwen3Model(config)


def vae(channels: int, kind: type[Any] = diffusers.AutoencoderKL, **changes: Any) -> Any:
    """An autoencoder that shrinks a side by 8, as all but Sana's do."""
    settings: dict[str, Any] = {
        "block_out_channels": (8, 8, 8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "latent_channels": channels,
        "layers_per_block": 1,
        "norm_num_groups": 2,
        "sample_size": SIZE,
    }
    return kind(**settings | changes)


def qwen_vae() -> Any:
    return diffusers.AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )


def flow_scheduler(**settings: Any) -> Any:
    return diffusers.FlowMatchEulerDiscreteScheduler(**settings)


def _unet(**changes: Any) -> Any:
    settings: dict[str, Any] = {
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "sample_size": SIZE // 8,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 2,
        "cross_attention_dim": WIDTH,
        "norm_num_groups": 2,
    }
    return diffusers.UNet2DConditionModel(**settings | changes)


def sd15() -> Any:
    return diffusers.StableDiffusionPipeline(
        unet=_unet(),
        scheduler=diffusers.PNDMScheduler(
            skip_prk_steps=True, beta_schedule="scaled_linear", steps_offset=1
        ),
        vae=vae(4),
        text_encoder=clip(),
        tokenizer=clip_tokenizer(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl() -> Any:
    unet = _unet(
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=6 * 8 + WIDTH,
        cross_attention_dim=2 * WIDTH,
    )
    return diffusers.StableDiffusionXLPipeline(
        unet=unet,
        scheduler=diffusers.EulerDiscreteScheduler(
            beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"
        ),
        vae=vae(4, latents_mean=None, latents_std=None),
        text_encoder=clip(),
        text_encoder_2=clip(projection=True),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )


def sdxl_turbo() -> Any:
    pipeline = sdxl()
    pipeline.scheduler = diffusers.EulerAncestralDiscreteScheduler(
        beta_schedule="scaled_linear", timestep_spacing="trailing"
    )
    return pipeline


def sd3(dual: bool = False) -> Any:
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=SIZE // 8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=WIDTH,
        joint_attention_dim=2 * WIDTH,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=16,
        qk_norm="rms_norm" if dual else None,
        dual_attention_layers=(0,) if dual else (),
    )
    return diffusers.StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=flow_scheduler(shift=3.0),
        vae=vae(4, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06),
        text_encoder=clip(projection=True),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip(projection=True),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5(2 * WIDTH),
        tokenizer_3=t5_tokenizer(),
    )


def sd35() -> Any:
    return sd3(dual=True)


def flux(guidance_embeds: bool = True) -> Any:
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=guidance_embeds,
    )
    return diffusers.FluxPipeline(
        transformer=transformer,
        scheduler=flow_scheduler(shift=3.0, use_dynamic_shifting=guidance_embeds),
        vae=vae(4, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1),
        text_encoder=clip(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5(),
        tokenizer_2=t5_tokenizer(),
    )


def flux_schnell() -> Any:
    return flux(guidance_embeds=False)


def qwen_image() -> Any:
    transformer = diffusers.QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(8, 4, 4),
    )
    return diffusers.QwenImagePipeline(
        transformer=transformer,
        scheduler=flow_scheduler(use_dynamic_shifting=True),
        vae=qwen_vae(),
        text_encoder=qwen_vl(),
        tokenizer=tokenizer(),
    )


def krea2() -> Any:
    transformer = diffusers.Krea2Transformer2DModel(
        in_channels=16,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=48,
        timestep_embed_dim=16,
        text_hidden_dim=WIDTH,
        text_num_attention_heads=2,
        text_num_key_value_heads=2,
        text_intermediate_size=48,
        num_text_layers=2,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
        axes_dims_rope=(8, 4, 4),
    )
    return diffusers.Krea2Pipeline(
        transformer=transformer,
        scheduler=flow_scheduler(use_dynamic_shifting=True),
        vae=qwen_vae(),
        text_encoder=qwen3_vl(3),
        tokenizer=tokenizer(),
        text_encoder_select_layers=(1, 2),
    )


def chroma() -> Any:
    transformer = diffusers.ChromaTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
        approximator_hidden_dim=32,
        approximator_layers=1,
        approximator_num_channels=16,
    )
    return diffusers.ChromaPipeline(
        transformer=transformer,
        scheduler=flow_scheduler(),
        vae=vae(4, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1),
        text_encoder=t5(),
        tokenizer=t5_tokenizer(),
    )


def bria() -> Any:
    transformer = diffusers.BriaTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        axes_dims_rope=[4, 4, 8],
    )
    return diffusers.BriaPipeline(
        transformer=transformer,
        scheduler=flow_scheduler(use_dynamic_shifting=True),
        vae=vae(4, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1),
        text_encoder=t5(),
        tokenizer=t5_tokenizer(),
    )


def pixart_sigma() -> Any:
    transformer = diffusers.PixArtTransformer2DModel(
        sample_size=SIZE // 8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        caption_channels=WIDTH,
        in_channels=4,
        cross_attention_dim=24,
        out_channels=8,
        norm_type="ada_norm_single",
        use_additional_conditions=False,
    )
    return diffusers.PixArtSigmaPipeline(
        transformer=transformer,
        scheduler=diffusers.DPMSolverMultistepScheduler(),
        vae=vae(4),
        text_encoder=t5(),
        tokenizer=t5_tokenizer(),
    )


def pixart_alpha() -> Any:
    return diffusers.PixArtAlphaPipeline(**pixart_sigma().components)


def sana() -> Any:
    transformer = diffusers.SanaTransformer2DModel(
        sample_size=SIZE // 8,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        num_attention_heads=2,
        attention_head_dim=4,
        num_cross_attention_heads=2,
        cross_attention_head_dim=4,
        cross_attention_dim=8,
        caption_channels=WIDTH,
    )
    codec = diffusers.AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock",) * 3 + ("EfficientViTBlock",),
        decoder_block_types=("ResBlock",) * 3 + ("EfficientViTBlock",),
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        encoder_layers_per_block=(1,) * 4,
        decoder_layers_per_block=(1,) * 4,
        encoder_qkv_multiscales=((), (), (), (5,)),
        decoder_qkv_multiscales=((), (), (), (5,)),
        upsample_block_type="interpolate",
        downsample_block_type="stride_conv",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )
    return diffusers.SanaPipeline(
        transformer=transformer,
        scheduler=diffusers.DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        vae=codec,
        text_encoder=gemma(),
        tokenizer=gemma_tokenizer(),
    )


def lumina2() -> Any:
    transformer = diffusers.Lumina2Transformer2DModel(
        sample_size=SIZE // 8,
        patch_size=2,
        in_channels=4,
        hidden_size=24,
        num_layers=2,
        num_refiner_layers=1,
        num_attention_heads=3,
        num_kv_heads=1,
        multiple_of=2,
        axes_dim_rope=(4, 2, 2),
        axes_lens=(300, 32, 32),
        cap_feat_dim=WIDTH,
    )
    return diffusers.Lumina2Pipeline(
        transformer=transformer,
        scheduler=flow_scheduler(shift=6.0),
        vae=vae(4, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1),
        text_encoder=gemma(),
        tokenizer=gemma_tokenizer(),
    )


def aura_flow() -> Any:
    transformer = diffusers.AuraFlowTransformer2DModel(
        sample_size=SIZE // 8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=WIDTH,
        caption_projection_dim=WIDTH,
        pos_embed_max_size=64,
    )
    return diffusers.AuraFlowPipeline(
        transformer=transformer,
        scheduler=flow_scheduler(shift=1.73),
        vae=vae(4),
        text_encoder=umt5(),
        tokenizer=t5_tokenizer(),
    )


def ovis_image() -> Any:
    transformer = diffusers.OvisImageTransformer2DModel(
        patch_size=1,
        in_channels=16,
        out_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
    )
    chat_tokenizer = tokenizer()  # as many tokens before the text as the pipeline leaves out
    chat_tokenizer.chat_template = _CHAT_TEMPLATE.replace("\n{{ m.content", " {{ m.content")
    return diffusers.OvisImagePipeline(
        transformer=transformer,
        scheduler=flow_scheduler(use_dynamic_shifting=True),
        vae=vae(4, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1),
        text_encoder=qwen3(2, causal=False),
        tokenizer=chat_tokenizer,
    )


def kandinsky5() -> Any:
    transformer = diffusers.Kandinsky5Transformer3DModel(
        in_visual_dim=4,
        in_text_dim=WIDTH,
        in_text_dim2=WIDTH,
        time_dim=16,
        out_visual_dim=4,
        model_dim=32,
        ff_dim=48,
        num_text_blocks=1,
        num_visual_blocks=2,
        axes_dims=(4, 6, 6),
    )
    pipeline = diffusers.Kandinsky5T2IPipeline(
        transformer=transformer,
        scheduler=flow_scheduler(shift=3.0),
        vae=vae(4, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=qwen_vl(),
        tokenizer=tokenizer(kind=TextProcessor),
        text_encoder_2=clip(),
        tokenizer_2=clip_tokenizer(),
    )
    pipeline.resolutions = [(SIZE, SIZE)]
    return pipeline


def z_image() -> Any:
    transformer = diffusers.ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=WIDTH,
        axes_dims=[8, 4, 4],
        axes_lens=[1024, 32, 32],
    )
    return diffusers.ZImagePipeline(
        transformer=transformer,
        scheduler=flow_scheduler(shift=3.0),
        vae=vae(4, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1),
        text_encoder=qwen3(3, causal=False),
        tokenizer=tokenizer(),
    )


def flux2_klein(distilled: bool = False) -> Any:
    transformer = diffusers.Flux2Transformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * WIDTH,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    return diffusers.Flux2KleinPipeline(
        transformer=transformer,
        scheduler=flow_scheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae(4, diffusers.AutoencoderKLFlux2),
        text_encoder=qwen3(28, causal=True),
        tokenizer=tokenizer(),
        is_distilled=distilled,
    )


def flux2_klein_distilled() -> Any:
    return flux2_klein(distilled=True)


BUILDERS: dict[str, Callable[[], Any]] = {
    "sd15": sd15,
    "sdxl": sdxl,
    "sdxl-turbo": sdxl_turbo,
    "sd3": sd3,
    "sd35": sd35,
    "sd35-turbo": sd35,
    "flux-dev": flux,
    "flux-schnell": flux_schnell,
    "qwen-image": qwen_image,
    "krea2": krea2,
    "chroma": chroma,
    "bria": bria,
    "pixart-sigma": pixart_sigma,
    "pixart-alpha": pixart_alpha,
    "sana": sana,
    "lumina2": lumina2,
    "aura-flow": aura_flow,
    "ovis-image": ovis_image,
    "kandinsky5": kandinsky5,
    "z-image": z_image,
    "z-image-turbo": z_image,
    "flux2-klein": flux2_klein_distilled,
    "flux2-klein-base": flux2_klein,
}


def _in_no_group(_module: nn.Module) -> None:
    """No tiny part is offloaded in groups; diffusers looks through all of them at every draw."""


group_offloading._get_top_level_group_offload_hook = _in_no_group


def build(family: str, seed: int = 0) -> Any:
    """The family's tiny pipeline, in evaluation mode, without progress bars."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = BUILDERS[family]()
        for part in pipeline.components.values():
            if isinstance(part, nn.Module):
                part.eval().requires_grad_(False)
        _wake(denoiser(pipeline))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def build_modular() -> Any:
    """A modular pipeline of the parts of the tiny ``sdxl``."""
    made = diffusers.StableDiffusionXLAutoBlocks().init_pipeline()
    parts = {name: part for name, part in build("sdxl").components.items() if part is not None}
    made.update_components(**{name: parts[name] for name in made.component_names if name in parts})
    made.set_progress_bar_config(disable=True)
    return made


def denoiser(pipeline: Any) -> Any:
    return pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer


def _wake(module: nn.Module) -> None:
    """Fill weights that start at zero and enlarge the others, so that text shows in the picture."""
    for weight in module.parameters():
        if weight.ndim > 1:
            if weight.any():
                weight.mul_(GAIN)
            else:
                nn.init.normal_(weight, std=0.2)
