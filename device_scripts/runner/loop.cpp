#include "loop.h"

#include <algorithm>

namespace runner {
namespace {
constexpr size_t kScratch = 65536;
constexpr size_t kMinIterations = 10;
constexpr uint64_t kMinWarmUp_ns = 500000000, kWindow_ns = 250000000, kSlow_ns = 1000000000;
constexpr double kSteadyWithin = 0.02;
}  // namespace

// Filled with ones, not zeros: zeroed memory may be handed out without a page behind it.
Recording::Recording(size_t blocks)
    : execute_ns_(blocks * kBlock, 1),
      input_ns_(blocks * kBlock, 1),
      scratch_(std::min(kScratch, blocks * kBlock), 1),
      cpu_counts_(kCpus),
      stamps_(blocks + 1, Stamp{1, 1}) {}

void Recording::start() {
  count_ = 0;
  stamps_[0] = stamp();
}

void Recording::stop() {
  if (count_ % kBlock) stamps_[(count_ / kBlock + 1) % stamps_.size()] = stamp();
}

uint64_t Recording::median_of_last(size_t n) {
  n = std::min({n, count_, capacity(), scratch_.size()});
  if (n == 0) return 0;
  for (size_t i = 0; i < n; i++) scratch_[i] = execute_ns_[(count_ - n + i) % capacity()];
  const auto middle = scratch_.begin() + static_cast<ptrdiff_t>(n / 2);
  std::nth_element(scratch_.begin(), middle, scratch_.begin() + static_cast<ptrdiff_t>(n));
  return *middle;
}

std::vector<Recording::Block> Recording::blocks() const {
  std::vector<Block> all;
  const size_t total = (count_ + kBlock - 1) / kBlock, slots = capacity() / kBlock;
  for (size_t k = total > slots ? total - slots : 0; k < total; k++) {
    const size_t at = (k % slots) * kBlock;
    all.push_back({stamps_[k % stamps_.size()], stamps_[(k + 1) % stamps_.size()], &execute_ns_[at], &input_ns_[at],
                   std::min(kBlock, count_ - k * kBlock)});
  }
  return all;
}

bool WarmUp::done(Recording& samples, uint64_t elapsed_ns) {
  const uint64_t window_ns = elapsed_ns - window_start_ns_;
  in_window_++;
  const bool closes = (in_window_ >= kMinIterations && window_ns >= kWindow_ns) || in_window_ >= kScratch ||
                      (in_window_ >= 3 && window_ns >= cap_ns_ / 6);
  if (closes) {
    const uint64_t before_ns = window_median_ns_;
    window_median_ns_ = samples.median_of_last(in_window_);
    const double apart = static_cast<double>(std::max(before_ns, window_median_ns_) - std::min(before_ns, window_median_ns_));
    const bool enough = elapsed_ns >= kMinWarmUp_ns && (samples.count() >= kMinIterations || elapsed_ns >= cap_ns_ / 2);
    // "<=" of half a clock tick more, so that a model of a few ns, whose median is a small integer, can be steady
    steady_ = enough && before_ns > 0 && apart < std::max(kSteadyWithin * static_cast<double>(before_ns), 1.5);
    in_window_ = 0;
    window_start_ns_ = elapsed_ns;
    if (steady_) return true;
  }
  return elapsed_ns >= cap_ns_;
}

bool Steady::done(Recording& samples, uint64_t elapsed_ns) {
  const size_t n = samples.count();
  if (elapsed_ns >= min_ns_ && (n >= min_iterations_ || (n >= kMinIterations && elapsed_ns / n > kSlow_ns))) return true;
  if (n >= samples.capacity()) {
    ended_by_ = "memory";
    return true;
  }
  if (elapsed_ns >= 2 * max_ns_ || (elapsed_ns >= max_ns_ && n >= kMinIterations)) {
    ended_by_ = "max_seconds";
    return true;
  }
  return false;
}

// Never inlined or cloned: calibration, warm-up and steady state must run the same instructions.
__attribute__((noinline)) uint64_t iterate(Inference& model, Recording& samples, Rule& rule) {
  samples.start();
  const uint64_t begin = raw_ns();
  uint64_t after;
  do {
    const uint64_t before = raw_ns();
    model.set_inputs();
    const uint64_t ready = raw_ns();
    model.execute();
    after = raw_ns();
    samples.put(after - ready, ready - before);
  } while (!rule.done(samples, after - begin));
  samples.stop();
  return after - begin;
}

}  // namespace runner
