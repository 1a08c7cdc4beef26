"""Llama: grouped and single key heads, biases, tied heads, every rope rule, every way to store a checkpoint."""

import json

from variants import variants_of

BASE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 42,
    "intermediate_size": 54,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 10,  # 6 heads of 10 make 60, not 42
    "hidden_act": "silu",
    "vocab_size": 163,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "max_position_embeddings": 512,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
SMALL = {"num_hidden_layers": 2, "vocab_size": 115, "intermediate_size": 38, "head_dim": 8}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
YARN_KEYS = dict(YARN, rope_type="yarn", beta_fast=16.0, beta_slow=2.0, mscale=1.0, mscale_all_dim=0.7, factor=3.0)
DYNAMIC = {"config": dict(SMALL, max_position_embeddings=64, rope_scaling={"type": "dynamic", "factor": 2.0})}


def say_tied(directory):
    file = directory / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(dict(config, tie_word_embeddings=True), indent=2) + "\n")


VARIANTS = variants_of(
    "llama",
    BASE,
    {
        "gqa": {"whole": True, "stored": "float32"},
        "tied": {"config": dict(SMALL, tie_word_embeddings=True, rope_theta=100000.0), "stored": "float32"},
        "mqa": {"config": dict(SMALL, num_key_value_heads=1, head_dim=12, num_hidden_layers=3)},
        "mha-default-head-dim": {"config": dict(SMALL, num_attention_heads=3), "absent": ("head_dim", "num_key_value_heads")},
        "bias": {"config": dict(SMALL, attention_bias=True, mlp_bias=True)},
        "rope-llama3": {"config": dict(SMALL, rope_scaling=LLAMA3, rope_theta=500000.0)},
        "rope-linear": {"config": dict(SMALL, rope_scaling={"type": "linear", "factor": 2.5})},
        "rope-dynamic": DYNAMIC,
        "rope-yarn": {"config": dict(SMALL, rope_scaling=YARN)},
        "rope-yarn-keys": {"config": dict(SMALL, rope_scaling=YARN_KEYS)},
        # config.json says that the head is tied, the checkpoint holds another matrix for it.
        "two-heads": {"config": SMALL, "after_write": say_tied},
        "sharded": {"config": SMALL, "shard_size": "20KB"},
        "saved-config": {"config": dict(SMALL, rope_scaling=LLAMA3), "config_style": "saved"},
        "stored-bf16": {"config": dict(SMALL, hidden_size=48)},
        "stored-fp16": {"config": dict(SMALL, hidden_size=36, tie_word_embeddings=True), "stored": "float16"},
    },
)
