#include "options.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>

namespace runner {
namespace {

constexpr double kLeastSeconds = 0.05;

[[noreturn]] void usage(const std::string& message) { throw Failure(kUsage, "usage", "usage", message); }

double seconds(const std::string& flag, const std::string& text, double least = 0) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end || !std::isfinite(value) || value < least || value > 86400)
    usage(flag + ": not a number of seconds from " + (least > 0 ? "0.05" : "0") + " to 86400: " + text);
  return value;
}

// What goes before /sys: an absolute path.
std::string sysroot(const std::string& text) {
  if (text.empty() || text[0] != '/') usage("--sysroot: not an absolute path: " + text);
  return text.substr(0, text.find_last_not_of('/') + 1);
}

long whole(const std::string& flag, const std::string& text, long least, long most) {
  char* end = nullptr;
  const long value = std::strtol(text.c_str(), &end, 10);
  if (text.empty() || *end || value < least || value > most)
    usage(flag + ": not a whole number from " + std::to_string(least) + " to " + std::to_string(most) + ": " + text);
  return value;
}

// "0x" and hexadecimal digits, the last one CPUs 0-3.
cpu_set_t cpu_mask(const std::string& text) {
  static const char kDigits[] = "0123456789abcdef";
  cpu_set_t mask;
  CPU_ZERO(&mask);
  bool good = text.size() > 2 && text.compare(0, 2, "0x") == 0 && text.size() - 2 <= CPU_SETSIZE / 4;
  for (size_t i = 2; good && i < text.size(); i++) {
    const char* digit = strchr(kDigits, text[i] | 0x20);
    good = digit && (isdigit(static_cast<unsigned char>(text[i])) || isalpha(static_cast<unsigned char>(text[i])));
    for (int bit = 0; good && bit < 4; bit++)
      if ((digit - kDigits) >> bit & 1) CPU_SET((text.size() - 1 - i) * 4 + static_cast<size_t>(bit), &mask);
  }
  if (!good || CPU_COUNT(&mask) == 0) usage("--cpus: neither any nor a mask like 0xf0: " + text);
  return mask;
}

// INDEX:DTYPE:D0,D1,…:PATH; only the path may hold a colon, and a scalar has no dimensions.
std::pair<size_t, InputFile> input(const std::string& text) {
  std::string part[3], rest = text;
  for (auto& p : part) {
    const size_t colon = rest.find(':');
    if (colon == std::string::npos) usage("--input: not INDEX:DTYPE:D0,D1,…:PATH: " + text);
    p = rest.substr(0, colon);
    rest = rest.substr(colon + 1);
  }
  InputFile file;
  file.meta.dtype = part[1];
  file.path = rest;
  static const char* const kWire[] = {"float32", "float16", "int64", "int32", "uint8", "bool"};
  if (std::none_of(std::begin(kWire), std::end(kWire), [&](const char* name) { return part[1] == name; }))
    usage("--input: unknown dtype " + part[1] + "; one of float32 float16 int64 int32 uint8 bool");
  for (size_t at = 0; !part[2].empty() && at <= part[2].size();) {
    const size_t comma = std::min(part[2].find(',', at), part[2].size());
    file.meta.shape.push_back(whole("--input", part[2].substr(at, comma - at), 0, 1L << 40));
    at = comma + 1;
  }
  try {
    call_bytes(file.meta);
  } catch (const std::overflow_error& error) {
    usage(std::string("--input: ") + error.what());
  }
  return {static_cast<size_t>(whole("--input", part[0], 0, 255)), file};
}

void check_purpose(const Options& o) {
  static const char* const kPurposes[] = {"latency", "memory",   "accuracy", "check",     "load",
                                          "profile", "sentinel", "idle",     "energy",    "sustained"};
  const auto is = [&](const char* name) { return o.purpose == name; };
  if (std::none_of(std::begin(kPurposes), std::end(kPurposes), is)) {
    std::string known;
    for (const char* name : kPurposes) known += std::string(name) + " ";
    usage("--purpose: one of " + known + "and not \"" + o.purpose + "\"");
  }
  if (o.loads() && o.model.empty()) usage("--model is missing");
  if ((is("idle") || is("energy") || is("sustained")) && o.seconds == 0) usage("--seconds is missing");
  if (is("profile") && o.outputs.empty()) usage("--outputs is missing");
  if (o.drop_cache && !is("load")) usage("--drop-cache: only for --purpose load");
}

}  // namespace

Options parse_options(int argc, char** argv, Runtime& runtime) {
  Options o;
  std::map<size_t, InputFile> inputs;
  for (int i = 1; i < argc; i++) {
    const std::string flag = argv[i];
    if (flag == "--version" || flag == "--drop-cache") {
      (flag == "--version" ? o.version : o.drop_cache) = true;
      continue;
    }
    if (i + 1 >= argc) usage(flag + ": unknown, or its value is missing");
    const std::string value = argv[++i];
    if (flag == "--purpose") o.purpose = value;
    else if (flag == "--run") o.run = value;
    else if (flag == "--model") o.model = value;
    else if (flag == "--outputs") o.outputs = value;
    else if (flag == "--lock") o.lock = value;
    else if (flag == "--sysroot") o.sysroot = sysroot(value);
    else if (flag == "--seconds") o.seconds = seconds(flag, value, kLeastSeconds);
    else if (flag == "--threads") o.threads = static_cast<unsigned>(whole(flag, value, 1, 1024));
    else if (flag == "--cpus") o.cpus = value;
    else if (flag == "--min-seconds") o.min_s = seconds(flag, value);
    else if (flag == "--max-seconds") o.max_s = seconds(flag, value);
    else if (flag == "--max-warmup-seconds") o.max_warmup_s = seconds(flag, value);
    else if (flag == "--min-iterations") o.min_iterations = static_cast<size_t>(whole(flag, value, 1, 1L << 30));
    else if (flag == "--input") {
      const auto one = input(value);
      if (!inputs.insert(one).second) usage("--input: index " + std::to_string(one.first) + " is there twice");
    } else if (!runtime.option(flag, value)) usage("unknown flag " + flag);
  }
  if (o.version) return o;
  check_purpose(o);
  if (o.cpus != "any") o.mask = cpu_mask(o.cpus);
  for (auto& [index, file] : inputs) {
    if (index != o.inputs.size()) usage("--input: index " + std::to_string(o.inputs.size()) + " is missing");
    o.inputs.push_back(std::move(file));
  }
  return o;
}

}  // namespace runner
