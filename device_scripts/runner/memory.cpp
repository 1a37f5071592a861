#include "memory.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "jsonl.h"
#include "readings.h"

namespace runner {
namespace {

constexpr size_t kMostText = size_t{16} << 20;

std::string read_lines(const char* path) { return "\n" + read_text(path, kMostText).value_or(""); }

// The value of a "Key:   123 kB" line in bytes; -1 if there is none.
int64_t field(const std::string& text, const char* key) {
  const size_t at = text.find(std::string("\n") + key + ":");
  if (at == std::string::npos) return -1;
  return std::strtoll(text.c_str() + at + strlen(key) + 2, nullptr, 10) * 1024;
}

// Rss of all mappings of this file in bytes; -1 if it cannot be told. A mapping begins with a line
// "START-END PERMISSIONS OFFSET MAJOR:MINOR INODE   PATH", proc_pid_smaps(5); its counters follow. Some file systems
// (btrfs, overlayfs) tell another device there than by stat: then the path decides.
int64_t mapped(const std::string& model) {
  const auto text = read_text("/proc/self/smaps", kMostText);
  struct stat info;
  if (!text || stat(model.c_str(), &info) != 0) return -1;
  char* const real = realpath(model.c_str(), nullptr);
  const std::string path = real ? real : model;
  free(real);
  int64_t kib = 0;
  bool ours = false;
  for (size_t at = 0, end; at < text->size(); at = end + 1) {
    end = std::min(text->find('\n', at), text->size());
    const std::string line = text->substr(at, end - at);
    unsigned major = 0, minor = 0;
    unsigned long long inode = 0;
    int name = 0;
    long long rss = 0;
    if (sscanf(line.c_str(), "%*x-%*x %*4s %*x %x:%x %llu %n", &major, &minor, &inode, &name) == 3)
      ours = inode == info.st_ino && (makedev(major, minor) == info.st_dev || line.substr(static_cast<size_t>(name)) == path);
    else if (ours && sscanf(line.c_str(), "Rss: %lld kB", &rss) == 1)
      kib += rss;
  }
  return kib * 1024;
}

}  // namespace

void MemoryLog::write(const char* phase, const std::string& model, bool peak) {
  const std::string status = read_lines("/proc/self/status"), rollup = read_lines("/proc/self/smaps_rollup");
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
                  {"private_dirty", field(rollup, "Private_Dirty")},
                  {"model_mapped", model.empty() ? -1 : mapped(model)}};
  for (const auto& c : counters)
    if (c.bytes >= 0) line.whole(c.key, c.bytes);
  if (peak && hwm >= 0) line.whole("peak_bytes", most_);
  line.write();
}

void MemoryLog::write(const char* phase, const std::string& model) { write(phase, model, false); }
void MemoryLog::write_peak() { write("peak", "", true); }

}  // namespace runner
