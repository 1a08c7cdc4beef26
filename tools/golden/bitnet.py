"""BitNet: ternary projections packed four rows to a byte (multiplied or divided by their scale), and plain masters."""

import json

import torch
from safetensors.torch import load_file, save_file
from transformers.integrations.bitnet import pack_weights

from variants import variants_of

BASE = {
    "architectures": ["BitNetForCausalLM"],
    "model_type": "bitnet",
    "hidden_size": 60,
    "intermediate_size": 68,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "hidden_act": "relu2",
    "vocab_size": 147,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "max_position_embeddings": 512,
    "attention_bias": False,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}

BIAS = {"attention_bias": True, "num_key_value_heads": 3, "hidden_size": 72, "vocab_size": 131}


def set_quantization(directory, linear_class, mode):
    file = directory / "config.json"
    config = json.loads(file.read_text())
    config["quantization_config"] = {
        "quant_method": "bitnet",
        "linear_class": linear_class,
        "quantization_mode": mode,
        "modules_to_not_convert": None,
    }
    file.write_text(json.dumps(config, indent=2) + "\n")


def packed(linear_class):
    def convert(directory):
        tensors = load_file(directory / "model.safetensors")
        for name in [n for n in tensors if n.endswith("_proj.weight")]:
            weight = tensors[name].float()
            scale = weight.abs().mean()
            tensors[name] = pack_weights((weight / scale).round().clamp(-1, 1))
            stored = scale if linear_class == "autobitlinear" else 1.0 / scale
            tensors[name + "_scale"] = stored.reshape(1).to(tensors["model.norm.weight"].dtype)
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
        (directory / "model.safetensors").chmod(0o644)
        set_quantization(directory, linear_class, "offline")

    return convert


def unpacked(directory):
    """autobitlinear takes floats of -1, 0 and 1 as well as packed bytes."""
    tensors = load_file(directory / "model.safetensors")
    for name in [n for n in tensors if n.endswith("_proj.weight")]:
        scale = tensors[name].float().abs().mean()
        tensors[name + "_scale"] = scale.reshape(1).to(tensors[name].dtype)
        tensors[name] = (tensors[name].float() / scale).round().clamp(-1, 1).to(tensors[name].dtype)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "model.safetensors").chmod(0o644)
    set_quantization(directory, "autobitlinear", "offline")


def online(directory):
    set_quantization(directory, "autobitlinear", "online")


def with_norms(convert):
    """use_rms_norm: each projection normalizes its own input, with weights and an epsilon of its own."""

    def convert_and_add(directory):
        convert(directory)
        tensors = load_file(directory / "model.safetensors")
        dtype = tensors["model.norm.weight"].dtype
        config = json.loads((directory / "config.json").read_text())
        rows = {"o_proj": config["hidden_size"], "down_proj": config["intermediate_size"]}
        generator = torch.Generator().manual_seed(5)
        for module in sorted(n.removesuffix(".weight") for n in tensors if n.endswith("_proj.weight")):
            length = rows.get(module.rsplit(".", 1)[1], config["hidden_size"])
            weight = 1.0 + 0.3 * torch.randn(length, generator=generator)
            tensors[module + ".rms_norm.weight"] = weight.to(dtype)
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
        (directory / "model.safetensors").chmod(0o644)
        config["quantization_config"] |= {"use_rms_norm": True, "rms_norm_eps": 3e-3}
        (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    return convert_and_add


VARIANTS = variants_of(
    "bitnet",
    BASE,
    {
        "packed": {"after_write": packed("autobitlinear"), "stored": "float32"},
        "packed-divide": {"after_write": packed("bitlinear"), "stored": "float32", "config": {"num_key_value_heads": 3, "hidden_size": 72}},
        "packed-bf16": {"after_write": packed("autobitlinear"), "primary": "bfloat16"},
        "bias": {"after_write": packed("autobitlinear"), "stored": "float32", "config": BIAS, "long_length": 48},
        "bias-divide": {"after_write": packed("bitlinear"), "stored": "float32", "config": BIAS, "long_length": 48, "tied_seeds": (5, 6)},
        "bias-online": {"after_write": online, "stored": "float32", "config": BIAS, "long_length": 48, "tied_seeds": (5, 6)},
        "bias-bf16": {"after_write": packed("autobitlinear"), "primary": "bfloat16", "config": BIAS, "long_length": 48},
        "bias-divide-bf16": {"after_write": packed("bitlinear"), "primary": "bfloat16", "config": BIAS, "long_length": 48, "compiled": True},
        "unpacked": {"after_write": unpacked, "stored": "float32", "config": {"num_key_value_heads": 1, "hidden_size": 48}, "long_length": 48},
        "online": {"after_write": online, "stored": "float32"},
        "online-bf16": {"after_write": online, "primary": "bfloat16"},
        "norms": {"after_write": with_norms(packed("autobitlinear")), "stored": "float32", "long_length": 48},
        "norms-divide": {"after_write": with_norms(packed("bitlinear")), "stored": "float32", "config": BIAS, "long_length": 48},
        "norms-online": {"after_write": with_norms(online), "stored": "float32", "config": {"num_key_value_heads": 1, "hidden_size": 48}, "long_length": 48},
        "norms-bf16": {"after_write": with_norms(packed("autobitlinear")), "primary": "bfloat16", "config": BIAS, "long_length": 48},
        "masters": {
            "config": {"num_key_value_heads": 1, "hidden_size": 48, "intermediate_size": 52},
            "dtypes": ("bfloat16",),
        },
    },
    dtypes=(),  # transformers cannot load a quantized file in another dtype: its scales keep the file's
)
