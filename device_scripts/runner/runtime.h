// What a runtime must offer to be measured. Nothing of any runtime's own headers comes in here:
// the loop, the clock and the purposes see only this.
#pragma once
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace runner {

// Exit codes of the process; the host relies on them.
enum Exit : int { kOk = 0, kUsage = 2, kRefused = 3, kRuntime = 4 };

// Anything that ends a run early. `stage` says where (usage, lock, setup, load, inputs, execute, outputs),
// `kind` becomes the error line's "class", `what()` its "message".
struct Failure : std::runtime_error {
  Failure(Exit exit_code, std::string where, std::string cls, const std::string& message)
      : std::runtime_error(message), exit(exit_code), stage(std::move(where)), kind(std::move(cls)) {}
  Exit exit;
  std::string stage, kind;
};

// One tensor of one call: dtype by name (float32, int64, …), shape with the batch dimension.
struct TensorMeta {
  std::string dtype;
  std::vector<int64_t> shape;
};

// Bytes of one element; 0 for a dtype that the wire format does not know.
size_t dtype_bytes(const std::string& dtype);
// Bytes of one call. Throws std::overflow_error where the product does not fit.
size_t call_bytes(const TensorMeta& meta);
// "float32 [1,3,224,224]", for messages.
std::string describe(const TensorMeta& meta);

// C order, little endian. The memory belongs to whoever made the view.
struct TensorView {
  TensorMeta meta;
  const void* data;
};

// The two steps that the loop drives. Both throw Failure.
class Inference {
 public:
  virtual ~Inference() = default;
  // Hands the bound input buffers to the model. Done anew before every execute: a planner may reuse
  // the memory of an input for later activations, so the second result of a model whose inputs were
  // set once can be wrong without any error.
  virtual void set_inputs() = 0;
  // Exactly one inference; no outputs are copied.
  virtual void execute() = 0;
};

// One runtime, one model, one process. Calls come in the order written here.
class Runtime : public Inference {
 public:
  virtual const char* name() const = 0;
  virtual const char* version() const = 0;
  // How the model's bytes reach memory: "mmap" (lazily faulted, not locked), "file" (read to the heap), "none".
  virtual const char* loader() const = 0;
  // Whether these pages are kept in memory: "none" or "mlock".
  virtual const char* locked() const { return "none"; }
  virtual std::vector<std::string> backends() const { return {}; }
  // A flag that only this runtime knows; false if it does not.
  virtual bool option(const std::string& flag, const std::string& value) {
    (void)flag, (void)value;
    return false;
  }
  // Makes the thread pool. Returns its size as the runtime reports it afterwards.
  virtual unsigned set_threads(unsigned count) = 0;
  // Looks at the file before the runtime does: magic, version, length. Throws Failure.
  virtual void check_file(const std::string& path) = 0;
  virtual void load_program(const std::string& path) = 0;
  virtual void load_method() = 0;
  // What the model says of itself, once loaded; null where its format does not tell.
  virtual const std::vector<TensorMeta>* inputs() const { return nullptr; }
  virtual const std::vector<TensorMeta>* outputs_meta() const { return nullptr; }
  // Memory-planned buffers in bytes; negative where there is no such thing.
  virtual int64_t arenas_bytes() const { return -1; }
  // The buffers that set_inputs() will read from, valid for the rest of the process, and filled before
  // each set_inputs(). Throws Failure "input_mismatch" with what is expected and what was given.
  virtual void bind_inputs(const std::vector<TensorView>& inputs) = 0;
  // Leaves of the last result in pytree order, valid until the next set_inputs().
  virtual std::vector<TensorView> outputs() = 0;
  // Traces `iterations` executions to a file at `path`, once inputs are bound and a first inference was made, and tells
  // of it in one `profile` line. Nothing else may come after it. Throws Failure.
  virtual void profile(const std::string& path, size_t iterations) {
    (void)path, (void)iterations;
    throw Failure(kUsage, "usage", "profile", std::string(name()) + " has no profile");
  }
};

std::unique_ptr<Runtime> make_runtime();

}  // namespace runner
