#include "runtime/explain.h"

#include <fmt/format.h>

#include <algorithm>

#include "model/section_times.h"
#include "plan/footprint.h"

namespace rhapsode::runtime {
namespace {

using model::Section;

constexpr double kWorthSaying = 0.05;  // of a token's time
constexpr double kBatch = 4.0;         // sequences of the batch that is worked out

constexpr const char* kNames[model::kSections] = {"embedding", "norms",      "linear qkv", "rope and cache",
                                                  "attention", "linear out", "linear up",  "linear down",
                                                  "LM head",   "waiting"};

struct Bytes {
  double qkv = 0, out = 0, up = 0, down = 0, head = 0;
  double layers() const { return qkv + out + up + down; }
};

Bytes weight_bytes(const arch::ModelTensors& tensors, const plan::Formats& formats) {
  Bytes bytes;
  for (const arch::LayerTensors& layer : tensors.layers) {
    bytes.qkv += static_cast<double>(plan::linear_bytes(formats, layer.qkv));
    bytes.out += static_cast<double>(plan::linear_bytes(formats, layer.o));
    bytes.up += static_cast<double>(plan::linear_bytes(formats, layer.up));
    bytes.down += static_cast<double>(plan::linear_bytes(formats, layer.down));
  }
  bytes.head = static_cast<double>(plan::head_bytes(formats, tensors));
  return bytes;
}

double bytes_of(const Bytes& bytes, Section section) {
  switch (section) {
    case Section::qkv:
      return bytes.qkv;
    case Section::out:
      return bytes.out;
    case Section::up:
      return bytes.up;
    case Section::down:
      return bytes.down;
    case Section::head:
      return bytes.head;
    default:
      return 0.0;
  }
}

// Times of a phase, a token.
struct Phase {
  double tokens;
  double total_ms;
  model::SectionTimes times;

  double ms(Section section) const { return times.mean_ms(section) / tokens; }
  double layers_ms() const {
    return ms(Section::qkv) + ms(Section::out) + ms(Section::up) + ms(Section::down);
  }
};

Explanation::Phase parts_of(const Phase& phase, double choosing_ms, const Bytes* bytes) {
  Explanation::Phase out;
  out.token_ms = phase.total_ms / phase.tokens;
  double left = out.token_ms;
  const auto add = [&](const char* name, double ms, double read) {
    out.parts.push_back({name, ms, ms / out.token_ms, read > 0 && ms > 0 ? read / ms / 1e6 : 0.0});
    left -= ms;
  };
  for (uint32_t i = 0; i < model::kSections; ++i) {
    const auto section = static_cast<Section>(i);
    add(kNames[i], phase.ms(section), bytes != nullptr ? bytes_of(*bytes, section) : 0.0);
  }
  add("choosing", choosing_ms / phase.tokens, 0.0);
  add("between passes", std::max(left, 0.0), 0.0);
  return out;
}

class Knobs {
 public:
  Knobs(Session& session, const BenchOptions& options, const BenchResult& result)
      : session_(session), options_(options), result_(result), more_(result.roofline) {
    if (result.threads >= usable_cores()) return;
    ThreadPool all(usable_cores());
    more_ = devices::measure_roofline(*session.assembly().kernels, all, {64 << 20, 3});
  }

  void decode(const Phase& phase, const Bytes& bytes, Explanation::Phase& out) const {
    const plan::Formats& formats = session_.plan().formats;
    const double weights_ms = phase.layers_ms() + phase.ms(Section::head);
    threads(weights_ms + phase.ms(Section::attention), more_.best_read().median,
            result_.roofline.best_read().median, phase, out);
    const bool four_bit = formats.quantization == config::Quantization::nf4 ||
                          formats.quantization == config::Quantization::fp4;
    if (!four_bit) {
      plan::Formats four = formats;
      four.quantization = config::Quantization::nf4;
      const double left = weight_bytes(session_.assembly().tensors, four).layers() / bytes.layers();
      add(out, "quantization", "quantization: \"4bit\"", phase.layers_ms() * (1.0 - left),
          fmt::format("the layers' weights take {:.0f} % of the token's time, and {:.0f} % of their bytes "
                      "would be left",
                      100 * phase.layers_ms() / out.token_ms, 100 * left));
    }
    const double reading_ms = bytes.layers() / (result_.roofline.best_read().median * 1e6);
    if (four_bit && formats.exact)
      add(out, "numerics", "numerics: fast", phase.layers_ms() - reading_ms,
          fmt::format("reading the layers' weights alone would take {:.2f} ms", reading_ms));
    context(phase, out);
    const double computing_ms = 1e3 / result_.prompt_tokens_per_s;  // as the prompt's tokens took
    add(out, "batch", "--prompts-file with several prompts",
        weights_ms - std::max(weights_ms / kBatch, computing_ms),
        fmt::format("{:.0f} sequences would share each pass over the weights", kBatch));
    sort(out);
  }

