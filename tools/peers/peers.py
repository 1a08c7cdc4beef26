"""Engines on one checkpoint, in turns: medians, ratios to Rhapsode, a table and a chart. Knows no engine's API.

Every measurement is a process of its own. Round by round the engines run one after the other, so that whatever else the machine
does hits all of them.
"""

import argparse
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile

import chart

HERE = pathlib.Path(__file__).resolve().parent
GGUF_TYPES = {"bf16": "bf16", "8bit": "q8_0", "4bit": "q4_0", "ternary": "tq2_0"}
# engine: formats, the file that it reads, its program and options
ENGINES = {
    "rhapsode": (("bf16", "8bit", "4bit", "ternary"), "checkpoint", None),
    # Activations in int8, as others have them beside 4-bit weights.
    "rhapsode-int8": (("4bit",), "checkpoint", None),
    "llama.cpp": (("bf16", "8bit", "4bit", "ternary"), "gguf", ["llama.py"]),
    # Without buffers of its own layouts: where those crash (of AMX, in this release), the only way to run it.
    "llama.cpp-as-stored": (("bf16", "8bit", "4bit", "ternary"), "gguf", ["llama.py", "--as-stored"]),
    "transformers": (("bf16", "8bit", "4bit"), "checkpoint", ["hf_transformers.py"]),
    "CTranslate2": (("bf16", "8bit"), "ctranslate2", ["ct2.py"]),
    "openvino-genai": (("8bit", "4bit"), "gguf", ["ov_genai.py"]),
    "onnxruntime-genai": (("4bit",), "onnx", ["ort_genai.py"]),
}
FIGURES = ("prompt_tokens_per_s", "decode_tokens_per_s", "load_s", "peak_rss_bytes")


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rhapsode", required=True, help="the binary")
    parser.add_argument("--checkpoint", required=True, type=pathlib.Path)
    parser.add_argument("--files", required=True, type=pathlib.Path, help="where files for other engines are kept")
    parser.add_argument("--formats", default="bf16,8bit,4bit")
    parser.add_argument("--engines", default=",".join(e for e in ENGINES if e != "llama.cpp-as-stored"))
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    for given, known in ((options.formats, GGUF_TYPES), (options.engines, ENGINES)):
        unknown = set(given.split(",")) - set(known)
        if unknown:
            parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    return options


def say(text):
    print(f"== {text}", file=sys.stderr, flush=True)


