// The three clocks, each with its use. All in ns.
#pragma once
#include <time.h>

#include <cstdint>

namespace runner {

inline uint64_t clock_ns(clockid_t id) {
  timespec t;
  clock_gettime(id, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1000000000ull + static_cast<uint64_t>(t.tv_nsec);
}

// Durations: never slewed by time synchronisation.
inline uint64_t raw_ns() { return clock_ns(CLOCK_MONOTONIC_RAW); }

// Stamps: if boottime advances more than monotonic between two of them, the device slept in between.
struct Stamp {
  uint64_t monotonic_ns, boottime_ns;
};
inline Stamp stamp() { return {clock_ns(CLOCK_MONOTONIC), clock_ns(CLOCK_BOOTTIME)}; }

}  // namespace runner
