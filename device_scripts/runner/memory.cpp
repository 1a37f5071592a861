#include "memory.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

#include "jsonl.h"

namespace runner {
namespace {

std::string read_all(const char* path) {
  std::string text;
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return text;
  char buffer[4096];
  for (ssize_t n; (n = read(fd, buffer, sizeof buffer)) > 0;) text.append(buffer, static_cast<size_t>(n));
  close(fd);
  return text;
}

// The value of a "Key:   123 kB" line in bytes; -1 if there is none.
int64_t field(const std::string& text, const char* key) {
  const size_t at = text.find(std::string("\n") + key + ":");
  if (at == std::string::npos) return -1;
  return std::strtoll(text.c_str() + at + strlen(key) + 2, nullptr, 10) * 1024;
}

}  // namespace

void MemoryLog::write(const char* phase, bool peak) {
  const std::string status = "\n" + read_all("/proc/self/status"), rollup = "\n" + read_all("/proc/self/smaps_rollup");
  const int64_t rss = field(status, "VmRSS"), swap = field(status, "VmSwap"), hwm = field(status, "VmHWM");
  most_ = std::max({most_, hwm, rss + std::max<int64_t>(swap, 0)});
  Line line("memory");
  line.text("phase", phase);
  const struct {
    const char* key;
    int64_t bytes;
  } counters[] = {{"vm_rss", rss},
                  {"vm_hwm", hwm},
                  {"vm_swap", swap},
                  {"rss_anon", field(status, "RssAnon")},
                  {"rss_file", field(status, "RssFile")},
                  {"pss", field(rollup, "Pss")},
                  {"private_clean", field(rollup, "Private_Clean")},
                  {"private_dirty", field(rollup, "Private_Dirty")}};
  for (const auto& c : counters)
    if (c.bytes >= 0) line.whole(c.key, c.bytes);
  if (peak && hwm >= 0) line.whole("peak_bytes", most_);
  line.write();
}

void MemoryLog::write(const char* phase) { write(phase, false); }
void MemoryLog::write_peak() { write("peak", true); }

}  // namespace runner
