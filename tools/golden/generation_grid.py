"""Owns which generation knobs are tried, in transformers' (and our YAML's) own names. Knows nothing of running them.

`stops`: ids that the model is fond of, so that sequences really end; `ban`: ids of its plain greedy run, so that bans bite.
"""


def greedy_grid(stops, ban):
    """name -> params; every entry is greedy."""
    grid = {"plain": {}, "eos-one": {"eos_token_id": stops[:1]}, "eos-list": {"eos_token_id": stops}}
    for value in (0.7, 1.05, 1.3, 2.5):
        grid[f"repetition-{value}"] = {"repetition_penalty": value}
    for size in (1, 2, 3):
        grid[f"no-repeat-{size}"] = {"no_repeat_ngram_size": size}
    grid["min-new-tokens"] = {"eos_token_id": stops, "min_new_tokens": 13}
    grid["min-length"] = {"eos_token_id": stops, "min_length": 21}
    grid["both-minima"] = {"eos_token_id": stops, "min_length": 12, "min_new_tokens": 9}
    grid["bad-word"] = {"bad_words_ids": [[ban[0]]]}
    grid["bad-words"] = {"bad_words_ids": [[ban[1]], ban[2:4], ban[4:7], [ban[0], ban[0], ban[0]]]}
    grid["bad-word-is-eos"] = {"bad_words_ids": [[stops[0]], [ban[0]]], "eos_token_id": stops[:1]}
    grid["suppress"] = {"suppress_tokens": ban[:3]}
    grid["begin-suppress"] = {"begin_suppress_tokens": ban[:2]}
    grid["both-suppress"] = {"suppress_tokens": ban[3:5], "begin_suppress_tokens": ban[:1]}
    grid["forced-eos"] = {"forced_eos_token_id": stops[:1]}
    grid["forced-eos-list"] = {"forced_eos_token_id": stops, "eos_token_id": stops[:1]}
    grid["bias-one"] = {"sequence_bias": [[[ban[0]], -3.5], [[ban[5]], 2.25]]}
    grid["bias-sequences"] = {"sequence_bias": [[ban[:2], -6.0], [ban[1:4], 4.0], [[ban[6]], 1.5], [ban[2:5], -9.0]]}
    for start, factor in ((2, 1.2), (5, 1.6), (0, 1.05)):
        grid[f"decay-{start}-{factor}"] = {"eos_token_id": stops, "exponential_decay_length_penalty": [start, factor]}
    grid["remove-invalid"] = {"remove_invalid_values": True, "suppress_tokens": ban[:2]}
    grid["renormalize"] = {"renormalize_logits": True, "repetition_penalty": 1.2}
    grid["repetition-and-ngram"] = {"repetition_penalty": 1.4, "no_repeat_ngram_size": 2, "eos_token_id": stops}
    grid["bias-penalty-minimum"] = {
        "sequence_bias": [[[ban[1]], -2.0]],
        "repetition_penalty": 1.15,
        "min_new_tokens": 6,
        "eos_token_id": stops,
    }
    grid["everything"] = {
        "sequence_bias": [[ban[:2], -1.5]],
        "repetition_penalty": 1.1,
        "no_repeat_ngram_size": 3,
        "bad_words_ids": [[ban[3]]],
        "min_new_tokens": 4,
        "exponential_decay_length_penalty": [6, 1.1],
        "suppress_tokens": [ban[4]],
        "eos_token_id": stops,
    }
    grid["guidance"] = {"guidance_scale": 1.5}
    return grid


def beam_grid(stops, ban):
    """name -> params with num_beams > 1."""
    grid = {}
    for early in (False, True, "never"):
        for alpha in (-1.0, 0.0, 0.6, 1.0, 2.0):
            grid[f"early-{str(early).lower()}-length-{alpha}"] = {
                "num_beams": 3,
                "early_stopping": early,
                "length_penalty": alpha,
                "eos_token_id": stops,
                "num_return_sequences": 3,
            }
    grid["two"] = {"num_beams": 2}
    grid["five-return-two"] = {"num_beams": 5, "num_return_sequences": 2, "eos_token_id": stops[:1]}
    grid["four-repetition"] = {"num_beams": 4, "repetition_penalty": 1.3, "eos_token_id": stops}
    grid["four-ngram"] = {"num_beams": 4, "no_repeat_ngram_size": 2, "num_return_sequences": 4}
    grid["minimum"] = {"num_beams": 3, "min_new_tokens": 8, "eos_token_id": stops, "num_return_sequences": 3}
    grid["bad-words"] = {"num_beams": 3, "bad_words_ids": [[ban[0]], ban[1:3]], "eos_token_id": stops}
    grid["bias"] = {"num_beams": 3, "sequence_bias": [[ban[:2], -2.0], [[ban[3]], 1.0]], "eos_token_id": stops}
    grid["forced-eos"] = {"num_beams": 3, "forced_eos_token_id": stops[:1], "eos_token_id": stops[:1]}
    grid["decay"] = {"num_beams": 3, "exponential_decay_length_penalty": [3, 1.3], "eos_token_id": stops}
    grid["renormalize"] = {"num_beams": 3, "renormalize_logits": True, "repetition_penalty": 1.2, "eos_token_id": stops}
    return grid


def warper_grid():
    """name -> params of the distribution that is drawn from; top_k 0 is off, absent is generate()'s 50."""
    off = {"top_k": 0}
    grid = {"off": off, "default-top-k": {}}
    for value in (0.1, 0.5, 0.8, 1.7, 10.0):
        grid[f"temperature-{value}"] = dict(off, temperature=value)
    for value in (1, 2, 7, 1000):
        grid[f"top-k-{value}"] = {"top_k": value}
    for value in (0.0, 0.05, 0.5, 0.9, 0.999):
        grid[f"top-p-{value}"] = dict(off, top_p=value)
    for value in (0.0, 0.02, 0.3, 1.0):
        grid[f"min-p-{value}"] = dict(off, min_p=value)
    for value in (0.1, 0.5, 0.95):
        grid[f"typical-{value}"] = dict(off, typical_p=value)
    for value in (0.001, 0.03, 0.4):
        grid[f"epsilon-{value}"] = dict(off, epsilon_cutoff=value)
        grid[f"eta-{value}"] = dict(off, eta_cutoff=value)
    grid["guide"] = {"temperature": 0.7, "top_k": 50, "top_p": 0.95}
    grid["hot-narrow"] = {"temperature": 1.6, "top_k": 12, "top_p": 0.8, "min_p": 0.05}
    grid["typical-of-top"] = {"top_k": 30, "top_p": 0.97, "typical_p": 0.6}
    grid["cutoffs"] = dict(off, temperature=1.2, epsilon_cutoff=0.004, eta_cutoff=0.01)
    grid["all"] = {
        "temperature": 1.3,
        "top_k": 40,
        "top_p": 0.98,
        "min_p": 0.01,
        "typical_p": 0.9,
        "epsilon_cutoff": 0.002,
        "eta_cutoff": 0.003,
    }
    grid["penalty-then-warpers"] = {"temperature": 0.9, "top_p": 0.9, "repetition_penalty": 1.3}
    grid["bias-then-top-k"] = {"top_k": 5, "sequence_bias": [[[17], 4.0], [[23], -4.0]]}
    grid["renormalized"] = {"top_k": 9, "temperature": 0.6, "renormalize_logits": True}
    return grid
