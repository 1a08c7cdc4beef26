#include "runtime/access_record.h"

#include <filesystem>

#include "base/atomic_file.h"
#include "base/json.h"

namespace rhapsode::runtime {
namespace {

constexpr int kVersion = 1;
constexpr uint32_t kMostBytes = 1 << 16;

struct Line {
  AccessKey key;
  model::AccessTuner::Choice choice;
};

std::optional<Line> line_of(const Json& json) {
  const auto text = [&](const char* name) {
    return json.contains(name) && json[name].is_string() ? json[name].get<std::string>() : std::string();
  };
  if (!json.is_object()) return std::nullopt;
  for (const char* name : {"threads", "bytes_ahead"})
    if (!json.contains(name) || !json[name].is_number_unsigned() || json[name] > kMostBytes)
      return std::nullopt;
  if (!json.contains("gain") || !json["gain"].is_number()) return std::nullopt;
  return Line{{text("cpu"), text("kernels"), json["threads"], text("weights")},
              {json["bytes_ahead"], json["gain"]}};
}

std::vector<Line> read_lines(const std::string& file) {
  std::vector<Line> lines;
  if (!std::filesystem::exists(file)) return lines;
  try {
    const Json json = read_json_file(file);
    if (!json.is_object() || json.value("version", Json()) != kVersion || !json.contains("choices"))
      return lines;
    for (const Json& entry : json["choices"])
      if (const std::optional<Line> line = line_of(entry)) lines.push_back(*line);
  } catch (const Error&) {
    lines.clear();  // a record can always be made anew
  }
  return lines;
}

}  // namespace

std::optional<model::AccessTuner::Choice> recorded_access(const std::string& file, const AccessKey& key) {
  for (const Line& line : read_lines(file))
    if (line.key == key) return line.choice;
  return std::nullopt;
}

void record_access(const std::string& file, const AccessKey& key, const model::AccessTuner::Choice& choice) {
  std::vector<Line> lines = read_lines(file);
  std::erase_if(lines, [&](const Line& line) { return line.key == key; });
  lines.push_back({key, choice});
  OrderedJson out{{"version", kVersion}, {"choices", OrderedJson::array()}};
  for (const Line& line : lines)
    out["choices"].push_back(OrderedJson{{"cpu", line.key.cpu},
                                         {"kernels", line.key.kernels},
                                         {"threads", line.key.threads},
                                         {"weights", line.key.weights},
                                         {"bytes_ahead", line.choice.bytes},
                                         {"gain", line.choice.gain}});
  const std::string text = out.dump(1) + "\n";
  std::filesystem::create_directories(std::filesystem::path(file).parent_path());
  AtomicFile writer(file);
  writer.append(std::as_bytes(std::span(text)));
  writer.commit();
}

}  // namespace rhapsode::runtime
