// Time per operator: what all runtimes that can trace have in common. A runtime traces in this purpose alone, with
// a tracer that no other purpose ever attaches.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "runtime.h"

namespace runner {

constexpr size_t kMaxTraceBytes = size_t{64} << 20;  // the host takes no more

// A few executions that nobody counts, at most 3 and for about 5 s.
void settle(Inference& model);

// ns of each of `iterations` executions; of fewer (three at least) where they take longer than a minute.
// The same loop as latency's: setting the inputs is left out.
std::vector<uint64_t> timed(Inference& model, size_t iterations);

// Writes the runtime's trace to `path`, whose folder is made if it is not there, and tells of it in one `profile` line.
// Throws Failure "io", or "rejected" if the trace is larger than kMaxTraceBytes.
void write_profile(const std::string& path, const void* trace, size_t bytes, const std::vector<uint64_t>& untraced_ns,
                   const std::vector<uint64_t>& traced_ns);

}  // namespace runner
