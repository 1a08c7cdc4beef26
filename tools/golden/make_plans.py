"""Owns plans.json: what transformers' own planner makes of random models, budgets, strategies and quantizations.

Models live on the meta device: true shapes, no weights. Knows nothing of our planner; what it must equal is read by
tests/golden/plan_golden_test.cpp.

    make_plans.py [CASES_PER_MODEL]
"""

import json
import pathlib
import random
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import pins

BIG = [
    ("llama", dict(hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32,
                   num_key_value_heads=32, vocab_size=32000, tie_word_embeddings=False)),
    ("llama", dict(hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
                   num_key_value_heads=8, head_dim=64, vocab_size=128256, tie_word_embeddings=True)),
    ("llama", dict(hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64,
                   num_key_value_heads=8, vocab_size=32000, tie_word_embeddings=False)),
    ("llama", dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
                   num_key_value_heads=3, vocab_size=49152, tie_word_embeddings=True)),
    ("mistral", dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
                     num_key_value_heads=8, vocab_size=32768, tie_word_embeddings=False)),
    ("qwen2", dict(hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
                   num_key_value_heads=2, vocab_size=151936, tie_word_embeddings=True)),
    ("qwen3", dict(hidden_size=2560, intermediate_size=9728, num_hidden_layers=36, num_attention_heads=32,
                   num_key_value_heads=8, head_dim=128, vocab_size=151936, tie_word_embeddings=True)),
    ("phi", dict(hidden_size=2560, intermediate_size=10240, num_hidden_layers=32, num_attention_heads=32,
                 num_key_value_heads=32, vocab_size=51200, partial_rotary_factor=0.4, tie_word_embeddings=False)),
    ("phi3", dict(hidden_size=3072, intermediate_size=8192, num_hidden_layers=32, num_attention_heads=32,
                  num_key_value_heads=32, vocab_size=32064, tie_word_embeddings=False)),
    ("gemma", dict(hidden_size=2048, intermediate_size=16384, num_hidden_layers=18, num_attention_heads=8,
                   num_key_value_heads=1, head_dim=256, vocab_size=256000, tie_word_embeddings=True)),
    ("gemma2", dict(hidden_size=2304, intermediate_size=9216, num_hidden_layers=26, num_attention_heads=8,
                    num_key_value_heads=4, head_dim=256, vocab_size=256000, tie_word_embeddings=True)),
    ("gemma3_text", dict(hidden_size=1152, intermediate_size=6912, num_hidden_layers=26, num_attention_heads=4,
                         num_key_value_heads=1, head_dim=256, vocab_size=262144, tie_word_embeddings=True)),
    ("smollm3", dict(hidden_size=2048, intermediate_size=11008, num_hidden_layers=36, num_attention_heads=16,
                     num_key_value_heads=4, vocab_size=128256, tie_word_embeddings=True)),
    ("falcon", dict(hidden_size=4544, num_hidden_layers=32, num_attention_heads=71, vocab_size=65024, alibi=False,
                    multi_query=True, parallel_attn=True, bias=False, new_decoder_architecture=False)),
    ("gpt_neox", dict(hidden_size=2560, intermediate_size=10240, num_hidden_layers=32, num_attention_heads=32,
                      vocab_size=50432, rotary_pct=0.25, tie_word_embeddings=False)),
]
BITNET = ("bitnet", dict(hidden_size=2560, intermediate_size=6912, num_hidden_layers=30, num_attention_heads=20,
                         num_key_value_heads=5, vocab_size=128256, tie_word_embeddings=True))
FAMILIES = sorted({family for family, _ in BIG})
SMALL_PER_FAMILY = 4
DTYPES = ["bfloat16", "float16", "float32"]
STRATEGIES = ["auto", "balanced", "balanced_low_0", "sequential"]
SKIPS = [["lm_head"], ["lm_head", "q_proj"], ["lm_head", "model.layers.1"], ["lm_head", "self_attn", "down_proj"],
         ["lm_head", "model.layers.0.mlp"]]


