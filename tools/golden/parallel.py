"""The families with LayerNorm and a parallel residual: Phi, Falcon, GPT-NeoX."""

from safetensors.torch import load_file, save_file

from variants import variants_of

COMMON = {
    "num_hidden_layers": 2,
    "vocab_size": 115,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
PHI = dict(
    COMMON,
    architectures=["PhiForCausalLM"],
    model_type="phi",
    hidden_size=50,
    intermediate_size=62,
    num_attention_heads=5,
    num_key_value_heads=None,
    hidden_act="gelu_new",
    layer_norm_eps=1e-5,
    partial_rotary_factor=0.4,  # 4 of 10
    rope_theta=10000.0,
    rope_scaling=None,
    qk_layernorm=False,
    resid_pdrop=0.1,
    embd_pdrop=0.0,
    tie_word_embeddings=False,
)
FALCON = dict(
    COMMON,
    architectures=["FalconForCausalLM"],
    model_type="falcon",
    hidden_size=42,
    num_attention_heads=7,
    ffn_hidden_size=74,
    layer_norm_epsilon=1e-5,
    activation="gelu",
    alibi=False,
    bias=False,
    multi_query=True,
    parallel_attn=True,
    new_decoder_architecture=False,
    rope_theta=10000.0,
)
FALCON_NEW = {
    "hidden_size": 48,
    "num_attention_heads": 8,
    "num_kv_heads": 2,
    "new_decoder_architecture": True,
    "multi_query": True,
}
NEOX = dict(
    COMMON,
    architectures=["GPTNeoXForCausalLM"],
    model_type="gpt_neox",
    hidden_size=48,
    intermediate_size=62,
    num_attention_heads=3,
    hidden_act="gelu",
    layer_norm_eps=1e-5,
    rotary_pct=0.25,  # 4 of 16
    rotary_emb_base=10000,
    use_parallel_residual=True,
    attention_bias=True,
    tie_word_embeddings=False,
)


def head_called(name):
    """Renames the output matrix: files with either name are published."""

    def rename(directory):
        file = directory / "model.safetensors"
        tensors = load_file(file)
        old = "lm_head.weight" if "lm_head.weight" in tensors else "embed_out.weight"
        tensors[name] = tensors.pop(old)
        save_file(tensors, file, metadata={"format": "pt"})
        file.chmod(0o644)

    return rename


VARIANTS = [
    *variants_of(
        "phi",
        PHI,
        {
            "partial": {"stored": "float32"},
            "gqa": {"config": {"hidden_size": 60, "num_attention_heads": 6, "num_key_value_heads": 2, "partial_rotary_factor": 0.8}},
            "mqa": {
                "config": {
                    "hidden_size": 64,
                    "num_attention_heads": 4,
                    "num_key_value_heads": 1,
                    "partial_rotary_factor": 0.75,
                    "intermediate_size": 74,
                    "vocab_size": 131,
                }
            },
        },
    ),
    *variants_of(
        "falcon",
        FALCON,
        {
            "7b": {},
            "new-decoder": {"config": FALCON_NEW},
            "new-decoder-one-norm": {"config": dict(FALCON_NEW, num_ln_in_parallel_attn=1, num_kv_heads=4)},
            "sequential": {
                "config": {
                    "parallel_attn": False,
                    "multi_query": False,
                    "bias": True,
                    "hidden_size": 48,
                    "num_attention_heads": 6,
                }
            },
        },
    ),
    *variants_of(
        "gpt_neox",
        NEOX,
        {
            "parallel": {"after_write": head_called("embed_out.weight")},
            "sequential": {
                "config": {"use_parallel_residual": False, "rotary_pct": 0.5, "hidden_act": "gelu_fast"},
                "after_write": head_called("lm_head.weight"),
            },
            # Keys in the cache stay as they were rotated when the factors change: only Phi-3 computes them anew.
            "longrope": {
                "config": {
                    "rotary_pct": 0.5,
                    "rope_scaling": {
                        "type": "longrope",
                        "short_factor": [1.0, 1.1, 1.25, 1.5],
                        "long_factor": [1.3, 2.0, 3.5, 6.0],
                        "original_max_position_embeddings": 64,
                    },
                }
            },
            "no-bias": {
                "config": {
                    "attention_bias": False,
                    "rotary_pct": 1.0,
                    "hidden_size": 60,
                    "num_attention_heads": 5,
                    "vocab_size": 131,
                },
                "after_write": head_called("embed_out.weight"),
            },
        },
    ),
]
