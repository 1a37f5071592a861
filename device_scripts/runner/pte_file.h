// A look at a .pte file before ExecuTorch sees it. Needs none of ExecuTorch's headers.
#pragma once
#include <string>

namespace runner {

// Throws Failure of stage "load": truncated, bad_magic or bad_version.
void check_pte(const std::string& path);

}  // namespace runner
