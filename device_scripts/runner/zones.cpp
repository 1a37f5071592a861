#include "zones.h"

#include <algorithm>
#include <optional>

#include "clocks.h"
#include "jsonl.h"
#include "readings.h"

namespace runner {
namespace {

constexpr size_t kMostZones = 128, kMostName = 40;
constexpr uint64_t kSlow_ns = 5'000'000;
constexpr int64_t kMostMillidegrees = 10'000'000;

std::optional<int64_t> millidegrees(const std::string& path) {
  return read_number(path, -kMostMillidegrees, kMostMillidegrees);
}

// One line that can be printed, or nothing.
std::string type(const std::string& path) {
  std::string text = read_text(path, 256).value_or("");
  text = text.substr(0, text.find('\n'));
  const bool printable = std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
  return printable ? text.substr(0, kMostName) : "";
}

}  // namespace

Zones::Zones(const std::string& sysroot) {
  const std::string folder = sysroot + "/sys/class/thermal";
  for (const auto& zone : numbered(folder, "thermal_zone", kMostZones)) {
    const std::string path = folder + "/" + zone + "/";
    const uint64_t before = raw_ns();
    if (!millidegrees(path + "temp") || raw_ns() - before > kSlow_ns) continue;
    std::string name = type(path + "type");
    const auto taken = [&](const auto& other) { return other.first == json_text(name); };
    if (name.empty()) name = zone;
    else if (std::any_of(zones_.begin(), zones_.end(), taken)) name += "@" + zone;
    zones_.emplace_back(json_text(name), path + "temp");
  }
}

std::string Zones::json() const {
  std::string out = "{";
  for (const auto& [name, path] : zones_)
    if (const auto now = millidegrees(path)) out += (out.size() > 1 ? "," : "") + name + ":" + std::to_string(*now);
  return out + "}";
}

}  // namespace runner
