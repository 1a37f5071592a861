// What the kernel says of this process's memory.
#pragma once
#include <cstdint>
#include <string>

namespace runner {

// Writes `memory` lines at checkpoints. Never called inside a timed region: reading smaps_rollup walks the page tables.
class MemoryLog {
 public:
  // VmRSS, VmHWM, VmSwap, RssAnon, RssFile of /proc/self/status and Pss, Private_* of smaps_rollup, in bytes;
  // a counter that cannot be read has no key. With `model`, the path of a file that was loaded, model_mapped: what is
  // resident of its own mappings, 0 where it was read and not mapped.
  void write(const char* phase, const std::string& model = "");
  // The line of phase "peak", with peak_bytes = max(VmHWM, max over checkpoints of VmRSS + VmSwap): VmHWM alone
  // does not see what was swapped out to compressed memory.
  void write_peak();

 private:
  void write(const char* phase, const std::string& model, bool peak);
  int64_t most_ = 0;
};

}  // namespace runner
