// The loop that measures: warm-up and steady state by the same code, which owns the clock.
#pragma once
#include <sched.h>

#include <cstdint>
#include <vector>

#include "clocks.h"
#include "runtime.h"

namespace runner {

constexpr size_t kBlock = 4096;  // samples between two stamps, and on one line
constexpr size_t kCpus = 1024;

// Samples of one phase in memory that is allocated and page-touched before the loop starts.
// A ring: past its capacity the oldest whole block is overwritten, so that what is kept is the end.
class Recording {
 public:
  explicit Recording(size_t blocks);
  void start();
  void put(uint64_t execute_ns, uint64_t input_ns) {
    const size_t at = count_ % execute_ns_.size();
    execute_ns_[at] = execute_ns;
    input_ns_[at] = input_ns;
    const auto cpu = static_cast<unsigned>(sched_getcpu());  // no system call where the kernel has rseq or a vdso
    if (cpu < kCpus) cpu_counts_[cpu]++;
    if (++count_ % kBlock == 0) stamps_[(count_ / kBlock) % stamps_.size()] = stamp();
  }
  void stop();  // stamps the end of a last block that is not full
  size_t count() const { return count_; }
  size_t capacity() const { return execute_ns_.size(); }
  uint64_t last_ns() const { return execute_ns_[(count_ - 1) % capacity()]; }
  // CPU -> iterations that ended on it, of all phases that were recorded here.
  const std::vector<uint64_t>& cpu_counts() const { return cpu_counts_; }
  // Median of the last `n` samples in ns; n is cut to what is kept and to the scratch memory.
  uint64_t median_of_last(size_t n);

  struct Block {
    Stamp begin, end;
    const uint64_t *execute_ns, *input_ns;
    size_t count;
  };
  std::vector<Block> blocks() const;  // oldest first

 private:
  std::vector<uint64_t> execute_ns_, input_ns_, scratch_, cpu_counts_;
  std::vector<Stamp> stamps_;  // stamps_[k % size]: begin of block k, and so the end of block k - 1
  size_t count_ = 0;
};

// Decides after each iteration, outside the timed region, whether the phase is over.
class Rule {
 public:
  virtual ~Rule() = default;
  virtual bool done(Recording& samples, uint64_t elapsed_ns) = 0;
};

// Ends when all hold: >= 10 iterations, >= 0.5 s, and the medians of the last two windows of
// max(10 iterations, 250 ms) differ by less than 2 %; or at the cap, and then steady() is false.
// Two concessions to slow models, whose ten iterations do not fit: a window of >= 3 iterations may also
// close after a sixth of the cap, and past half the cap ten iterations are no longer asked for.
// One to fast models: a window closes at 65,536 samples, more would not make its median any sharper.
class WarmUp : public Rule {
 public:
  explicit WarmUp(double cap_s) : cap_ns_(static_cast<uint64_t>(cap_s * 1e9)) {}
  bool done(Recording& samples, uint64_t elapsed_ns) override;
  bool steady() const { return steady_; }

 private:
  uint64_t cap_ns_, window_start_ns_ = 0, window_median_ns_ = 0;
  size_t in_window_ = 0;
  bool steady_ = false;
};

// Ends at >= min_iterations and >= min_s (>= 10 iterations are enough where one takes more than 1 s);
// at max_s with >= 10 iterations; at twice max_s whatever there is; or when the memory for samples is full.
class Steady : public Rule {
 public:
  Steady(size_t min_iterations, double min_s, double max_s)
      : min_iterations_(min_iterations),
        min_ns_(static_cast<uint64_t>(min_s * 1e9)),
        max_ns_(static_cast<uint64_t>(max_s * 1e9)) {}
  bool done(Recording& samples, uint64_t elapsed_ns) override;
  const char* ended_by() const { return ended_by_; }

 private:
  size_t min_iterations_;
  uint64_t min_ns_, max_ns_;
  const char* ended_by_ = "enough";
};

// Ends after a fixed number of iterations.
class Count : public Rule {
 public:
  explicit Count(size_t iterations) : iterations_(iterations) {}
  bool done(Recording& samples, uint64_t) override { return samples.count() >= iterations_; }

 private:
  size_t iterations_;
};

// Ends after so many seconds, and not before `least` iterations.
class Lasting : public Rule {
 public:
  Lasting(double seconds, size_t least) : ns_(static_cast<uint64_t>(seconds * 1e9)), least_(least) {}
  bool done(Recording& samples, uint64_t elapsed_ns) override { return elapsed_ns >= ns_ && samples.count() >= least_; }

 private:
  uint64_t ns_;
  size_t least_;
};

// Runs `model` until the rule says so. Returns the elapsed ns. Throws what the model throws.
uint64_t iterate(Inference& model, Recording& samples, Rule& rule);

// Median cost in ns of one iteration of iterate() around a model that does nothing (10,000 of them).
double loop_overhead_ns();

}  // namespace runner
