// Tensor files: N samples, C order, little endian, no header. Inputs are read one call at a time and never held whole.
#pragma once
#include <string>
#include <vector>

#include "options.h"
#include "runtime.h"
#include "sha256.h"

namespace runner {

// A file descriptor that closes itself.
class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Fd& operator=(Fd&&) = delete;
  ~Fd();
  int get() const { return fd_; }

 private:
  int fd_;
};

// Opens a regular file for reading; its size in bytes. Throws Failure of stage "usage" if there is none.
Fd open_file(const std::string& path, size_t* bytes);
// Reads exactly `bytes` at `offset`, or throws Failure "io".
void read_exactly(int fd, void* to, size_t bytes, size_t offset);

class InputFiles {
 public:
  // Throws Failure "input_mismatch" if a file is no whole number of calls, or two hold different numbers.
  explicit InputFiles(const std::vector<InputFile>& files);
  size_t samples() const { return samples_; }  // calls; 1 for a model without inputs
  void read(size_t sample);                    // into the bound buffers
  std::vector<TensorView> views() const;

 private:
  std::vector<TensorMeta> metas_;
  std::vector<Fd> fds_;
  std::vector<std::vector<std::byte>> buffers_;
  size_t samples_ = 1;
};

class OutputFiles {
 public:
  explicit OutputFiles(std::string folder) : folder_(std::move(folder)) {}  // empty: hashes only
  // Throws Failure "output_changed" if a leaf's shape or dtype is not that of the first call.
  void append(const std::vector<TensorView>& outputs);
  void write_lines();  // one `output` line per leaf

 private:
  struct Leaf {
    TensorMeta meta;
    Fd file;
    Sha256 hash;
    int64_t samples;
  };
  std::string folder_;
  std::vector<Leaf> leaves_;
};

}  // namespace runner
