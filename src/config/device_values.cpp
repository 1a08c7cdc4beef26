// Devices, device maps and sizes of memory, as the YAML writes them.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include "config/nearest.h"
#include "config/sizes.h"
#include "config/values.h"

namespace rhapsode::config {
namespace {

constexpr std::array<std::string_view, 4> kStrategies{"auto", "balanced", "balanced_low_0", "sequential"};

std::optional<DeviceName> gpu(std::string_view digits) {
  DeviceName device;
  const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), device.index);
  if (digits.empty() || problem != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  if (digits.size() > 1 && digits[0] == '0') return std::nullopt;
  return device;
}

// 0, "0", "cuda:0", "cuda" (the first, as torch has it), "cpu", "disk".
std::optional<DeviceName> device_named(std::string_view text) {
  if (text == "cpu") return DeviceName{DeviceName::Kind::cpu, 0};
  if (text == "disk") return DeviceName{DeviceName::Kind::disk, 0};
  if (text == "cuda") return DeviceName{};
  if (text.starts_with("cuda:")) text.remove_prefix(5);
  return gpu(text);
}

}  // namespace

std::string DeviceName::to_text() const {
  if (kind == Kind::cpu) return "cpu";
  if (kind == Kind::disk) return "disk";
  return std::to_string(index);
}

bool ValueReader::device(const Node& node, DeviceName& out) const {
  const char* expected = "a GPU index, \"cuda:0\", \"cpu\" or \"disk\"";
  const Scalar scalar = resolve(node);
  const bool typed = scalar.kind == Scalar::Kind::integer || scalar.kind == Scalar::Kind::text;
  if (!node.is_scalar() || !typed) return wrong_type(node, expected, "write 0, \"cpu\" or \"disk\"");
  const auto device = device_named(node.text);
  if (!device)
    return fail("bad-device", node, "there is no such device name", expected, "write 0, \"cpu\" or \"disk\"");
  out = *device;
  return true;
}

bool ValueReader::read(const Node& node, uint64_t& bytes) const {
  const char* expected = "a size such as \"3.8GB\" (10^9), \"3.8GiB\" (2^30), or whole bytes";
  const Scalar scalar = resolve(node);
  if (node.is_scalar() && scalar.kind == Scalar::Kind::integer) {
    if (!scalar.integer || *scalar.integer < 0)
      return fail("bad-size", node, "a size is not negative and fits 63 bits", expected, "");
    bytes = static_cast<uint64_t>(*scalar.integer);
    if (bytes > 0 && bytes < 1'000'000) {
      Finding& f = report_.add(Severity::warning, "size-in-bytes", node.place, path_,
                               fmt::format("a number without a unit is bytes: {} bytes", bytes));
      f.found = node.text;
      f.why = "no model fits so little; a unit is probably missing";
      f.fix = fmt::format("write \"{}GB\" if gigabytes are meant", bytes);
    }
    return true;
  }
  if (!node.is_scalar() || scalar.kind != Scalar::Kind::text)
    return wrong_type(
        node, expected,
        scalar.kind == Scalar::Kind::real ? fmt::format("add the unit: \"{}GB\"", node.text) : "");
  const auto size = parse_size(node.text);
  if (!size) {
    const bool placeholder = node.text.find_first_of("<>") != std::string::npos;
    return fail("bad-size", node, "this is not a size", expected,
                placeholder ? "put a size in place of the <…>" : "units are GB, MB, KB, GiB, MiB and KiB");
  }
  bytes = size->bytes;
  if (size->in_bits) {
    std::string in_bytes = node.text;
    in_bytes.back() = 'B';
    Finding& f = report_.add(Severity::warning, "size-in-bits", node.place, path_,
                             fmt::format("a lower-case b means bits: \"{}\" is {} bytes", node.text, bytes));
    f.found = node.text;
    f.why = "sizes follow accelerate's grammar, which divides by 8 here";
    f.fix = fmt::format("write \"{}\" if bytes are meant", in_bytes);
  }
  return true;
}

bool ValueReader::read(const Node& node, MaxMemory& out) const {
  if (!node.is_mapping() || node.members.empty())
    return wrong_type(node, "a mapping from devices to sizes",
                      "write {0: \"7GB\", \"cpu\": \"20GB\"}; max_gpu_memory is one limit for every GPU");
  bool ok = true;
  std::set<DeviceName> seen;
  for (const auto& [name, value] : node.members) {
    std::pair<DeviceName, Value<uint64_t>> row;
    row.second.origin = report_.origin(value->place);
    const bool named = device(*name, row.first);
    if (named && !seen.insert(row.first).second)
      ok = fail("duplicate-key", *name, fmt::format("device {} is limited twice", row.first.to_text()), "",
                "keep one");
    const ValueReader at(report_, key_, path_ + "." + name->text);
    const bool sized = at.read(*value, row.second.value);
    ok = ok && named && sized;
    out.push_back(std::move(row));
  }
  return ok;
}

bool ValueReader::read(const Node& node, DeviceMap& out) const {
  if (node.is_scalar()) {
    const Scalar scalar = resolve(node);
    const auto strategy = std::find(kStrategies.begin(), kStrategies.end(), node.text);
    if (scalar.kind == Scalar::Kind::text && strategy != kStrategies.end())
      return out = static_cast<Strategy>(strategy - kStrategies.begin()), true;
    const bool typed = scalar.kind == Scalar::Kind::integer || scalar.kind == Scalar::Kind::text;
    if (const auto device = typed ? device_named(node.text) : std::nullopt) return out = *device, true;
    const char* expected =
        "auto, balanced, balanced_low_0, sequential, a GPU index, \"cuda:0\", \"cpu\", \"disk\", or a "
        "mapping";
    if (!typed) return wrong_type(node, expected, "");
    const std::string near = nearest(node.text, {kStrategies.begin(), kStrategies.end()});
    return fail("bad-device", node, "`device_map` has no such value", expected,
                near.empty() ? "" : fmt::format("did you mean \"{}\"?", near));
  }
  if (!node.is_mapping() || node.members.empty())
    return wrong_type(node, "a strategy, a device, or a mapping from module prefixes to devices", "");
  const auto sized = [](const auto& m) {
    return m.second->is_scalar() && parse_size(m.second->text).has_value();
  };
  if (std::all_of(node.members.begin(), node.members.end(), sized)) {
    Finding& f = report_.error("max-memory-in-device-map", node.place, path_,
                               "these are limits of memory, and device_map takes a placement");
    f.found = "a mapping to sizes";
    f.expected = "a strategy, a device, or a mapping from module prefixes to devices";
    f.why = "the guide's table shows {0: \"20GB\"} under device_map; that is the syntax of max_memory";
    f.fix = "rename the key to max_memory, and add device_map: \"auto\" if it is not there";
    return false;
  }
  std::vector<std::pair<std::string, DeviceName>> map;
  bool ok = true;
  for (const auto& [prefix, value] : node.members) {
    DeviceName target;
    const ValueReader at(report_, key_, path_ + "." + prefix->text);
    ok = at.device(*value, target) && ok;
    map.emplace_back(prefix->text, target);
  }
  out = std::move(map);
  return ok;
}

}  // namespace rhapsode::config