def small(family, rng):
    """A random shape, odd on purpose; sizes in the low thousands of bytes and more."""
    heads = rng.choice([2, 4, 6])
    config = dict(
        hidden_size=heads * rng.choice([8, 12, 16]),
        intermediate_size=rng.randrange(20, 300),
        num_hidden_layers=rng.randrange(1, 15),
        num_attention_heads=heads,
        num_key_value_heads=rng.choice([1, 2, heads]),
        vocab_size=rng.choice([115, 1009, 7001]),
        tie_word_embeddings=rng.random() < 0.5,
        pad_token_id=0,
    )
    if family in ("gemma", "gemma2", "gemma3_text", "qwen3"):
        config["head_dim"] = rng.choice([8, 14])
    if family == "falcon":
        config |= dict(alibi=False, bias=rng.random() < 0.5, new_decoder_architecture=rng.random() < 0.5)
        config["num_kv_heads"] = config.pop("num_key_value_heads")
        del config["intermediate_size"]
    if family == "gpt_neox":
        del config["num_key_value_heads"]
        config["rotary_pct"] = 0.5
    if family in ("llama", "qwen3") and rng.random() < 0.3:
        config["attention_bias"] = True
    return config


def ternary(rng):
    """Configurations of checkpoints whose projections are ternary already."""
    models = [BITNET]
    for family in ["bitnet", "llama", "qwen2", "bitnet", "llama"]:
        config = small(family, rng)
        config["intermediate_size"] -= config["intermediate_size"] % 4
        models.append((family, config))
    for family, config in models:
        for linear_class, mode in [("bitlinear", "offline"), ("autobitlinear", "offline"), ("autobitlinear", "online")]:
            method = dict(quant_method="bitnet", linear_class=linear_class, quantization_mode=mode,
                          use_rms_norm=rng.random() < 0.3)
            yield family, dict(config, quantization_config=method)


def quantizer_of(config, bits, skip):
    from transformers import BitsAndBytesConfig
    from transformers.quantizers import AutoHfQuantizer

    if "quantization_config" in config:
        return AutoHfQuantizer.from_config(dict(config["quantization_config"]), pre_quantized=True)
    if bits == 0:
        return None
    wanted = BitsAndBytesConfig(load_in_8bit=bits == 8, load_in_4bit=bits == 4, llm_int8_skip_modules=skip)
    return AutoHfQuantizer.from_config(wanted, pre_quantized=False)


