#include "files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "jsonl.h"

namespace runner {
namespace {

std::string why(const std::string& path) { return path + ": " + strerror(errno); }

void write_exactly(int fd, const void* from, size_t bytes) {
  for (auto p = static_cast<const char*>(from); bytes;) {
    const ssize_t n = write(fd, p, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) throw Failure(kRuntime, "outputs", "io", why("an output file"));
    p += n, bytes -= static_cast<size_t>(n);
  }
}

}  // namespace

Fd::~Fd() {
  if (fd_ >= 0) close(fd_);
}

Fd open_file(const std::string& path, size_t* bytes) {
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info;
  if (fd.get() < 0 || fstat(fd.get(), &info) != 0) throw Failure(kUsage, "usage", "no_file", why(path));
  if (!S_ISREG(info.st_mode)) throw Failure(kUsage, "usage", "no_file", path + ": not a regular file");
  *bytes = static_cast<size_t>(info.st_size);
  return fd;
}

void read_exactly(int fd, void* to, size_t bytes, size_t offset) {
  for (auto p = static_cast<char*>(to); bytes;) {
    const ssize_t n = pread(fd, p, bytes, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) throw Failure(kRuntime, "inputs", "io", n ? strerror(errno) : "a file ended early");
    p += n, offset += static_cast<size_t>(n), bytes -= static_cast<size_t>(n);
  }
}

InputFiles::InputFiles(const std::vector<InputFile>& files) {
  for (size_t i = 0; i < files.size(); i++) {
    size_t bytes = 0;
    fds_.push_back(open_file(files[i].path, &bytes));
    const size_t call = call_bytes(files[i].meta);
    const std::string name = "input " + std::to_string(i) + " (" + describe(files[i].meta) + ")";
    if (call == 0 || bytes == 0 || bytes % call)
      throw Failure(kRefused, "inputs", "input_mismatch",
                    name + ": expected a whole number of calls of " + std::to_string(call) + " bytes, given " +
                        std::to_string(bytes) + " bytes");
    if (i && bytes / call != samples_)
      throw Failure(kRefused, "inputs", "input_mismatch",
                    name + ": expected " + std::to_string(samples_) + " samples like input 0, given " +
                        std::to_string(bytes / call));
    samples_ = bytes / call;
    metas_.push_back(files[i].meta);
    buffers_.emplace_back(call);
  }
}

void InputFiles::read(size_t sample) {
  for (size_t i = 0; i < fds_.size(); i++)
    read_exactly(fds_[i].get(), buffers_[i].data(), buffers_[i].size(), sample * buffers_[i].size());
}

std::vector<TensorView> InputFiles::views() const {
  std::vector<TensorView> views;
  for (size_t i = 0; i < metas_.size(); i++) views.push_back({metas_[i], buffers_[i].data()});
  return views;
}

void OutputFiles::append(const std::vector<TensorView>& outputs) {
  if (leaves_.empty()) {
    if (!folder_.empty() && mkdir(folder_.c_str(), 0700) != 0 && errno != EEXIST)
      throw Failure(kRuntime, "outputs", "io", why(folder_));
    for (size_t k = 0; k < outputs.size(); k++) {
      const std::string path = folder_ + "/" + std::to_string(k) + ".bin";
      Fd fd(folder_.empty() ? -1 : open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
      if (!folder_.empty() && fd.get() < 0) throw Failure(kRuntime, "outputs", "io", why(path));
      leaves_.push_back({outputs[k].meta, std::move(fd), {}, 0});
    }
  }
  if (outputs.size() != leaves_.size())
    throw Failure(kRuntime, "outputs", "output_changed", "the number of outputs changed between two calls");
  for (size_t k = 0; k < outputs.size(); k++) {
    Leaf& leaf = leaves_[k];
    const TensorMeta& meta = outputs[k].meta;
    if (meta.dtype != leaf.meta.dtype || meta.shape != leaf.meta.shape)
      throw Failure(kRuntime, "outputs", "output_changed",
                    "output " + std::to_string(k) + " was " + describe(leaf.meta) + " and is now " + describe(meta));
    const size_t bytes = call_bytes(meta);
    leaf.hash.add(outputs[k].data, bytes);
    if (leaf.file.get() >= 0) write_exactly(leaf.file.get(), outputs[k].data, bytes);
    leaf.samples++;
  }
}

void OutputFiles::write_lines() {
  for (size_t k = 0; k < leaves_.size(); k++) {
    std::string shape = "[";
    for (size_t i = 0; i < leaves_[k].meta.shape.size(); i++)
      shape += (i ? "," : "") + std::to_string(leaves_[k].meta.shape[i]);
    Line("output")
        .whole("index", static_cast<int64_t>(k))
        .text("dtype", leaves_[k].meta.dtype)
        .json("shape", shape + "]")
        .whole("samples", leaves_[k].samples)
        .text("sha256", leaves_[k].hash.hex())
        .write();
  }
}

}  // namespace runner
