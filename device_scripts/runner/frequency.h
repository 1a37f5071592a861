// The clocks of the CPUs, as cpufreq tells them.
#pragma once
#include <string>

namespace runner {

// A JSON list: {"policy", "cpus", "cur_khz", "min_khz", "max_khz", "hardware_max_khz", "time_in_state": [[kHz, ticks], …]}
// of each of SYSROOT/sys/devices/system/cpu/cpufreq/policy*; what cannot be read or understood has no key.
std::string policies_json(const std::string& sysroot);
// A JSON object: policy -> its clock just now in kHz.
std::string clocks_json(const std::string& sysroot);

}  // namespace runner
