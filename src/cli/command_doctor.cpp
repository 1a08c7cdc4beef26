// `doctor`: the machine, the cache and the hub's settings as this program sees them; what is wrong with them
// and what will be slow. Opens no socket.
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "cli/environment.h"
#include "cli/invocation.h"
#include "cli/model_fetch.h"
#include "cli/model_source.h"
#include "cli/terminal.h"
#include "cli/troubleshooting.h"
#include "hub/hub.h"
#include "hub/upkeep.h"
#include "runtime/generate.h"
#include "runtime/kernel_sets.h"

namespace rhapsode::cli {
namespace {

namespace fs = std::filesystem;

struct Symptom {
  std::string code;
  bool warning = false;  // else a note
  std::string message, why, fix;
};

struct CacheFacts {
  bool exists = false, writable = false;
  bool is_file = false;  // where a directory should be
  uint64_t bytes = 0, free_bytes = 0, partial_bytes = 0, models = 0;
};

// The word in brackets of "always [madvise] never".
std::string huge_pages() {
  std::ifstream in("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string line;
  std::getline(in, line);
  const size_t open = line.find('['), close = line.find(']');
  return open == std::string::npos || close == std::string::npos ? ""
                                                                 : line.substr(open + 1, close - open - 1);
}

MachineFacts machine_facts(const Globals& globals) {
  MachineFacts machine;
  machine.inventory = devices::read_inventory();
  machine.isa = globals.isa;
  for (const runtime::KernelSetInfo& set : runtime::kernel_sets())
    if (machine.isa.empty() && set.supported) machine.isa = set.name;
  machine.threads = threads_of(globals);
  if (machine.threads == 0) machine.threads = machine.inventory.cores;
  machine.read_gb_s = runtime::measured_read_gb_s(globals.isa, machine.threads);
  machine.huge_pages = huge_pages();
  return machine;
}

CacheFacts cache_facts(const hub::HubSettings& settings) {
  CacheFacts cache;
  std::error_code code;
  fs::path above = settings.cache_directory;
  cache.exists = fs::is_directory(above, code);
  cache.is_file = !cache.exists && fs::exists(above, code);
  while (!fs::exists(above, code) && above.has_parent_path() && above != above.parent_path())
    above = above.parent_path();
  cache.writable = ::access(above.c_str(), W_OK) == 0;
  struct statvfs info {};
  if (::statvfs(above.c_str(), &info) == 0) cache.free_bytes = uint64_t{info.f_bavail} * info.f_frsize;
  if (cache.is_file) return cache;
  for (const hub::KeptModel& model : hub::kept_models(settings)) {
    cache.bytes += model.bytes;
    cache.partial_bytes += model.partial_bytes;
    ++cache.models;
  }
  return cache;
}

bool readable_by_others(const std::string& file) {
  struct stat info {};
  return ::stat(file.c_str(), &info) == 0 && (info.st_mode & 077) != 0;
}

std::vector<Symptom> symptoms(const MachineFacts& machine, const hub::HubSettings& hub,
                              const CacheFacts& cache) {
  constexpr uint64_t kLittleDisk = 10'000'000'000;
  std::vector<Symptom> out;
  if (machine.isa == "reference")
    out.push_back({"slow-kernels", true, "no fast kernel set fits this CPU",
                   "everything runs on portable code", "use a CPU with AVX2, or leave --isa out"});
  if (machine.huge_pages == "never")
    out.push_back({"no-huge-pages", true, "transparent huge pages are off",
                   "weights lie in 4 KiB pages: slower to load and to read",
                   "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"});
  if (machine.inventory.available_bytes < machine.inventory.ram_bytes / 4)
    out.push_back({"little-memory", true, "less than a quarter of the memory can be taken",
                   "other programs or a control group hold the rest",
                   "end other programs, or raise the limit"});
  if (hub.offline)
    out.push_back({"offline", false, "we are offline",
                   "--offline, HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set", "unset it to fetch models"});
  if (hub.token.value.empty())
    out.push_back({"no-token", false, "there is no token", "gated and private models cannot be fetched",
                   "rhapsode login"});
  else if (!hub.send_token)
    out.push_back(
        {"token-unused", false, "the token is not sent", "HF_HUB_DISABLE_IMPLICIT_TOKEN is set", "unset it"});
  if (readable_by_others(hub.token_file))
    out.push_back({"token-readable", true, "other users can read the token's file", hub.token_file,
                   "chmod 600 " + hub.token_file});
  if (cache.is_file)
    out.push_back({"cache-not-a-directory", true, "the cache is not a directory", hub.cache_directory,
                   "set HF_HUB_CACHE to a directory"});
  if (!cache.writable)
    out.push_back({"cache-read-only", true, "the cache cannot be written to", hub.cache_directory,
                   "set HF_HUB_CACHE to another directory"});
  if (cache.free_bytes < kLittleDisk)
    out.push_back({"little-disk", true,
                   fmt::format("{} are free where the cache is", bytes_text(cache.free_bytes)),
                   "a 7B model takes 14 GB", "rhapsode cache prune, or set HF_HUB_CACHE to another disk"});
  if (cache.partial_bytes > 0)
    out.push_back({"partial-downloads", false,
                   fmt::format("{} of downloads that have not ended", bytes_text(cache.partial_bytes)),
                   "rhapsode pull goes on with them", "rhapsode cache prune removes them"});
  return out;
}

OrderedJson doctor_json(const MachineFacts& machine, const hub::HubSettings& hub, const CacheFacts& cache,
                        const std::vector<Symptom>& found, const std::vector<Answer>& answers) {
  OrderedJson sets = OrderedJson::array();
  for (const runtime::KernelSetInfo& set : runtime::kernel_sets())
    sets.push_back({{"name", set.name}, {"supported", set.supported}, {"needs", set.needs}});
  OrderedJson out{{"ok", true}};
  out["machine"] = {{"cpu", machine.inventory.cpu_name},
                    {"cores", machine.inventory.cores},
                    {"isa", machine.isa},
                    {"isa_sets", sets},
                    {"ram_bytes", machine.inventory.ram_bytes},
                    {"available_bytes", machine.inventory.available_bytes},
                    {"cgroup_limit_bytes", machine.inventory.cgroup_limit_bytes},
                    {"read_gb_per_s", machine.read_gb_s},
                    {"huge_pages", machine.huge_pages}};
  out["hub"] = {
      {"endpoint", hub.endpoint},
      {"offline", hub.offline},
      {"token",
       {{"present", !hub.token.value.empty()}, {"origin", hub.token.origin}, {"sent", hub.send_token}}},
      {"transfer", "http"}};  // Xet's own protocol is not spoken; its files come over http too
  out["cache"] = {{"path", hub.cache_directory},   {"exists", cache.exists},
                  {"writable", cache.writable},    {"models", cache.models},
                  {"bytes", cache.bytes},          {"partial_bytes", cache.partial_bytes},
                  {"free_bytes", cache.free_bytes}};
  out["findings"] = OrderedJson::array();
  for (const Symptom& symptom : found) {
    if (symptom.warning) out["ok"] = false;
    out["findings"].push_back({{"code", symptom.code},
                               {"severity", symptom.warning ? "warning" : "note"},
                               {"message", symptom.message},
                               {"why", symptom.why},
                               {"fix", symptom.fix}});
  }
  out["troubleshooting"] = OrderedJson::array();
  for (const Answer& answer : answers)
    out["troubleshooting"].push_back(
        {{"issue", answer.issue}, {"facts", answer.facts}, {"commands", answer.commands}});
  return out;
}

std::string doctor_text(const MachineFacts& machine, const hub::HubSettings& hub, const CacheFacts& cache,
                        const std::vector<Symptom>& found, const std::vector<Answer>& answers,
                        const Style& style) {
  std::string text;
  const auto row = [&](const char* label, const std::string& value) {
    text += fmt::format("  {:<11} {}\n", label, value);
  };
  text += style.bold("machine") + "\n";
  row("cpu", fmt::format("{}, {} usable cores", machine.inventory.cpu_name, machine.inventory.cores));
  row("kernels", machine.isa);
  row("memory", fmt::format("{}, of which {} can be taken", bytes_text(machine.inventory.ram_bytes),
                            bytes_text(machine.inventory.available_bytes)));
  row("bandwidth", fmt::format("{:.1f} GB/s read by all threads", machine.read_gb_s));
  row("huge pages", machine.huge_pages.empty() ? "unknown" : machine.huge_pages);
  text += style.bold("hub") + "\n";
  row("endpoint", hub.endpoint + (hub.offline ? " (offline: not used)" : ""));
  row("token", hub.token.value.empty() ? "none" : "from " + hub.token.origin);
  row("transfer", "HTTP; repositories that are stored with Xet come over HTTP too");
  text += style.bold("cache") + "\n";
  row("path", hub.cache_directory + (cache.exists ? "" : cache.is_file ? " (a file)" : " (not there yet)"));
  row("holds", fmt::format("{} models, {}; {} free", cache.models, bytes_text(cache.bytes),
                           bytes_text(cache.free_bytes)));
  text += "\n";
  for (const Symptom& symptom : found)
    text += fmt::format("{}: {}\n  why: {}\n  fix: {}\n",
                        symptom.warning ? style.yellow("warning[" + symptom.code + "]")
                                        : style.cyan("note[" + symptom.code + "]"),
                        symptom.message, symptom.why, symptom.fix);
  for (const Answer& answer : answers) {
    text += "\n" + style.bold(answer.issue) + "\n";
    for (const std::string& fact : answer.facts) text += "  - " + fact + "\n";
    for (const std::string& command : answer.commands) text += "  $ " + command + "\n";
  }
  return text;
}

std::string quantization_name(const runtime::Assembly& assembly, const plan::Plan& plan) {
  const arch::StoredQuantization& stored = assembly.architecture.spec.stored;
  if (plan.formats.quantization == config::Quantization::int8 || stored.kind == arch::StoredKind::int8)
    return "8bit";
  if (plan.formats.quantization != config::Quantization::none || stored.kind == arch::StoredKind::four_bit)
    return "4bit";
  if (stored.kind == arch::StoredKind::gptq) return "GPTQ";
  return stored.kind == arch::StoredKind::awq ? "AWQ" : "";
}

// Reads headers alone; the tokenizer too, since a plan counts it.
PlanFacts plan_facts(const runtime::Assembly& assembly) {
  const runtime::RequestSize size = runtime::typical_request_size(assembly);
  const plan::Plan plan = runtime::make_plan(assembly, std::nullopt, size.sequences, size.logits_rows,
                                             std::nullopt, size.choice_bytes);
  PlanFacts facts;
  facts.fits = plan.fits;
  facts.needed_bytes = plan::total_bytes(plan);
  facts.short_bytes = plan.bytes_short;
  for (size_t u = 0; u < plan.units.size(); ++u) {
    if (!plan.units[u].computes()) continue;
    facts.bytes_per_token += plan.units[u].held_bytes();
    if (plan.placement.home[u] != plan.placement.exec[u]) facts.moved_bytes += plan.units[u].held_bytes();
  }
  facts.quantized_anew = plan.quantized_anew;
  facts.quantization = quantization_name(assembly, plan);
  facts.is_float32 = plan.dtype == Dtype::f32;
  facts.has_chat_template = assembly.chat_template.has_value();
  for (const plan::Change& change : plan.changes) {
    if (!change.fits) continue;
    std::string set;
    for (const std::string& one : change.set) set += (set.empty() ? "--set " : " --set ") + shell_word(one);
    facts.changes.emplace_back(change.what, set);
  }
  return facts;
}

// As the user named the config, so that what is pasted is about the same one.
std::string arguments_of(const Globals& globals) {
  std::string text = "-c " + shell_word(globals.config);
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) text += fmt::format(" {} {}", name, shell_word(value));
  };
  add("--model", globals.model);
  add("--machine", globals.machine);
  for (const std::string& set : globals.sets) add("--set", set);
  return text;
}

// What the config and the checkpoint say. An error of the model is an answer to "Model Not Loading".
ConfigFacts config_facts(const Globals& globals, const config::Config& config, const hub::HubSettings& hub) {
  const config::ModelEntry& entry = config.active();
  ConfigFacts facts;
  facts.arguments = arguments_of(globals);
  facts.entry = &entry;
  facts.values = config::explain_generation(config, {});
  try {
    if (!hub::is_local(entry.model_id.value) && !model_files_are_here(entry, hub)) {
      hub::check_model_name(entry.model_id.value, revision_of(entry));
      return facts;
    }
    facts.values =
        config::explain_generation(config, runtime::checkpoint_facts(model_directory(entry, globals)));
    facts.plan = plan_facts(open_model(globals, "doctor", TextNeed::where_present));
  } catch (const Error& error) {
    facts.refusal = error;
  }
  return facts;
}

int doctor(const Globals& globals) {
  std::optional<config::Config> config;
  if (!globals.config.empty()) config = config::load(load_request(globals, "doctor"));
  machine_of(globals);  // throws where it names none
  const hub::HubSettings hub = hub_settings(globals);
  const MachineFacts machine = machine_facts(globals);
  const CacheFacts cache = cache_facts(hub);
  const std::vector<Symptom> found = symptoms(machine, hub, cache);
  const ConfigFacts facts = config ? config_facts(globals, *config, hub) : ConfigFacts();
  const std::vector<Answer> answers = troubleshooting(machine, hub, facts);
  if (globals.json)
    print_json(doctor_json(machine, hub, cache, found, answers));
  else
    print(doctor_text(machine, hub, cache, found, answers, stdout_style(globals)));
  return 0;
}

}  // namespace

void add_doctor(Invocation& invocation) {
  Command command(invocation, "doctor", kProgramGroup,
                  "This machine, the cache and the hub: what is wrong or slow",
                  "  rhapsode doctor\n"
                  "  rhapsode doctor -c rag.yaml --json       also about this config");
  command.action([&invocation] { return doctor(invocation.globals); });
}

}  // namespace rhapsode::cli
