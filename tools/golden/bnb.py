"""Checkpoints that bitsandbytes has quantized: as transformers saves them, in all their forms."""

import logging
import shutil
import tempfile

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from variants import variants_of

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns at each product

BASE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 320,  # more than 256 blocks of 64: two nested ones
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "vocab_size": 131,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 512,
    "attention_bias": False,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
ODD = {"hidden_size": 48, "intermediate_size": 150, "num_attention_heads": 6}  # blocks cross rows


def quantized(**settings):
    """Rewrites the checkpoint as save_pretrained leaves it after quantizing while loading."""

    def convert(directory):
        model = AutoModelForCausalLM.from_pretrained(
            directory, dtype="auto", quantization_config=BitsAndBytesConfig(**settings)
        )
        with tempfile.TemporaryDirectory() as scratch:
            model.save_pretrained(scratch)
            for name in ("model.safetensors", "config.json"):
                shutil.copyfile(f"{scratch}/{name}", directory / name)

    return convert


def four(kind, nested, **more):
    return quantized(
        load_in_4bit=True, bnb_4bit_quant_type=kind, bnb_4bit_use_double_quant=nested, **more
    )


VARIANTS = variants_of(
    "llama",
    BASE,
    {
        "bnb-nf4": {"after_write": four("nf4", False), "stored": "float32"},
        "bnb-nf4-nested": {"after_write": four("nf4", True), "stored": "float32"},
        "bnb-fp4-bf16-storage": {
            "after_write": four("fp4", False, bnb_4bit_quant_storage=torch.bfloat16),
            "stored": "float32",
        },
        "bnb-nf4-nested-f32-storage": {
            "after_write": four("nf4", True, bnb_4bit_quant_storage=torch.float32),
            "stored": "float32",
        },
        "bnb-fp4-nested-odd": {"after_write": four("fp4", True), "stored": "float32", "config": ODD},
        "bnb-nf4-odd-bias": {
            "after_write": four("nf4", False, llm_int8_skip_modules=["lm_head", "q_proj"]),
            "stored": "float32",
            "config": dict(ODD, attention_bias=True),
        },
        "bnb-nf4-bf16": {
            "after_write": four("nf4", True, bnb_4bit_compute_dtype=torch.bfloat16),
            "primary": "bfloat16",
        },
        "bnb-nf4-head": {
            "after_write": four("nf4", True, llm_int8_skip_modules=["model.layers.0.mlp"]),
            "stored": "float32",
        },
        "bnb-int8": {"after_write": quantized(load_in_8bit=True), "stored": "float32", "spread": 2.4},
        "bnb-int8-odd-bias": {
            "after_write": quantized(load_in_8bit=True, llm_int8_threshold=3.0),
            "stored": "float32",
            "config": dict(ODD, attention_bias=True, hidden_size=54, num_attention_heads=3, num_key_value_heads=1),
            "long_length": 400,  # outlier columns of a whole prompt, whatever a pass holds elsewhere
        },
        "bnb-int8-bf16": {"after_write": quantized(load_in_8bit=True), "primary": "bfloat16"},
    },
    dtypes=(),  # a quantized file is loaded in the dtype that it was made in
)
