// Small text files of the kernel's and the device's. What they hold is not trusted: bounded, and only what it must be.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace runner {

constexpr int64_t kMostKhz = 100'000'000;

// A whole regular file; nothing if it cannot be read or has more than `most` bytes.
std::optional<std::string> read_text(const std::string& path, size_t most);
// A number alone, white space behind it; nothing if it is anything else, or out of bounds.
std::optional<int64_t> whole_number(std::string_view text, int64_t least, int64_t most);
std::optional<int64_t> read_number(const std::string& path, int64_t least, int64_t most);
// The words of `text`, at most `most` of them; nothing if there are more.
std::optional<std::vector<std::string_view>> words(std::string_view text, size_t most);
// Entries of `folder` that are `prefix` and a number, by that number; the first `most`.
std::vector<std::string> numbered(const std::string& folder, std::string_view prefix, size_t most);

}  // namespace runner
