// The least that can time a .pte: ExecuTorch's own Module API and a clock. Shares no code with the runner; it is what
// the runner's latencies are held against (benchmarks/runner_cost.py).
//
//   bare_loop MODEL INPUT.bin SIZE,SIZE,… WARMUP ITERATIONS     prints the median execution in ns
//
// One thread, one float32 input, inputs set before each execution, outside the timed region.
#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

// Exported by libexecutorch_threadpool.so; the SDK has no header for it.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  bool _unsafe_reset_threadpool(uint32_t num_threads);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool

using executorch::extension::Module;

static long long now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC_RAW, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

int main(int argc, char** argv) {
  if (argc != 6) return 2;
  std::vector<executorch::aten::SizesType> sizes;
  size_t count = 1;
  std::stringstream list(argv[3]);
  for (std::string size; std::getline(list, size, ',');) {
    sizes.push_back(std::atoi(size.c_str()));
    count *= static_cast<size_t>(sizes.back());
  }
  std::vector<float> data(count);
  std::ifstream file(argv[2], std::ios::binary);
  if (!file.read(reinterpret_cast<char*>(data.data()), static_cast<std::streamsize>(count * sizeof(float)))) return 2;
  executorch::extension::threadpool::get_threadpool()->_unsafe_reset_threadpool(1);

  Module module(argv[1], Module::LoadMode::Mmap);
  if (module.load_forward() != executorch::runtime::Error::Ok) return 3;
  const auto input = executorch::extension::from_blob(data.data(), sizes);
  const int warmup = std::atoi(argv[4]), iterations = std::atoi(argv[5]);
  std::vector<long long> samples(static_cast<size_t>(iterations), 1);
  for (int i = -warmup; i < iterations; i++) {
    if (module.set_input(input, 0) != executorch::runtime::Error::Ok) return 4;
    const long long before = now();
    const auto result = module.forward();
    const long long after = now();
    if (!result.ok()) return 4;
    if (i >= 0) samples[static_cast<size_t>(i)] = after - before;
  }
  std::nth_element(samples.begin(), samples.begin() + iterations / 2, samples.end());
  std::printf("%lld\n", samples[static_cast<size_t>(iterations / 2)]);
}
