// What the loop itself costs, measured in the process that measures. In a file of its own, so that the compiler
// cannot see through the empty model and shorten the loop for it.
#include <algorithm>

#include "loop.h"

namespace runner {
namespace {
class Empty : public Inference {
 public:
  void set_inputs() override {}
  void execute() override {}
};
}  // namespace

double loop_overhead_ns() {
  constexpr size_t kRounds = 100, kIterations = 100;
  Empty empty;
  Recording samples(1);
  std::vector<double> rounds;
  for (size_t i = 0; i < kRounds; i++) {
    Count rule(kIterations);
    rounds.push_back(static_cast<double>(iterate(empty, samples, rule)) / kIterations);
  }
  std::nth_element(rounds.begin(), rounds.begin() + kRounds / 2, rounds.end());
  return rounds[kRounds / 2];
}

}  // namespace runner
