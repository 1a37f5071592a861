// What is done with a model that is loaded, bound and run once; and the two purposes that need none.
#pragma once
#include <sys/resource.h>

#include <cstdint>
#include <optional>
#include <string>

#include "files.h"
#include "memory.h"
#include "options.h"
#include "runtime.h"

namespace runner {

// What the kernel counted over the part of a run that its purpose is about.
struct Usage {
  int64_t involuntary_switches, voluntary_switches, major_faults, minor_faults;
};
rusage usage_now();
Usage usage_since(const rusage& before);

struct Ending {
  const char* status = "ok";
  int64_t blocks = 0, samples = 0;
  std::string ended_by;  // empty: has no such thing
  std::optional<Usage> usage;
};
void write_end(const Ending& end);

Ending latency(const Options& options, Runtime& runtime);
Ending energy(const Options& options, Runtime& runtime);
Ending sustained(const Options& options, Runtime& runtime);  // sustained.cpp
Ending memory_steady(const Options& options, Runtime& runtime, MemoryLog& memory);
Ending every_sample(const Options& options, Runtime& runtime, InputFiles& inputs);
Ending profile(const Options& options, Runtime& runtime);
Ending idle(const Options& options);
Ending sentinel_alone();

}  // namespace runner
