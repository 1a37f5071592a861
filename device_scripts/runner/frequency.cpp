#include "frequency.h"

#include <optional>

#include "jsonl.h"
#include "readings.h"

namespace runner {
namespace {

constexpr size_t kMostPolicies = 64, kMostCpus = 1024, kMostStates = 512;
constexpr int64_t kMostTicks = int64_t{1} << 53;

std::string folder(const std::string& sysroot) { return sysroot + "/sys/devices/system/cpu/cpufreq"; }

// "0 1 2" -> "[0,1,2]".
std::optional<std::string> cpus(const std::string& path) {
  const auto text = read_text(path, 16384);
  const auto found = text ? words(*text, kMostCpus) : std::nullopt;
  if (!found || found->empty()) return std::nullopt;
  std::string list;
  for (const auto word : *found) {
    const auto cpu = whole_number(word, 0, kMostCpus - 1);
    if (!cpu) return std::nullopt;
    list += (list.empty() ? "[" : ",") + std::to_string(*cpu);
  }
  return list + "]";
}

// Lines of a clock in kHz and the ticks spent at it. All or nothing: shares of half a table would be wrong.
std::optional<std::string> time_in_state(const std::string& path) {
  const auto text = read_text(path, 32768);
  const auto found = text ? words(*text, 2 * kMostStates) : std::nullopt;
  if (!found || found->empty() || found->size() % 2) return std::nullopt;
  std::string list;
  for (size_t i = 0; i < found->size(); i += 2) {
    const auto khz = whole_number((*found)[i], 1, kMostKhz), ticks = whole_number((*found)[i + 1], 0, kMostTicks);
    if (!khz || !ticks) return std::nullopt;
    list += (list.empty() ? "[[" : ",[") + std::to_string(*khz) + "," + std::to_string(*ticks) + "]";
  }
  return list + "]";
}

std::string policy_json(const std::string& parent, const std::string& name) {
  const std::string path = parent + "/" + name + "/";
  std::string out = "{\"policy\":" + json_text(name);
  if (const auto list = cpus(path + "related_cpus")) out += ",\"cpus\":" + *list;
  const struct {
    const char *key, *file;
  } clocks[] = {{"cur_khz", "scaling_cur_freq"},
                {"min_khz", "scaling_min_freq"},
                {"max_khz", "scaling_max_freq"},
                {"hardware_max_khz", "cpuinfo_max_freq"}};
  for (const auto& clock : clocks)
    if (const auto khz = read_number(path + clock.file, 1, kMostKhz))
      out += ",\"" + std::string(clock.key) + "\":" + std::to_string(*khz);
  if (const auto states = time_in_state(path + "stats/time_in_state")) out += ",\"time_in_state\":" + *states;
  return out + "}";
}

}  // namespace

std::string policies_json(const std::string& sysroot) {
  std::string list = "[";
  for (const auto& name : numbered(folder(sysroot), "policy", kMostPolicies))
    list += (list.size() > 1 ? "," : "") + policy_json(folder(sysroot), name);
  return list + "]";
}

std::string clocks_json(const std::string& sysroot) {
  std::string out = "{";
  for (const auto& name : numbered(folder(sysroot), "policy", kMostPolicies))
    if (const auto khz = read_number(folder(sysroot) + "/" + name + "/scaling_cur_freq", 1, kMostKhz))
      out += (out.size() > 1 ? "," : "") + json_text(name) + ":" + std::to_string(*khz);
  return out + "}";
}

}  // namespace runner
