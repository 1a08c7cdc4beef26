"""Gemma 1, 2 and 3: scaled embeddings, zero-centred norms, soft caps, windows by layer, two rotary bases."""

from variants import variants_of

COMMON = {
    "hidden_size": 42,
    "intermediate_size": 38,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 16,  # 3 heads of 16 make 48, not 42
    "vocab_size": 147,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "max_position_embeddings": 512,
    "attention_bias": False,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
GEMMA = dict(COMMON, architectures=["GemmaForCausalLM"], model_type="gemma", hidden_act="gelu", hidden_activation=None)
GEMMA2 = dict(
    COMMON,
    architectures=["Gemma2ForCausalLM"],
    model_type="gemma2",
    hidden_activation="gelu_pytorch_tanh",
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=10,
    query_pre_attn_scalar=21,
    attn_logit_softcapping=3.0,
    final_logit_softcapping=5.0,
    sliding_window=8,
    num_hidden_layers=3,
)
GEMMA3 = dict(
    COMMON,
    architectures=["Gemma3ForCausalLM"],
    model_type="gemma3_text",
    hidden_activation="gelu_pytorch_tanh",
    query_pre_attn_scalar=13,
    sliding_window=8,
    rope_theta=1e6,
    rope_local_base_freq=10000.0,
    rope_scaling=None,
)

VARIANTS = [
    *variants_of(
        "gemma",
        GEMMA,
        {
            "mqa": {},
            "mha": {"config": {"num_key_value_heads": 3, "head_dim": 10}},
            # hidden_act counts; hidden_activation is a key that only its publishers wrote.
            "silu": {"config": {"hidden_act": "silu", "hidden_activation": "gelu_pytorch_tanh", "head_dim": 10}},
            "gqa": {"config": {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 12, "vocab_size": 131}},
        },
        distinct=8,
    ),
    *variants_of(
        "gemma2",
        GEMMA2,
        {
            "caps": {"stored": "float32"},
            "no-caps": {
                "config": {
                    "attn_logit_softcapping": None,
                    "final_logit_softcapping": None,
                    "num_key_value_heads": 3,
                    "query_pre_attn_scalar": 10,
                }
            },
            "one-cap": {
                "config": {
                    "attn_logit_softcapping": 2.0,
                    "final_logit_softcapping": None,
                    "num_attention_heads": 3,
                    "num_key_value_heads": 1,
                    "head_dim": 14,
                    "query_pre_attn_scalar": 33,
                    "sliding_window": 5,
                    "num_hidden_layers": 4,
                }
            },
        },
        distinct=8,
    ),
    *variants_of(
        "gemma3",
        GEMMA3,
        {
            "five-to-one": {"config": {"num_hidden_layers": 6, "hidden_size": 30, "intermediate_size": 26, "head_dim": 12}},
            "linear": {
                "config": {
                    "num_hidden_layers": 3,
                    "sliding_window_pattern": 3,
                    "rope_scaling": {"rope_type": "linear", "factor": 8.0},
                    "final_logit_softcapping": 6.0,
                }
            },
            # Tables of 5.x, that of the local layers without a base of its own.
            "tables": {
                "config": {
                    "sliding_window_pattern": 2,
                    "rope_parameters": {
                        "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 500000.0},
                        "sliding_attention": {"rope_type": "default"},
                    },
                    "rope_local_base_freq": 3000.0,
                    "attn_logit_softcapping": 3.0,
                },
                "absent": ("rope_scaling",),
            },
            "gqa": {
                "config": {
                    "num_hidden_layers": 4,
                    "sliding_window_pattern": 2,
                    "sliding_window": 5,
                    "num_attention_heads": 6,
                    "num_key_value_heads": 2,
                    "head_dim": 10,
                    "query_pre_attn_scalar": 21,
                    "vocab_size": 131,
                }
            },
        },
    ),
]
