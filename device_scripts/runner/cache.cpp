#include "cache.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <vector>

#include "files.h"
#include "jsonl.h"

namespace runner {
namespace {

constexpr int kTries = 5;  // a page that is being read ahead just now is not dropped

// Pages of the file that are in memory. The kernel says so only to the file's owner or who may write it; anybody else
// is told that all of them are (mincore(2), since Linux 5.2), which proves nothing and so errs on the right side.
std::optional<size_t> resident(int fd, size_t bytes, size_t page) {
  void* const map = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) return std::nullopt;
  std::vector<unsigned char> pages((bytes + page - 1) / page);
  const int done = mincore(map, bytes, pages.data());
  const int error = errno;
  munmap(map, bytes);
  errno = error;
  if (done != 0) return std::nullopt;
  return static_cast<size_t>(std::count_if(pages.begin(), pages.end(), [](unsigned char p) { return p & 1; }));
}

// Why the pages are not proven dropped; empty if they are. Writes the counts that are known to `line`.
std::string drop(const std::string& path, Line& line) {
  const auto why = [](const char* what) { return std::string(what) + ": " + strerror(errno); };
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info;
  if (fd.get() < 0 || fstat(fd.get(), &info) != 0) return why("the file cannot be opened");
  if (!S_ISREG(info.st_mode) || info.st_size <= 0) return "the file is empty";
  const auto bytes = static_cast<size_t>(info.st_size), page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t pages = (bytes + page - 1) / page;
  line.whole("pages", static_cast<int64_t>(pages));
  auto left = resident(fd.get(), bytes, page);
  if (!left) return why("mincore");
  line.whole("resident_pages_before", static_cast<int64_t>(*left));
  for (int i = 0; i < kTries; i++) {
    if (i) usleep(10000);
    if (fdatasync(fd.get()) != 0) return why("fdatasync");  // dirty pages are not dropped
    if (const int error = posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED)) return errno = error, why("posix_fadvise");
    left = resident(fd.get(), bytes, page);
    if (!left) return why("mincore");
    if (*left == 0) break;
  }
  line.whole("resident_pages_after", static_cast<int64_t>(*left));
  return *left == 0 ? ""
                    : std::to_string(*left) + " of " + std::to_string(pages) +
                          " pages are still in memory, or the file is not ours to ask about";
}

}  // namespace

void drop_cache(const std::string& path) {
  Line line("cache");
  const std::string why = drop(path, line);
  line.json("dropped", why.empty() ? "true" : "false");
  if (!why.empty()) line.text("why", why);
  line.write();
}

}  // namespace runner