def build(family, config, dtype, bits, skip):
    """The model on the meta device as from_pretrained has it when it plans, and its quantizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.device("meta"):
            parsed = AutoConfig.for_model(family, **config)
            model = AutoModelForCausalLM.from_config(parsed, dtype=getattr(torch, dtype))
            quantizer = quantizer_of(config, bits, skip)
            if quantizer is not None:
                quantizer.preprocess_model(model=model, dtype=getattr(torch, dtype), device_map="auto")
            return model, quantizer
    finally:
        torch.set_default_dtype(before)


def unit_sizes(model, quantizer):
    from transformers.integrations.accelerate import compute_module_sizes

    sizes, _ = compute_module_sizes(model, quantizer, only_modules=False)
    units = [size for name, size in sizes.items() if name.count(".") in (1, 2)]
    return sizes[""], units


def budgets(total, units, rng):
    """Limits around where something changes: shares of the total, or sums of units, give or take a byte."""
    gpus = rng.choice([0, 1, 1, 2, 2, 2, 3, 4])

    def one(share):
        if rng.random() < 0.4:
            return max(0, int(sum(rng.choice(units) for _ in range(rng.randrange(1, 12)))) + rng.choice([-1, 0, 0, 1]))
        return int(total * share * rng.uniform(0.1, 1.6))

    out = {gpu: one(1 / max(1, gpus)) for gpu in range(gpus)}
    if gpus and rng.random() < 0.15:
        out[rng.randrange(gpus)] = 0
    if rng.random() < 0.8:
        out["cpu"] = one(1.0) * rng.choice([1, 1, 4])
    if rng.random() < 0.2:
        out["disk"] = total * 4 if isinstance(total, int) else int(total * 4)
    return out


def planned(model, quantizer, strategy, limits, free):
    """What _get_device_map infers. free: the machine, where no limits are given."""
    from transformers.integrations import accelerate as planner

    real = planner.accelerate_max_memory
    planner.accelerate_max_memory = lambda given=None: dict(free) if given is None else real(given)
    try:
        given = None if limits is None else dict(limits)
        if strategy != "sequential":
            memory = planner.get_balanced_memory(
                model, max_memory=given, no_split_module_classes=model._no_split_modules, hf_quantizer=quantizer,
                low_zero=strategy == "balanced_low_0",
            )
        else:
            memory = planner.get_max_memory(given)
        if quantizer is not None:
            memory = quantizer.adjust_max_memory(memory)
        return planner.infer_auto_device_map(
            model, max_memory=memory, no_split_module_classes=model._no_split_modules, hf_quantizer=quantizer
        )
    finally:
        planner.accelerate_max_memory = real


def compact(device_map):
    """One text: "DEVICE name name prefix.3-7;DEVICE …", numbered modules as ranges."""
    by_device = {}
    for name, device in device_map.items():
        by_device.setdefault(str(device), []).append(name)
    groups = []
    for device in sorted(by_device):
        plain, numbered = [], {}
        for name in by_device[device]:
            prefix, _, last = name.rpartition(".")
            if last.isdigit():
                numbered.setdefault(prefix, []).append(int(last))
            else:
                plain.append(name or "*")
        for prefix, numbers in numbered.items():
            numbers.sort()
            start = 0
            for i in range(len(numbers)):
                if i + 1 == len(numbers) or numbers[i + 1] != numbers[i] + 1:
                    plain.append(f"{prefix}.{numbers[start]}-{numbers[i]}")
                    start = i + 1
        groups.append(" ".join([device, *sorted(plain)]))
    return ";".join(groups)


def cases_of(model, quantizer, count, rng):
    total, units = unit_sizes(model, quantizer)
    out = []
    for _ in range(count):
        strategy = rng.choice(STRATEGIES)
        limits = budgets(total, units, rng)
        machine = rng.random() < 0.15  # nobody named limits: the machine's free memory
        if machine:
            limits.pop("disk", None)
            limits.setdefault("cpu", int(total * 2))
        try:
            device_map = planned(model, quantizer, strategy, None if machine else limits, limits)
        except (KeyError, IndexError) as why:
            print(f"  {strategy} {limits}: {type(why).__name__} {why}", file=sys.stderr)
            continue
        out.append([strategy, {str(k): v for k, v in limits.items()}, machine, compact(device_map)])
    return out


def variants(rng):
    """Models with the dtype and the quantization to plan them in."""
    models = list(BIG)
    for family in FAMILIES:
        models += [(family, small(family, rng)) for _ in range(SMALL_PER_FAMILY)]
    for family, config in models:
        for bits in [0, 8, 4]:
            dtype = rng.choice(DTYPES)
            yield family, config, dtype, bits, rng.choice(SKIPS) if bits and rng.random() < 0.3 else None
    for family, config in ternary(rng):
        yield family, config, rng.choice(DTYPES), 0, None


def main():
    pins.settle()
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    rng = random.Random(20)
    entries, total = [], 0
    for family, config, dtype, bits, skip in variants(rng):
        model, quantizer = build(family, config, dtype, bits, skip)
        cases = cases_of(model, quantizer, count, rng)
        total += len(cases)
        entries.append(dict(config=dict(config, model_type=family), dtype=dtype, bits=bits, skip=skip or [],
                            total=unit_sizes(model, quantizer)[0], cases=cases))
    text = "[\n" + ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in entries) + "\n]\n"
    (pins.FIXTURES / "plans.json").write_text(text)
    print(f"{total} cases of {len(entries)} models, {len(text)} bytes")


if __name__ == "__main__":
    main()
