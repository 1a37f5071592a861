#include "jsonl.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "clocks.h"

namespace runner {
namespace {

int64_t next_seq() {
  static int64_t seq = 0;
  return seq++;
}

// Length of the valid UTF-8 sequence that starts here; 0 if there is none (RFC 3629, table of section 4).
size_t utf8_length(std::string_view s, size_t i) {
  const auto at = [&](size_t k) { return k < s.size() ? static_cast<unsigned char>(s[k]) : 0u; };
  const auto tail = [&](size_t k) { return (at(k) & 0xC0) == 0x80; };
  const unsigned c = at(i), d = at(i + 1);
  if (c < 0x80) return 1;
  if (c >= 0xC2 && c <= 0xDF) return tail(i + 1) ? 2 : 0;
  if (c >= 0xE0 && c <= 0xEF) {
    const bool second = c == 0xE0 ? (d >= 0xA0 && d <= 0xBF) : c == 0xED ? (d >= 0x80 && d <= 0x9F) : tail(i + 1);
    return second && tail(i + 2) ? 3 : 0;
  }
  if (c >= 0xF0 && c <= 0xF4) {
    const bool second = c == 0xF0 ? (d >= 0x90 && d <= 0xBF) : c == 0xF4 ? (d >= 0x80 && d <= 0x8F) : tail(i + 1);
    return second && tail(i + 2) && tail(i + 3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

std::string json_text(std::string_view s) {
  std::string out = "\"";
  for (size_t i = 0; i < s.size();) {
    const size_t length = utf8_length(s, i);
    const auto c = static_cast<unsigned char>(s[i]);
    if (length == 0) {
      out += "\xEF\xBF\xBD";
      i++;
      continue;
    }
    if (c == '"' || c == '\\') {
      out += '\\';
      out += s[i];
    } else if (c < 0x20 || c == 0x7F) {
      char escape[8];
      snprintf(escape, sizeof escape, "\\u%04x", c);
      out += escape;
    } else {
      out.append(s, i, length);
    }
    i += length;
  }
  return out + "\"";
}

std::string json_meta(const TensorMeta& meta) {
  std::string out = "{\"dtype\":" + json_text(meta.dtype) + ",\"shape\":[";
  for (size_t i = 0; i < meta.shape.size(); i++) out += (i ? "," : "") + std::to_string(meta.shape[i]);
  return out + "]}";
}

std::string json_metas(const std::vector<TensorMeta>& all) {
  std::string out = "[";
  for (size_t i = 0; i < all.size(); i++) out += (i ? "," : "") + json_meta(all[i]);
  return out + "]";
}

Line::Line(std::string_view type) : text_("{\"type\":" + json_text(type)) {
  whole("seq", next_seq());
  whole("t_ns", static_cast<int64_t>(clock_ns(CLOCK_BOOTTIME)));
}

Line& Line::json(std::string_view key, std::string_view ready) {
  text_ += ',';
  text_ += json_text(key);
  text_ += ':';
  text_ += ready;
  return *this;
}

Line& Line::real(std::string_view key, double value) {
  char text[32];
  snprintf(text, sizeof text, "%.1f", value);
  return json(key, text);
}

Line& Line::numbers(std::string_view key, const uint64_t* values, size_t count) {
  std::string list = "[";
  for (size_t i = 0; i < count; i++) {
    if (i) list += ',';
    list += std::to_string(values[i]);
  }
  return json(key, list + "]");
}

void Line::write() {
  text_ += "}\n";
  for (size_t done = 0; done < text_.size();) {
    const ssize_t n = ::write(STDOUT_FILENO, text_.data() + done, text_.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) throw Failure(kRuntime, "outputs", "io", std::string("stdout: ") + strerror(errno));
    done += static_cast<size_t>(n);
  }
}

}  // namespace runner
