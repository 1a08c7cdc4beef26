"""The families that are llama with something changed: Mistral, Qwen2, Qwen3, Phi-3, SmolLM3."""

from variants import variants_of

COMMON = {
    "hidden_size": 42,
    "intermediate_size": 38,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 115,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}

MISTRAL = dict(
    COMMON,
    architectures=["MistralForCausalLM"],
    model_type="mistral",
    head_dim=8,
    sliding_window=None,
    tie_word_embeddings=False,
    rope_theta=1e6,
    rms_norm_eps=1e-5,
)
QWEN2 = dict(
    COMMON,
    architectures=["Qwen2ForCausalLM"],
    model_type="qwen2",
    hidden_size=48,
    tie_word_embeddings=False,
    use_sliding_window=False,
    sliding_window=8,
    max_window_layers=1,
    rope_theta=1e6,
)
QWEN3 = dict(
    COMMON,
    architectures=["Qwen3ForCausalLM"],
    model_type="qwen3",
    head_dim=10,
    attention_bias=False,
    tie_word_embeddings=False,
    use_sliding_window=False,
    sliding_window=None,
    max_window_layers=2,
    rope_theta=1e6,
)
PHI3 = dict(
    COMMON,
    architectures=["Phi3ForCausalLM"],
    model_type="phi3",
    hidden_size=48,
    sliding_window=None,
    rope_scaling=None,
    original_max_position_embeddings=64,
    max_position_embeddings=64,
    tie_word_embeddings=False,
    rms_norm_eps=1e-5,
    resid_pdrop=0.0,
    embd_pdrop=0.0,
)
SMOLLM3 = dict(
    COMMON,
    architectures=["SmolLM3ForCausalLM"],
    model_type="smollm3",
    hidden_size=48,
    tie_word_embeddings=True,
    use_sliding_window=False,
    sliding_window=None,
    rope_theta=2e6,
    rope_scaling=None,
    attention_bias=False,
    mlp_bias=False,
)

YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
SHORT, LONG = [1.0, 1.1, 1.25, 1.5], [1.3, 2.0, 3.5, 6.0]
LONGROPE = {"type": "longrope", "short_factor": SHORT, "long_factor": LONG}
LONGROPE_PARTIAL = {"type": "longrope", "short_factor": SHORT[:3], "long_factor": LONG[:3]}

VARIANTS = [
    *variants_of(
        "mistral",
        MISTRAL,
        {
            "full": {},
            "window": {"config": {"sliding_window": 8, "rope_theta": 10000.0, "num_key_value_heads": 3}},
            "mqa-tied": {
                "config": {
                    "sliding_window": 13,
                    "num_key_value_heads": 1,
                    "head_dim": 10,
                    "tie_word_embeddings": True,
                    "vocab_size": 131,
                }
            },
        },
    ),
    *variants_of(
        "qwen2",
        QWEN2,
        {
            "qkv-bias": {},
            "window": {"config": {"use_sliding_window": True, "num_hidden_layers": 3, "tie_word_embeddings": True}},
            "all-windows": {"config": {"use_sliding_window": True, "max_window_layers": 0, "num_key_value_heads": 3}},
            "yarn": {"config": {"rope_scaling": YARN, "tie_word_embeddings": True, "num_key_value_heads": 1}},
        },
    ),
    *variants_of(
        "qwen3",
        QWEN3,
        {
            "qk-norm": {},
            "tied": {"config": {"tie_word_embeddings": True, "num_key_value_heads": 3, "head_dim": 14}},
            "bias": {"config": {"attention_bias": True, "tie_word_embeddings": True, "num_key_value_heads": 1}},
        },
    ),
    *variants_of(
        "phi3",
        PHI3,
        {
            "full": {"config": {"max_position_embeddings": 512}},
            "window": {"config": {"sliding_window": 9, "max_position_embeddings": 512, "tie_word_embeddings": True}},
            "longrope": {"config": {"max_position_embeddings": 512, "rope_scaling": LONGROPE}},
            "longrope-partial": {
                "config": {
                    "max_position_embeddings": 256,
                    "partial_rotary_factor": 0.75,
                    "rope_scaling": LONGROPE_PARTIAL,
                    "tie_word_embeddings": True,
                    "num_key_value_heads": 3,
                },
                "long_length": 150,
            },
        },
    ),
    *variants_of(
        "smollm3",
        SMOLLM3,
        {
            "listed": {"config": {"num_hidden_layers": 3, "no_rope_layers": [1, 0, 1], "no_rope_layer_interval": 2}},
            "interval": {"config": {"num_hidden_layers": 4, "no_rope_layer_interval": 4, "intermediate_size": 30}},
            # Windows are for the layers that do not rotate.
            "window": {
                "config": {
                    "num_hidden_layers": 4,
                    "no_rope_layer_interval": 2,
                    "use_sliding_window": True,
                    "sliding_window": 8,
                    "intermediate_size": 30,
                    "num_key_value_heads": 3,
                }
            },
            "untied-bias": {
                "config": {
                    "tie_word_embeddings": False,
                    "attention_bias": True,
                    "no_rope_layer_interval": 2,
                    "num_key_value_heads": 3,
                    "vocab_size": 131,
                }
            },
        },
    ),
]