def made(path, command):
    """The path, made by `command` under another name first, so that half a file is never taken for a whole one."""
    if not path.exists():
        say(f"making {path.name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        subprocess.run([part.replace("{}", str(partial)) for part in command], check=True, stdout=sys.stderr)
        partial.rename(path)
    return path


def input_of(kind, options, fmt):
    name = options.checkpoint.resolve().name
    if kind == "gguf":
        return made(options.files / f"{name}.{GGUF_TYPES[fmt]}.gguf",
                    [sys.executable, str(HERE / "gguf_file.py"), str(options.checkpoint), "{}", GGUF_TYPES[fmt]])
    if kind == "ctranslate2":
        return made(options.files / f"{name}.ctranslate2",
                    [sys.executable, str(HERE / "ct2_files.py"), str(options.checkpoint), "{}"])
    if kind == "onnx":
        return made(options.files / f"{name}.onnx-int4",
                    [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(options.checkpoint), "-o", "{}",
                     "-p", "int4", "-e", "cpu", "-c", str(options.files / "onnx-builder")])
    return options.checkpoint


def run_rhapsode(options, fmt, engine):
    settings = [] if fmt in ("bf16", "ternary") else ["--set", f"quantization={fmt}"]
    if engine == "rhapsode-int8":
        settings += ["--set", "numerics=int8"]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as config:
        config.write("generator:\n  active_model: m\n  models:\n    m:\n      type: huggingface\n"
                     f"      model_id: {json.dumps(str(options.checkpoint.resolve()))}\n"
                     "      torch_dtype: bfloat16\n      device_map: cpu\n")
        config.flush()
        command = [options.rhapsode, "bench", "--json", "-q", "-c", config.name, "--rounds", "1", "--threads",
                   str(options.threads), "--prompt-tokens", str(options.prompt_tokens), "--new-tokens",
                   str(options.new_tokens), *settings]
        out = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    out["load_s"] = out.pop("load_ms") / 1e3
    return out


def run_peer(program, path, options, fmt):
    vocab_size = json.loads((options.checkpoint / "config.json").read_text())["vocab_size"]
    command = [sys.executable, str(HERE / "engines" / program[0]), *program[1:], "--model", str(path), "--format", fmt, "--prompt-tokens",
               str(options.prompt_tokens), "--new-tokens", str(options.new_tokens), "--threads", str(options.threads),
               "--vocab-size", str(vocab_size)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode < 0:
        raise RuntimeError(f"ended by {signal.Signals(-done.returncode).name}")
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(options):
    """{(format, engine): [figures of each round]} and {(format, engine): why there is none}."""
    results, failures = {}, {}
    jobs = [(fmt, engine) for fmt in options.formats.split(",") for engine in options.engines.split(",")
            if fmt in ENGINES[engine][0]]
    for number in range(options.rounds):
        for fmt, engine in jobs:
            if (fmt, engine) in failures:
                continue
            say(f"round {number + 1} of {options.rounds}: {engine}, {fmt}")
            try:
                path = input_of(ENGINES[engine][1], options, fmt)
                program = ENGINES[engine][2]
                figures = run_peer(program, path, options, fmt) if program else run_rhapsode(options, fmt, engine)
                results.setdefault((fmt, engine), []).append(figures)
            except (RuntimeError, subprocess.CalledProcessError) as error:
                failures[fmt, engine] = str(error)
                say(f"{engine}, {fmt}: {error}")
    return results, failures


def medians(results):
    return [{"format": fmt, "engine": engine,
             **{key: statistics.median(r[key] for r in rounds) for key in FIGURES},
             **{key: statistics.median(r[key] for r in rounds) for key in ("decode_share", "prompt_share")
                if key in rounds[0]}}
            for (fmt, engine), rounds in results.items()]


def table(rows, failures, title):
    lines = [f"# {title}", "", "| format | engine | prompt tok/s | decode tok/s | prompt, Rhapsode : it | decode, Rhapsode : it "
             "| load s | peak MB |", "|---|---|---|---|---|---|---|---|"]
    ours = {row["format"]: row for row in rows if row["engine"] == "rhapsode"}
    for row in rows:
        own = ours.get(row["format"])
        ratio = [f"{own[key] / row[key]:.2f}" if own and own is not row else "" for key in FIGURES[:2]]
        lines.append(f"| {row['format']} | {row['engine']} | {row['prompt_tokens_per_s']:.1f} | "
                     f"{row['decode_tokens_per_s']:.1f} | {ratio[0]} | {ratio[1]} | {row['load_s']:.2f} | "
                     f"{row['peak_rss_bytes'] / 1e6:.0f} |")
    lines += ["", *(f"Not measured: {engine}, {fmt}: {why}" for (fmt, engine), why in failures.items())]
    return "\n".join(lines).rstrip() + "\n"


def cpu_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown CPU"


def main():
    options = arguments()
    results, failures = measure(options)
    rows = medians(results)
    title = (f"{options.checkpoint.resolve().name} on {cpu_name()}, {options.threads} threads: prompt of "
             f"{options.prompt_tokens}, {options.new_tokens} new tokens, medians of {options.rounds} rounds in turns")
    text = table(rows, failures, title)
    print(text)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "peers.md").write_text(text)
        (options.out / "peers.json").write_text(json.dumps({"title": title, "rows": rows}, indent=2) + "\n")
        (options.out / "peers.svg").write_text(chart.bars(rows, title))
    return 0 if any(engine == "rhapsode" for _, engine in results) or "rhapsode" not in options.engines else 1


if __name__ == "__main__":
    sys.exit(main())
