// No runtime at all: shows what the loop costs, and lets transports and parsers be tried without an SDK.
// Its result is its inputs. --null-sleep-us INPUT,EXECUTE spins that long in either step (for tests of the loop).
#include <cstdlib>

#include "clocks.h"
#include "runtime.h"

namespace runner {
namespace {

void spin(uint64_t us) {
  if (us == 0) return;
  for (const uint64_t begin = raw_ns(); raw_ns() - begin < us * 1000;) {
  }
}

class Null : public Runtime {
 public:
  const char* name() const override { return "null"; }
  const char* version() const override { return RUNNER_RUNTIME_VERSION; }
  const char* loader() const override { return "none"; }
  bool option(const std::string& flag, const std::string& value) override {
    if (flag != "--null-sleep-us") return false;
    char* end = nullptr;
    input_us_ = std::strtoull(value.c_str(), &end, 10);
    if (*end != ',') throw Failure(kUsage, "usage", "usage", flag + ": not INPUT,EXECUTE");
    execute_us_ = std::strtoull(end + 1, nullptr, 10);
    return true;
  }
  unsigned set_threads(unsigned) override { return 1; }
  void check_file(const std::string&) override {}
  void load_program(const std::string&) override {}
  void load_method() override {}
  void bind_inputs(const std::vector<TensorView>& inputs) override { inputs_ = inputs; }
  void set_inputs() override { spin(input_us_); }
  void execute() override { spin(execute_us_); }
  std::vector<TensorView> outputs() override { return inputs_; }

 private:
  std::vector<TensorView> inputs_;
  uint64_t input_us_ = 0, execute_us_ = 0;
};

}  // namespace

std::unique_ptr<Runtime> make_runtime() { return std::make_unique<Null>(); }

}  // namespace runner
