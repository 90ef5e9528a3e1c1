"""Hugging Face transformers for `symmetry_coverage.py`: a tiny random network of every family, no
pretrained weights.

Sizes differ wherever a configuration lets them, so that equal sizes cannot hide a wrong tie;
batches are of two. Texts carry a padding mask. Networks are called as users call them, without a
cache of keys and values, and nothing is wrapped; but where a network returns hidden states beside
its answer, which fixes them, a hook keeps the answer (`ANSWERS`).
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from coverage_networks import CLASSES, Build, Built, torchvision
from torch import Tensor

Options = Mapping[str, Any]

VOCABULARY, LENGTH = 37, 7
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 22,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 31,
    "max_position_embeddings": 41,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ROTARY = {
    **TEXT,
    "hidden_size": 28,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "use_cache": False,
}
EVEN = {**{k: v for k, v in ROTARY.items() if k != "head_dim"}, "hidden_size": 24}
"""For families whose head size is the hidden size divided by the number of heads."""
GPT2 = {
    "vocab_size": VOCABULARY,
    "n_embd": 22,
    "n_layer": 2,
    "n_head": 2,
    "n_inner": 31,
    "n_positions": 41,
    "use_cache": False,
}
GPTJ = {**GPT2, "n_embd": 24, "n_head": 2, "rotary_dim": 4}
CROSS = {
    "vocab_size": VOCABULARY,
    "d_model": 22,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 31,
    "decoder_ffn_dim": 29,
    "max_position_embeddings": 41,
    "use_cache": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 22,
    "d_kv": 5,
    "d_ff": 31,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 3,
    "use_cache": False,
    "decoder_start_token_id": 0,
}
SPEECH = {
    "vocab_size": VOCABULARY,
    "hidden_size": 22,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 31,
    "conv_dim": (17, 19, 23),
    "conv_stride": (3, 2, 2),
    "conv_kernel": (7, 3, 3),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "mask_time_prob": 0.0,
}
VISION = {
    "hidden_size": 22,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 31,
    "image_size": 30,
    "patch_size": 6,
    "num_labels": CLASSES,
}
LABELS = {"num_labels": CLASSES}


def text(**more: Any) -> Options:
    """Token ids, with a mask that hides the end of the second text."""
    ids = torch.randint(3, VOCABULARY, (2, LENGTH))
    mask = torch.ones_like(ids)
    mask[1, -2:] = 0
    return {"input_ids": ids, "attention_mask": mask, **more}


def ids_only() -> Options:
    """Token ids."""
    return {"input_ids": torch.randint(3, VOCABULARY, (2, LENGTH))}


def long(length: int) -> Options:
    """A text of a length that blocks divide."""
    return {
        "input_ids": torch.randint(3, VOCABULARY, (2, length)),
        "attention_mask": torch.ones(2, length, dtype=torch.long),
    }


def translation() -> Options:
    """Texts of a source and a target."""
    return {**text(), "decoder_input_ids": torch.randint(3, VOCABULARY, (2, 5))}


def image(side: int = 30, channels: int = 3) -> Options:
    """Two images."""
    return {"pixel_values": torch.randn(2, channels, side, side)}


def wave() -> Options:
    """Two sounds."""
    return {"input_values": torch.randn(2, 400)}


def spectrum() -> Options:
    """Mel features and the beginning of a text."""
    return {
        "input_features": torch.randn(2, 13, 22),
        "decoder_input_ids": torch.randint(3, VOCABULARY, (2, 5)),
    }


def boxes() -> Options:
    """Words on a page."""
    return text(bbox=torch.tensor([1, 2, 5, 8]).expand(2, LENGTH, 4))


def pairs() -> Options:
    """Texts and images."""
    return {**text(), **image()}


def noise() -> Options:
    """Images, and the order in which patches are hidden."""
    return {**image(), "noise": torch.rand(2, 25)}


def bytes_() -> Options:
    """Token ids, under the name that Perceiver gives them."""
    return {
        "inputs": torch.randint(3, VOCABULARY, (2, LENGTH)),
        "attention_mask": torch.ones(2, LENGTH),
    }


def both(vision: Options, **rest: Any) -> Options:
    """Configuration of a pair of towers."""
    words = {**TEXT, "eos_token_id": 36}
    return {
        "text_config": words,
        "vision_config": {k: v for k, v in vision.items() if k != "num_labels"},
        **rest,
    }


NETWORKS: dict[str, tuple[Options, Callable[[], Options]]] = {
    # texts, both directions
    "BertForMaskedLM": (TEXT, text),
    "BertForSequenceClassification": ({**TEXT, **LABELS}, text),
    "RobertaForMaskedLM": (TEXT, text),
    "XLMRobertaForMaskedLM": (TEXT, text),
    "CamembertForMaskedLM": (TEXT, text),
    "DistilBertForMaskedLM": (
        {
            "vocab_size": 37,
            "dim": 22,
            "n_layers": 2,
            "n_heads": 2,
            "hidden_dim": 31,
            "max_position_embeddings": 41,
        },
        text,
    ),
    "AlbertForMaskedLM": ({**TEXT, "embedding_size": 17}, text),
    "ElectraForMaskedLM": ({**TEXT, "embedding_size": 17}, text),
    "ErnieForMaskedLM": (TEXT, text),
    "DebertaForMaskedLM": (
        {**TEXT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
        text,
    ),
    "DebertaV2ForMaskedLM": (
        {**TEXT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 5},
        text,
    ),
    "MPNetForMaskedLM": ({**TEXT, "relative_attention_num_buckets": 32}, text),
    "XLNetLMHeadModel": (
        {"vocab_size": 37, "d_model": 22, "n_layer": 2, "n_head": 2, "d_inner": 31},
        text,
    ),
    "XLMWithLMHeadModel": (
        {
            "vocab_size": 37,
            "emb_dim": 22,
            "n_layers": 2,
            "n_heads": 2,
            "max_position_embeddings": 41,
        },
        text,
    ),
    "FlaubertWithLMHeadModel": (
        {
            "vocab_size": 37,
            "emb_dim": 22,
            "n_layers": 2,
            "n_heads": 2,
            "max_position_embeddings": 41,
        },
        text,
    ),
    "FNetForMaskedLM": ({**TEXT, "use_tpu_fourier_optimizations": False}, ids_only),
    "MobileBertForMaskedLM": (
        {
            **TEXT,
            "embedding_size": 13,
            "true_hidden_size": 22,
            "intra_bottleneck_size": 22,
            "hidden_size": 34,
            "num_feedforward_networks": 2,
        },
        text,
    ),
    "SqueezeBertForMaskedLM": (
        {
            **TEXT,
            "embedding_size": 22,
            "intermediate_size": 34,
            "q_groups": 2,
            "k_groups": 2,
            "v_groups": 2,
            "post_attention_groups": 1,
            "intermediate_groups": 2,
            "output_groups": 2,
        },
        text,
    ),
    "ConvBertForMaskedLM": (
        {
            **TEXT,
            "hidden_size": 28,
            "num_attention_heads": 4,
            "head_ratio": 2,
            "embedding_size": 17,
            "conv_kernel_size": 3,
        },
        text,
    ),
    "LongformerForMaskedLM": ({**TEXT, "attention_window": 4}, partial(long, 8)),
    "BigBirdForMaskedLM": ({**TEXT, "attention_type": "original_full"}, text),
    "BigBirdForMaskedLM sparse": (
        {
            **TEXT,
            "attention_type": "block_sparse",
            "block_size": 4,
            "num_random_blocks": 1,
            "max_position_embeddings": 64,
        },
        partial(long, 48),
    ),
    "FunnelForMaskedLM": (
        {
            "vocab_size": 37,
            "d_model": 22,
            "n_head": 2,
            "d_head": 11,
            "d_inner": 31,
            "block_sizes": [2, 2],
            "num_decoder_layers": 2,
        },
        text,
    ),
    "NystromformerForMaskedLM": (
        {**TEXT, "num_landmarks": 4, "segment_means_seq_len": 8, "conv_kernel_size": 3},
        lambda: {"input_ids": torch.randint(3, VOCABULARY, (2, 8))},
    ),
    "RemBertForMaskedLM": ({**TEXT, "input_embedding_size": 17, "output_embedding_size": 19}, text),
    "RoFormerForMaskedLM": ({**TEXT, "hidden_size": 24, "embedding_size": 17}, text),
    "MegatronBertForMaskedLM": (TEXT, text),
    "ModernBertForMaskedLM": (
        {
            **TEXT,
            "hidden_size": 24,
            "global_attn_every_n_layers": 2,
            "local_attention": 4,
            "num_hidden_layers": 3,
        },
        text,
    ),
    "YosoForMaskedLM": ({**TEXT, "use_expectation": True}, text),
    "LayoutLMForMaskedLM": ({**TEXT, "max_2d_position_embeddings": 53}, boxes),
    "LayoutLMv3ForTokenClassification": (
        {
            **TEXT,
            **LABELS,
            "max_2d_position_embeddings": 53,
            "coordinate_size": 3,
            "shape_size": 5,
            "visual_embed": False,
        },
        boxes,
    ),
    "PerceiverForMaskedLM": (
        {
            "vocab_size": 37,
            "d_model": 24,
            "d_latents": 26,
            "num_latents": 5,
            "num_blocks": 1,
            "num_self_attends_per_block": 2,
            "num_self_attention_heads": 2,
            "num_cross_attention_heads": 2,
            "max_position_embeddings": LENGTH,
            "qk_channels": 14,
            "v_channels": 26,
        },
        bytes_,
    ),
    "CanineModel": (
        {
            **TEXT,
            "num_hash_functions": 2,
            "num_hash_buckets": 23,
            "local_transformer_stride": 4,
            "downsampling_rate": 4,
            "upsampling_kernel_size": 3,
        },
        partial(long, 16),
    ),
    # texts, one direction
    "GPT2LMHeadModel": (GPT2, text),
    "OpenAIGPTLMHeadModel": (
        {k: v for k, v in GPT2.items() if k not in ("n_inner", "use_cache")},
        ids_only,
    ),
    "GPTBigCodeForCausalLM": (GPT2, text),
    "GPTNeoForCausalLM": (
        {
            "vocab_size": 37,
            "hidden_size": 22,
            "num_layers": 2,
            "num_heads": 2,
            "intermediate_size": 31,
            "window_size": 3,
            "max_position_embeddings": 41,
            "attention_types": [[["global", "local"], 1]],
            "use_cache": False,
        },
        text,
    ),
    "GPTNeoXForCausalLM": ({**TEXT, "hidden_size": 24, "use_cache": False}, text),
    "GPTJForCausalLM": (GPTJ, text),
    "CodeGenForCausalLM": ({**GPTJ, "n_embd": 48, "n_head": 4}, text),
    "OPTForCausalLM": (
        {
            "vocab_size": 37,
            "hidden_size": 22,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "ffn_dim": 31,
            "word_embed_proj_dim": 17,
            "max_position_embeddings": 41,
            "use_cache": False,
        },
        text,
    ),
    "BloomForCausalLM": (
        {"vocab_size": 37, "hidden_size": 22, "n_layer": 2, "n_head": 2, "use_cache": False},
        text,
    ),
    "LlamaForCausalLM": (ROTARY, text),
    "MistralForCausalLM": ({**ROTARY, "sliding_window": 3}, text),
    "MixtralForCausalLM": (
        {**ROTARY, "num_local_experts": 3, "num_experts_per_tok": 2, "intermediate_size": 32},
        text,
    ),
    "Qwen2ForCausalLM": (EVEN, text),
    "Qwen2MoeForCausalLM": (
        {
            **EVEN,
            "num_experts": 3,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 28,
            "shared_expert_intermediate_size": 23,
        },
        text,
    ),
    "Qwen3ForCausalLM": (ROTARY, text),
    "Qwen3MoeForCausalLM": (
        {
            **ROTARY,
            "num_experts": 3,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "decoder_sparse_step": 1,
        },
        text,
    ),
    "DeepseekV3ForCausalLM": (
        {
            **{k: v for k, v in ROTARY.items() if k != "head_dim"},
            "hidden_size": 28,
            "num_key_value_heads": 4,
            "q_lora_rank": 13,
            "kv_lora_rank": 11,
            "qk_rope_head_dim": 4,
            "qk_nope_head_dim": 5,
            "v_head_dim": 7,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "topk_group": 1,
            "first_k_dense_replace": 1,
            "moe_intermediate_size": 32,
        },
        text,
    ),
    "GptOssForCausalLM": (
        {
            **ROTARY,
            "hidden_size": 24,
            "num_local_experts": 3,
            "num_experts_per_tok": 2,
            "intermediate_size": 32,
            "sliding_window": 3,
        },
        text,
    ),
    "JambaForCausalLM": (
        {
            **EVEN,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "num_experts": 3,
            "intermediate_size": 32,
            "mamba_d_state": 5,
            "mamba_dt_rank": 7,
            "use_mamba_kernels": False,
        },
        text,
    ),
    "RecurrentGemmaForCausalLM": (
        {
            **EVEN,
            "num_hidden_layers": 3,
            "lru_width": 20,
            "attention_window_size": 5,
            "intermediate_size": 62,
        },
        text,
    ),
    "GemmaForCausalLM": (ROTARY, text),
    "Gemma2ForCausalLM": ({**ROTARY, "query_pre_attn_scalar": 6, "sliding_window": 3}, text),
    "Gemma3ForCausalLM": ({**ROTARY, "query_pre_attn_scalar": 6, "sliding_window": 3}, text),
    "PhiForCausalLM": ({**EVEN, "hidden_size": 40, "partial_rotary_factor": 0.4}, text),
    "Phi3ForCausalLM": (EVEN, text),
    "FalconForCausalLM": (
        {**EVEN, "new_decoder_architecture": True, "num_kv_heads": 2, "ffn_hidden_size": 31},
        text,
    ),
    "FalconForCausalLM alibi": (
        {
            **TEXT,
            "hidden_size": 24,
            "alibi": True,
            "multi_query": False,
            "new_decoder_architecture": False,
            "ffn_hidden_size": 31,
            "use_cache": False,
        },
        text,
    ),
    "StableLmForCausalLM": ({**EVEN, "hidden_size": 40, "partial_rotary_factor": 0.4}, text),
    "CohereForCausalLM": (EVEN, text),
    "OlmoForCausalLM": (EVEN, text),
    "Olmo2ForCausalLM": (EVEN, text),
    "OlmoeForCausalLM": (
        {**EVEN, "num_experts": 3, "num_experts_per_tok": 2, "intermediate_size": 32},
        text,
    ),
    "Starcoder2ForCausalLM": (EVEN, text),
    "GraniteForCausalLM": (EVEN, text),
    "SmolLM3ForCausalLM": (EVEN, text),
    "Glm4ForCausalLM": (ROTARY, text),
    "NemotronForCausalLM": (ROTARY, text),
    "MptForCausalLM": (
        {
            "vocab_size": 37,
            "d_model": 22,
            "n_layers": 2,
            "n_heads": 2,
            "expansion_ratio": 3,
            "max_seq_len": 41,
            "use_cache": False,
        },
        text,
    ),
    "BioGptForCausalLM": ({**TEXT, "use_cache": False}, text),
    "XGLMForCausalLM": (
        {
            "vocab_size": 37,
            "d_model": 22,
            "num_layers": 2,
            "attention_heads": 2,
            "ffn_dim": 31,
            "max_position_embeddings": 41,
            "use_cache": False,
        },
        text,
    ),
    "CTRLLMHeadModel": (
        {
            "vocab_size": 37,
            "n_embd": 22,
            "n_layer": 2,
            "n_head": 2,
            "dff": 31,
            "n_positions": 41,
            "use_cache": False,
        },
        text,
    ),
    "MambaForCausalLM": (
        {
            "vocab_size": 37,
            "hidden_size": 22,
            "state_size": 5,
            "num_hidden_layers": 2,
            "expand": 2,
            "conv_kernel": 3,
            "time_step_rank": 7,
            "use_cache": False,
        },
        ids_only,
    ),
    "Mamba2ForCausalLM": (
        {
            "vocab_size": 37,
            "hidden_size": 24,
            "state_size": 5,
            "num_hidden_layers": 2,
            "expand": 2,
            "conv_kernel": 3,
            "num_heads": 6,
            "head_dim": 8,
            "n_groups": 2,
            "chunk_size": 4,
            "use_cache": False,
        },
        ids_only,
    ),
    "RwkvForCausalLM": (
        {
            "vocab_size": 37,
            "hidden_size": 22,
            "attention_hidden_size": 26,
            "intermediate_size": 31,
            "num_hidden_layers": 2,
            "context_length": 41,
            "use_cache": False,
        },
        ids_only,
    ),
    # texts to texts
    "T5ForConditionalGeneration": (T5, translation),
    "MT5ForConditionalGeneration": ({**T5, "feed_forward_proj": "gated-gelu"}, translation),
    "UMT5ForConditionalGeneration": (T5, translation),
    "LongT5ForConditionalGeneration": ({**T5, "local_radius": 3}, translation),
    "SwitchTransformersForConditionalGeneration": (
        {
            **T5,
            "num_experts": 3,
            "expert_capacity": 64,
            "num_sparse_encoder_layers": 1,
            "num_sparse_decoder_layers": 1,
        },
        translation,
    ),
    "BartForConditionalGeneration": (CROSS, translation),
    "MBartForConditionalGeneration": (CROSS, translation),
    "PegasusForConditionalGeneration": (CROSS, translation),
    "MarianMTModel": (CROSS, translation),
    "BlenderbotForConditionalGeneration": (CROSS, translation),
    "M2M100ForConditionalGeneration": (CROSS, translation),
    "LEDForConditionalGeneration": (
        {
            **{k: v for k, v in CROSS.items() if k != "max_position_embeddings"},
            "attention_window": 4,
            "max_encoder_position_embeddings": 41,
            "max_decoder_position_embeddings": 43,
        },
        lambda: {**long(8), "decoder_input_ids": torch.randint(3, VOCABULARY, (2, 5))},
    ),
    "ProphetNetForConditionalGeneration": (
        {
            "vocab_size": 37,
            "hidden_size": 22,
            "encoder_ffn_dim": 31,
            "num_encoder_layers": 2,
            "num_encoder_attention_heads": 2,
            "decoder_ffn_dim": 29,
            "num_decoder_layers": 2,
            "num_decoder_attention_heads": 2,
            "max_position_embeddings": 41,
            "use_cache": False,
            "decoder_start_token_id": 1,
            "ngram": 2,
        },
        translation,
    ),
    # sounds
    "WhisperForConditionalGeneration": (
        {
            **{k: v for k, v in CROSS.items() if k != "max_position_embeddings"},
            "num_mel_bins": 13,
            "max_source_positions": 11,
            "max_target_positions": 43,
        },
        spectrum,
    ),
    "Wav2Vec2ForCTC": (SPEECH, wave),
    "HubertForCTC": (SPEECH, wave),
    "WavLMForCTC": (SPEECH, wave),
    "SEWForCTC": ({**SPEECH, "squeeze_factor": 2}, wave),
    "UniSpeechForCTC": (SPEECH, wave),
    "ASTForAudioClassification": (
        {
            **{k: v for k, v in VISION.items() if k != "image_size"},
            "patch_size": 4,
            "frequency_stride": 3,
            "time_stride": 3,
            "max_length": 19,
            "num_mel_bins": 13,
        },
        lambda: {"input_values": torch.randn(2, 19, 13)},
    ),
    # images
    "ViTForImageClassification": (VISION, image),
    "DeiTForImageClassification": (VISION, image),
    "BeitForImageClassification": ({**VISION, "use_relative_position_bias": True}, image),
    "Data2VecVisionForImageClassification": ({**VISION, "use_relative_position_bias": True}, image),
    "ViTMSNForImageClassification": (VISION, image),
    "ViTMAEForPreTraining": (
        {
            **VISION,
            "decoder_hidden_size": 28,
            "decoder_num_attention_heads": 2,
            "decoder_num_hidden_layers": 2,
            "decoder_intermediate_size": 29,
        },
        noise,
    ),
    "Dinov2ForImageClassification": (VISION, image),
    "Dinov2WithRegistersForImageClassification": (VISION, image),
    "DINOv3ViTModel": ({**VISION, "hidden_size": 24}, image),
    "HieraForImageClassification": (
        {
            "embed_dim": 12,
            "image_size": [32, 32],
            "patch_size": [7, 7],
            "patch_stride": [4, 4],
            "patch_padding": [3, 3],
            "mlp_ratio": 3.0,
            "depths": [1, 1, 2, 1],
            "num_heads": [2, 2, 4, 8],
            "masked_unit_size": [8, 8],
            "query_stride": [2, 2],
            "num_query_pool": 3,
            **LABELS,
        },
        partial(image, 32),
    ),
    "SwinForImageClassification": (
        {
            "image_size": 32,
            "patch_size": 2,
            "embed_dim": 10,
            "depths": [2, 2],
            "num_heads": [2, 4],
            "window_size": 4,
            "mlp_ratio": 3.0,
            **LABELS,
        },
        partial(image, 32),
    ),
    "Swinv2ForImageClassification": (
        {
            "image_size": 32,
            "patch_size": 2,
            "embed_dim": 10,
            "depths": [2, 2],
            "num_heads": [2, 4],
            "window_size": 4,
            "mlp_ratio": 3.0,
            **LABELS,
        },
        partial(image, 32),
    ),
    "ConvNextForImageClassification": (
        {"hidden_sizes": [11, 13, 17, 19], "depths": [1, 1, 2, 1], **LABELS},
        partial(image, 64),
    ),
    "ConvNextV2ForImageClassification": (
        {"hidden_sizes": [11, 13, 17, 19], "depths": [1, 1, 2, 1], **LABELS},
        partial(image, 64),
    ),
    "CvtForImageClassification": (
        {
            "embed_dim": [11, 14, 18],
            "num_heads": [1, 2, 3],
            "depth": [1, 2, 3],
            "patch_sizes": [7, 3, 3],
            **LABELS,
        },
        partial(image, 64),
    ),
    "FocalNetForImageClassification": (
        {
            "image_size": 32,
            "embed_dim": 10,
            "depths": [1, 2],
            "hidden_sizes": [10, 20],
            "focal_levels": [2, 2],
            "focal_windows": [3, 3],
            **LABELS,
        },
        partial(image, 32),
    ),
    "PoolFormerForImageClassification": (
        {"hidden_sizes": [11, 13, 17, 19], "depths": [1, 1, 2, 1], **LABELS},
        partial(image, 64),
    ),
    "PvtForImageClassification": (
        {
            "hidden_sizes": [11, 14, 18, 20],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 3, 4],
            "image_size": 64,
            **LABELS,
        },
        partial(image, 64),
    ),
    "LevitForImageClassification": (
        {
            "image_size": 64,
            "hidden_sizes": [16, 24, 32],
            "num_attention_heads": [2, 3, 4],
            "depths": [1, 1, 1],
            "key_dim": [5, 5, 5],
            "down_ops": [["Subsample", 5, 3, 2, 2, 2], ["Subsample", 5, 4, 2, 2, 2]],
            **LABELS,
        },
        partial(image, 64),
    ),
    "SegformerForSemanticSegmentation": (
        {
            "hidden_sizes": [11, 14, 18, 20],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 3, 4],
            "decoder_hidden_size": 23,
            **LABELS,
        },
        partial(image, 64),
    ),
    "MobileViTForImageClassification": (
        {
            "image_size": 64,
            "hidden_sizes": [12, 16, 20],
            "neck_hidden_sizes": [8, 11, 13, 17, 19, 23, 29],
            "num_attention_heads": 2,
            **LABELS,
        },
        partial(image, 64),
    ),
    "MobileViTV2ForImageClassification": (
        {"image_size": 64, "width_multiplier": 0.25, **LABELS},
        partial(image, 64),
    ),
    "MobileNetV2ForImageClassification": (
        {"image_size": 64, "depth_multiplier": 0.35, **LABELS},
        partial(image, 64),
    ),
    "EfficientNetForImageClassification": (
        {
            "image_size": 64,
            "width_coefficient": 0.25,
            "depth_coefficient": 0.3,
            "hidden_dim": 320,
            **LABELS,
        },
        partial(image, 64),
    ),
    "RegNetForImageClassification": (
        {
            "embedding_size": 11,
            "hidden_sizes": [12, 18, 24, 30],
            "depths": [1, 1, 2, 1],
            "groups_width": 6,
            **LABELS,
        },
        partial(image, 64),
    ),
    "ResNetForImageClassification": (
        {"embedding_size": 11, "hidden_sizes": [12, 20, 28, 36], "depths": [1, 1, 2, 1], **LABELS},
        partial(image, 64),
    ),
    "BitForImageClassification": (
        {
            "embedding_size": 12,
            "hidden_sizes": [16, 24, 32, 40],
            "depths": [1, 1, 2, 1],
            "num_groups": 2,
            **LABELS,
        },
        partial(image, 64),
    ),
    "DPTForSemanticSegmentation": (
        {
            **VISION,
            "num_hidden_layers": 4,
            "image_size": 24,
            "backbone_out_indices": [0, 1, 2, 3],
            "neck_hidden_sizes": [11, 13, 17, 19],
            "fusion_hidden_size": 23,
            "reassemble_factors": [4, 2, 1, 0.5],
        },
        partial(image, 24),
    ),
    "VideoMAEForVideoClassification": (
        {**VISION, "num_frames": 4, "tubelet_size": 2},
        lambda: {"pixel_values": torch.randn(2, 4, 3, 30, 30)},
    ),
    "TimesformerForVideoClassification": (
        {**VISION, "num_frames": 3},
        lambda: {"pixel_values": torch.randn(2, 3, 3, 30, 30)},
    ),
    # texts and images
    "CLIPModel": (both(VISION, projection_dim=17), pairs),
    "SiglipModel": (
        {
            "text_config": {**TEXT, "projection_size": 22, "max_position_embeddings": LENGTH},
            "vision_config": {k: v for k, v in VISION.items() if k != "num_labels"},
        },
        pairs,
    ),
    "AltCLIPModel": (
        {
            "text_config": {**TEXT, "project_dim": 17},
            "vision_config": {k: v for k, v in VISION.items() if k != "num_labels"},
            "projection_dim": 17,
        },
        pairs,
    ),
    "ViltForQuestionAnswering": (
        {**TEXT, **LABELS, "image_size": 30, "patch_size": 6, "max_image_length": -1},
        pairs,
    ),
    "BlipForImageTextRetrieval": (
        {
            "text_config": {
                **TEXT,
                "encoder_hidden_size": 22,
                "bos_token_id": 1,
                "sep_token_id": 2,
            },
            "vision_config": {k: v for k, v in VISION.items() if k != "num_labels"},
            "image_text_hidden_size": 17,
        },
        pairs,
    ),
    # series, actions
    "DecisionTransformerModel": (
        {
            "state_dim": 5,
            "act_dim": 3,
            "hidden_size": 22,
            "n_head": 2,
            "n_layer": 2,
            "n_inner": 31,
            "max_ep_len": 41,
        },
        lambda: {
            "states": torch.randn(2, 5, 5),
            "actions": torch.randn(2, 5, 3),
            "rewards": torch.randn(2, 5, 1),
            "returns_to_go": torch.randn(2, 5, 1),
            "timesteps": torch.arange(5).expand(2, 5),
            "attention_mask": torch.ones(2, 5, dtype=torch.long),
        },
    ),
    "PatchTSTForPrediction": (
        {
            "num_input_channels": 3,
            "context_length": 24,
            "patch_length": 4,
            "patch_stride": 4,
            "d_model": 22,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "ffn_dim": 31,
            "prediction_length": 5,
        },
        lambda: {"past_values": torch.randn(2, 24, 3)},
    ),
    "PatchTSMixerForPrediction": (
        {
            "num_input_channels": 3,
            "context_length": 24,
            "patch_length": 4,
            "patch_stride": 4,
            "d_model": 11,
            "num_layers": 2,
            "prediction_length": 5,
        },
        lambda: {"past_values": torch.randn(2, 24, 3)},
    ),
}


ANSWERS = {
    "XLNetLMHeadModel": "logits",
    "T5ForConditionalGeneration": "logits",
    "MT5ForConditionalGeneration": "logits",
    "UMT5ForConditionalGeneration": "logits",
    "LongT5ForConditionalGeneration": "logits",
    "SwitchTransformersForConditionalGeneration": "logits",
    "BartForConditionalGeneration": "logits",
    "MBartForConditionalGeneration": "logits",
    "PegasusForConditionalGeneration": "logits",
    "MarianMTModel": "logits",
    "BlenderbotForConditionalGeneration": "logits",
    "M2M100ForConditionalGeneration": "logits",
    "LEDForConditionalGeneration": "logits",
    "ProphetNetForConditionalGeneration": "logits",
    "WhisperForConditionalGeneration": "logits",
    "CLIPModel": "logits_per_image",
    "SiglipModel": "logits_per_image",
    "AltCLIPModel": "logits_per_image",
    "BlipForImageTextRetrieval": "itm_score",
    "DecisionTransformerModel": "action_preds",
    "PatchTSMixerForPrediction": "prediction_outputs",
}
"""The output to look at, where a network returns its hidden states too."""


def networks() -> Iterator[tuple[str, Build]]:
    """Every family, under the name of the class."""
    if importlib.util.find_spec("transformers") is None:
        raise SystemExit(
            "transformers is missing; see scripts/README.md for the packages that this script needs"
        )
    if importlib.util.find_spec("torchvision") is not None:
        torchvision()  # transformers imports it where it is present
    importlib.import_module("transformers")
    for name, (options, inputs) in NETWORKS.items():
        yield name, partial(_built, name.split()[0], options, inputs)


def _built(name: str, options: Options, inputs: Callable[[], Mapping[str, Tensor]]) -> Built:
    kind = getattr(importlib.import_module("transformers"), name)
    model = kind(kind.config_class(**options))
    if name in ANSWERS:
        model.register_forward_hook(lambda _module, _inputs, output: output[ANSWERS[name]])
    return model, (), dict(inputs())