  void prompt(const Phase& phase, Explanation::Phase& out) const {
    threads(out.token_ms - phase.ms(Section::waiting), more_.fma.median, result_.roofline.fma.median, phase,
            out);
    const plan::Formats& formats = session_.plan().formats;
    const bool four_bit = formats.quantization == config::Quantization::nf4 ||
                          formats.quantization == config::Quantization::fp4;
    // Matrix tiles multiply bf16 models' weights under fast and hf-exact alike, and nothing of int8's.
    const bool tiles = session_.assembly().kernels->matrix != nullptr && formats.dtype == Dtype::bf16;
    if (formats.exact && four_bit && !tiles) {
      const double faster = result_.roofline.fma.median / result_.roofline.int16.median;
      add(out, "numerics", "numerics: fast", phase.layers_ms() * (1.0 - faster),
          "16-bit fixed point multiplies that much faster here");
    }
    if (!formats.exact && !formats.bytes && four_bit && !tiles) {
      const double faster = result_.roofline.int16.median / result_.roofline.int8.median;
      add(out, "numerics", "numerics: int8", phase.layers_ms() * (1.0 - faster),
          "int8 activations multiply that much faster here; a product errs by 1 to 3 %");
    }
    context(phase, out);
    sort(out);
  }

 private:
  void add(Explanation::Phase& out, const char* name, std::string setting, double saves_ms,
           std::string why) const {
    if (saves_ms < kWorthSaying * out.token_ms) return;
    out.knobs.push_back({name, std::move(setting), saves_ms, std::move(why)});
  }

  static void sort(Explanation::Phase& out) {
    std::stable_sort(out.knobs.begin(), out.knobs.end(),
                     [](const Knob& a, const Knob& b) { return a.saves_ms > b.saves_ms; });
  }

  // More threads while cores are idle and the limit grows with them; one where they mostly wait.
  void threads(double shared_ms, double limit_of_all, double limit, const Phase& phase,
               Explanation::Phase& out) const {
    const uint32_t cores = usable_cores(), used = result_.threads;
    if (used < cores)
      add(out, "threads", fmt::format("--threads {}", cores), shared_ms * (1.0 - limit / limit_of_all),
          fmt::format("{} threads reach {:.1f} where {} reach {:.1f}", used, limit, cores, limit_of_all));
    // One thread waits for nobody, and does by itself what all do now.
    const double waiting = phase.ms(Section::waiting), working = out.token_ms - waiting;
    add(out, "threads", "--threads 1", waiting - working * (used - 1),
        fmt::format("the {} threads wait for each other {:.0f} % of the time: others take their cores", used,
                    100 * waiting / out.token_ms));
  }

  void context(const Phase& phase, Explanation::Phase& out) const {
    add(out, "context", "a prompt of half the length", phase.ms(Section::attention) / 2.0,
        fmt::format("attention to {} tokens takes {:.0f} % of the time", options_.prompt_tokens,
                    100 * phase.ms(Section::attention) / out.token_ms));
  }

  Session& session_;
  const BenchOptions& options_;
  const BenchResult& result_;
  devices::Roofline more_;  // of all cores
};

}  // namespace

Explanation explain(Session& session, const BenchOptions& options, const BenchResult& result) {
  model::Decoder& decoder = session.decoder();
  Phase prompt{static_cast<double>(options.prompt_tokens), 0, {}};
  Phase decode{static_cast<double>(options.new_tokens), 0, {}};
  decoder.time_sections(&prompt.times);
  const BenchRound round = bench_round(session, options, [&] { decoder.time_sections(&decode.times); });
  decoder.time_sections(nullptr);
  prompt.total_ms = round.prompt_ms;
  decode.total_ms = round.decode_ms;
  Bytes bytes = weight_bytes(session.assembly().tensors, session.plan().formats);
  bytes.head = static_cast<double>(head_bytes_per_pass(session));
  Explanation out;
  out.decode = parts_of(decode, round.choosing_ms, &bytes);
  out.prompt = parts_of(prompt, 0.0, nullptr);
  const Knobs knobs(session, options, result);
  knobs.decode(decode, bytes, out.decode);
  knobs.prompt(prompt, out.prompt);
  return out;
}

}  // namespace rhapsode::runtime
