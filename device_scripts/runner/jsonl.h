// One JSON object per line on stdout, written by one write(2) each.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime.h"

namespace runner {

// Any bytes as a JSON string: quotes, controls and DEL escaped, what is not UTF-8 replaced by U+FFFD.
std::string json_text(std::string_view bytes);
std::string json_meta(const TensorMeta& meta);               // {"dtype": …, "shape": […]}
std::string json_metas(const std::vector<TensorMeta>& all);  // a list of those

class Line {
 public:
  explicit Line(std::string_view type);
  Line& text(std::string_view key, std::string_view value) { return json(key, json_text(value)); }
  Line& whole(std::string_view key, int64_t value) { return json(key, std::to_string(value)); }
  Line& real(std::string_view key, double value);
  Line& json(std::string_view key, std::string_view ready);  // `ready` is JSON already
  Line& numbers(std::string_view key, const uint64_t* values, size_t count);
  // Throws Failure "io" if stdout cannot take it (disk full).
  void write();

 private:
  std::string text_;
};

}  // namespace runner
