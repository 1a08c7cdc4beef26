#include "config/machine.h"

#include <fmt/format.h>

#include <charconv>

#include "base/json.h"
#include "config/sizes.h"

namespace rhapsode::config {
namespace {

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    std::string_view part = text.substr(begin, end - begin);
    while (!part.empty() && part.front() == ' ') part.remove_prefix(1);
    while (!part.empty() && part.back() == ' ') part.remove_suffix(1);
    parts.push_back(part);
    begin = end + 1;
  }
  return parts;
}

class MachineReader {
 public:
  explicit MachineReader(std::string& problem) : problem_(problem) {}

  std::optional<Machine> read(std::string_view text) {
    for (const std::string_view part : split(text, ',')) {
      if (part.empty()) {
        fail(text.empty() ? "no device is named" : "a comma has nothing beside it");
        return std::nullopt;
      }
      const size_t equals = part.find('=');
      const bool good = equals == std::string_view::npos
                            ? gpus(part)
                            : host(part.substr(0, equals), part.substr(equals + 1), part);
      if (!good) return std::nullopt;
    }
    return machine_;
  }

 private:
  bool fail(std::string problem) {
    problem_ = std::move(problem);
    return false;
  }

  // `part` is what the user wrote around it.
  std::optional<uint64_t> size(std::string_view text, std::string_view part) {
    const auto parsed = parse_size(text);
    if (!parsed) {
      fail(
          fmt::format("'{}': a size is missing, or is not one such as 8GB (units: GB, MB, KB, GiB, MiB, KiB)",
                      excerpt(part)));
      return std::nullopt;
    }
    if (parsed->bytes == 0) {
      fail(fmt::format("'{}': a device without memory holds nothing, leave it out", part));
      return std::nullopt;
    }
    if (parsed->in_bits) {
      fail(fmt::format("'{}' means bits: write an upper-case B", part));
      return std::nullopt;
    }
    return parsed->bytes;
  }

  // "2x8GB" or "8GB+24GB".
  bool gpus(std::string_view part) {
    if (part == "cpu" || part == "disk")
      return fail(fmt::format("'{0}': its size is missing: {0}=20GB", part));
    if (!machine_.gpu_bytes.empty())
      return fail(fmt::format("'{}': GPUs are listed once, joined by +", part));
    for (const std::string_view piece : split(part, '+')) {
      size_t count = 1;
      std::string_view bytes = piece;
      const size_t times = piece.find('x');
      if (times != std::string_view::npos) {
        const auto [end, bad] = std::from_chars(piece.data(), piece.data() + times, count);
        if (bad != std::errc{} || end != piece.data() + times || count == 0)
          return fail(fmt::format("'{}': a count of GPUs stands before the x", piece));
        bytes = piece.substr(times + 1);
      }
      const auto one = size(bytes, piece.empty() ? part : piece);
      if (!one) return false;
      if (count > kMostGpus - machine_.gpu_bytes.size())
        return fail(fmt::format("at most {} GPUs", kMostGpus));
      machine_.gpu_bytes.insert(machine_.gpu_bytes.end(), count, *one);
    }
    return true;
  }

  bool host(std::string_view name, std::string_view bytes, std::string_view part) {
    if (name != "cpu" && name != "disk")
      return fail(fmt::format("'{}': only cpu= and disk= are named", part));
    std::optional<uint64_t>& slot = name == "cpu" ? machine_.cpu_bytes : machine_.disk_bytes;
    if (slot) return fail(fmt::format("{} is given twice", name));
    slot = size(bytes, part);
    return slot.has_value();
  }

  std::string& problem_;
  Machine machine_;
};

}  // namespace

std::optional<Machine> parse_machine(std::string_view text, std::string& problem) {
  return MachineReader(problem).read(text);
}

}  // namespace rhapsode::config
