// A machine in one line: "2x8GB,cpu=20GB,disk=100GB" or "8GB+24GB,cpu=64GB". What --machine and the key
// `devices` hold. Refuses to know what is done with it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace rhapsode::config {

struct Machine {
  std::vector<uint64_t> gpu_bytes;     // by index
  std::optional<uint64_t> cpu_bytes;   // absent: the memory that this machine really has
  std::optional<uint64_t> disk_bytes;  // absent: no limit
  bool operator==(const Machine&) const = default;
};

constexpr size_t kMostGpus = 64;
constexpr const char* kMachineForm =
    "GPU sizes, then cpu= and disk=: \"2x8GB,cpu=20GB\" or \"8GB+24GB,cpu=64GB\"";

// Sizes as parse_size reads them; each device holds at least one byte. On a mistake nullopt, and `problem`
// says what is wrong with which piece.
std::optional<Machine> parse_machine(std::string_view text, std::string& problem);

}  // namespace rhapsode::config
