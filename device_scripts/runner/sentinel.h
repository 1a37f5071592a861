// A fixed piece of work that shows how fast this CPU is just now, whatever model and runtime are measured.
#pragma once
#include <cstdint>
#include <vector>

namespace runner {

// ns of each of 20 rounds, about 0.1 s in all on the calling thread; of fewer rounds (three at least) on a slow CPU.
std::vector<uint64_t> sentinel_rounds();
// Their line; `when`: "before" or "after".
void write_sentinel(const char* when, const std::vector<uint64_t>& rounds);

}  // namespace runner
