#include "readings.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <memory>
#include <utility>

#include "files.h"

namespace runner {
namespace {
constexpr std::string_view kSpace = " \t\n";
constexpr size_t kMostEntries = 4096;  // of a folder that are looked at
}  // namespace

std::optional<std::string> read_text(const std::string& path, size_t most) {
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));  // not to wait for a pipe's other end
  struct stat info;
  if (fd.get() < 0 || fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) return std::nullopt;
  std::string text;
  char buffer[4096];
  for (ssize_t n; (n = read(fd.get(), buffer, sizeof buffer)) != 0;) {
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 || text.size() + static_cast<size_t>(n) > most) return std::nullopt;
    text.append(buffer, static_cast<size_t>(n));
  }
  return text;
}

std::optional<int64_t> whole_number(std::string_view text, int64_t least, int64_t most) {
  text = text.substr(0, text.find_last_not_of(kSpace) + 1);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > most) return std::nullopt;
  return value;
}

std::optional<int64_t> read_number(const std::string& path, int64_t least, int64_t most) {
  const auto text = read_text(path, 64);
  return text ? whole_number(*text, least, most) : std::nullopt;
}

std::optional<std::vector<std::string_view>> words(std::string_view text, size_t most) {
  std::vector<std::string_view> found;
  for (size_t at = 0; (at = text.find_first_not_of(kSpace, at)) != std::string_view::npos;) {
    if (found.size() == most) return std::nullopt;
    const size_t end = std::min(text.find_first_of(kSpace, at), text.size());
    found.push_back(text.substr(at, end - at));
    at = end;
  }
  return found;
}

std::vector<std::string> numbered(const std::string& folder, std::string_view prefix, size_t most) {
  const std::unique_ptr<DIR, int (*)(DIR*)> all(opendir(folder.c_str()), closedir);
  std::vector<std::pair<int64_t, std::string>> found;
  for (size_t i = 0; all && i < kMostEntries; i++) {
    const dirent* entry = readdir(all.get());
    if (!entry) break;
    const std::string_view name = entry->d_name;
    if (name.substr(0, prefix.size()) != prefix) continue;
    if (const auto number = whole_number(name.substr(prefix.size()), 0, 9999)) found.emplace_back(*number, name);
  }
  std::sort(found.begin(), found.end());
  std::vector<std::string> names;
  for (auto& [number, name] : found)
    if (names.size() < most) names.push_back(std::move(name));
  return names;
}

}  // namespace runner
