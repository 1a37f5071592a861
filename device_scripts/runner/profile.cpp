#include "profile.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "files.h"
#include "jsonl.h"
#include "loop.h"
#include "sha256.h"

namespace runner {
namespace {

// Ends after `most` iterations, or when the time is over and `least` of them were made.
class Bounded : public Rule {
 public:
  Bounded(size_t least, size_t most, double seconds)
      : least_(least), most_(most), most_ns_(static_cast<uint64_t>(seconds * 1e9)) {}
  bool done(Recording& samples, uint64_t elapsed_ns) override {
    return samples.count() >= most_ || (samples.count() >= least_ && elapsed_ns >= most_ns_);
  }

 private:
  size_t least_, most_;
  uint64_t most_ns_;
};

std::string why(const std::string& path) { return path + ": " + strerror(errno); }

void write_file(const std::string& path, const void* bytes, size_t size) {
  const std::string folder = path.substr(0, path.rfind('/'));
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) throw Failure(kRuntime, "outputs", "io", why(folder));
  const Fd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (fd.get() < 0) throw Failure(kRuntime, "outputs", "io", why(path));
  for (auto from = static_cast<const char*>(bytes); size;) {
    const ssize_t n = write(fd.get(), from, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) throw Failure(kRuntime, "outputs", "io", why(path));
    from += n, size -= static_cast<size_t>(n);
  }
}

}  // namespace

void settle(Inference& model) {
  Recording samples(1);
  Bounded few(1, 3, 5);
  iterate(model, samples, few);
}

std::vector<uint64_t> timed(Inference& model, size_t iterations) {
  Recording samples((iterations + kBlock - 1) / kBlock);
  Bounded enough(3, iterations, 60);
  iterate(model, samples, enough);
  std::vector<uint64_t> found;
  for (const auto& block : samples.blocks())
    found.insert(found.end(), block.execute_ns, block.execute_ns + block.count);
  return found;
}

void write_profile(const std::string& path, const void* trace, size_t bytes, const std::vector<uint64_t>& untraced_ns,
                   const std::vector<uint64_t>& traced_ns) {
  if (bytes > kMaxTraceBytes)
    throw Failure(kRuntime, "outputs", "rejected",
                  "the trace has " + std::to_string(bytes) + " bytes; at most " + std::to_string(kMaxTraceBytes));
  write_file(path, trace, bytes);
  Sha256 hash;
  hash.add(trace, bytes);
  Line("profile")
      .text("file", path.substr(path.rfind('/') + 1))
      .whole("bytes", static_cast<int64_t>(bytes))
      .text("sha256", hash.hex())
      .whole("iterations", static_cast<int64_t>(traced_ns.size()))
      .numbers("traced_ns", traced_ns.data(), traced_ns.size())
      .numbers("untraced_ns", untraced_ns.data(), untraced_ns.size())
      .write();
}

}  // namespace runner
