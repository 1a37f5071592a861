#include "process.h"

#include <unistd.h>

#include <algorithm>

#include "jsonl.h"
#include "readings.h"

namespace runner {
namespace {

constexpr int64_t kMostTicks = int64_t{1} << 38;  // of 10 ms: the product fits, and no device is up so long

// The first line of /proc/self/cgroup, what cannot be printed as "?".
std::string cgroup() {
  std::string text = read_text("/proc/self/cgroup", 65536).value_or("");
  text = text.substr(0, std::min<size_t>(text.find('\n'), 200));
  std::replace_if(text.begin(), text.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return text;
}

}  // namespace

std::string boot_id() {
  const std::string text = read_text("/proc/sys/kernel/random/boot_id", 64).value_or("");
  return text.size() >= 36 ? text.substr(0, 36) : "";
}

// Field 22 of /proc/self/stat, proc_pid_stat(5). The second is the program's name in parentheses, which may hold any.
std::optional<int64_t> exec_to_main_ns(uint64_t main_boottime_ns) {
  const std::string text = read_text("/proc/self/stat", 4096).value_or("");
  const size_t name_end = text.rfind(')');
  const long ticks_per_s = sysconf(_SC_CLK_TCK);
  if (name_end == std::string::npos || ticks_per_s <= 0) return std::nullopt;
  const auto fields = words(std::string_view(text).substr(name_end + 1), 100);  // from the third on
  const auto ticks = fields && fields->size() > 19 ? whole_number((*fields)[19], 0, kMostTicks) : std::nullopt;
  const int64_t since_ns = static_cast<int64_t>(main_boottime_ns) - ticks.value_or(0) * (1'000'000'000 / ticks_per_s);
  return ticks && since_ns >= 0 ? std::optional(since_ns) : std::nullopt;
}

cpu_set_t allowed_cpus() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  sched_getaffinity(0, sizeof mask, &mask);
  return mask;
}

std::string hex(const cpu_set_t& mask) {
  std::string text;
  for (size_t nibble = 0; nibble < CPU_SETSIZE / 4; nibble++) {
    int digit = 0;
    for (size_t bit = 0; bit < 4; bit++) digit |= CPU_ISSET(nibble * 4 + bit, &mask) ? 1 << bit : 0;
    text.insert(text.begin(), "0123456789abcdef"[digit]);
  }
  const size_t first = text.find_first_not_of('0');
  return "0x" + (first == std::string::npos ? "0" : text.substr(first));
}

void write_placement(const std::vector<uint64_t>& cpu_counts) {
  std::string counts = "{";
  for (size_t cpu = 0; cpu < cpu_counts.size(); cpu++)
    if (cpu_counts[cpu])
      counts += (counts.size() > 1 ? ",\"" : "\"") + std::to_string(cpu) + "\":" + std::to_string(cpu_counts[cpu]);
  Line line("placement");
  line.text("cpus_allowed", hex(allowed_cpus()));
  if (const std::string group = cgroup(); !group.empty()) line.text("cgroup", group);
  line.json("cpu_counts", counts + "}").write();
}

}  // namespace runner
