// The page cache: for a load as after a device's start.
#pragma once
#include <string>

namespace runner {

// Has the kernel drop the pages of this file, asks it which are left, and tells of both in a `cache` line. Never fails:
// what could not be proven is `"dropped":false` with `why`.
void drop_cache(const std::string& path);

}  // namespace runner
