// This process, as the kernel sees it.
#pragma once
#include <sched.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace runner {

// The kernel's id of this boot; empty if it cannot be read.
std::string boot_id();
// From the process's creation to `main_boottime_ns`. The kernel tells the former in its clock ticks, rounded down: up
// to 10 ms too long. Nothing if it does not tell.
std::optional<int64_t> exec_to_main_ns(uint64_t main_boottime_ns);
// The CPUs that the calling thread may use.
cpu_set_t allowed_cpus();
// "0x" and hexadecimal digits, the last one CPUs 0-3.
std::string hex(const cpu_set_t& mask);
// The `placement` line: what is allowed now, the control group, and CPU -> iterations that ended on it.
void write_placement(const std::vector<uint64_t>& cpu_counts);

}  // namespace runner
