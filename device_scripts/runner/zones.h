// The thermal zones.
#pragma once
#include <string>
#include <utility>
#include <vector>

namespace runner {

class Zones {
 public:
  // Looks once at each of SYSROOT/sys/class/thermal/thermal_zone*. One that does not answer, or takes more than 5 ms
  // (behind a slow bus), is not asked again: reading it would be a pause in the load.
  explicit Zones(const std::string& sysroot);
  // A JSON object: name (its type, or the folder's where it has none of its own) -> millidegrees just now.
  std::string json() const;

 private:
  std::vector<std::pair<std::string, std::string>> zones_;  // name in JSON, file
};

}  // namespace runner
