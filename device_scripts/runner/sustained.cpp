// Minutes of the same inference, told second by second. No warm-up is left out: how the device starts is part of it.
#include <algorithm>
#include <vector>

#include "clocks.h"
#include "frequency.h"
#include "jsonl.h"
#include "loop.h"
#include "process.h"
#include "purposes.h"
#include "sentinel.h"
#include "zones.h"

namespace runner {
namespace {

constexpr double kInterval_s = 1, kShortest_s = 0.1;
constexpr size_t kMostSamples = 64;

// Ends after the interval's time, with one iteration at least. Adds up what the recording is too short for.
class Interval : public Rule {
 public:
  explicit Interval(double seconds) : ns_(static_cast<uint64_t>(seconds * 1e9)) { first_.reserve(kMostSamples); }
  bool done(Recording& samples, uint64_t elapsed_ns) override {
    const uint64_t ns = samples.last_ns();
    if (first_.size() < kMostSamples) first_.push_back(ns);
    sum_ns_ += ns;
    min_ns_ = std::min(min_ns_, ns);
    max_ns_ = std::max(max_ns_, ns);
    return elapsed_ns >= ns_;
  }
  void tell(Line& line) const {
    line.numbers("samples_ns", first_.data(), first_.size());
    line.whole("sum_ns", static_cast<int64_t>(sum_ns_));
    line.whole("min_ns", static_cast<int64_t>(min_ns_)).whole("max_ns", static_cast<int64_t>(max_ns_));
  }

 private:
  uint64_t ns_, sum_ns_ = 0, min_ns_ = UINT64_MAX, max_ns_ = 0;
  std::vector<uint64_t> first_;
};

}  // namespace

// Each line is written when its interval is over: what a lost host or a dying battery leaves behind is whole seconds.
Ending sustained(const Options& options, Runtime& runtime) {
  const Zones zones(options.sysroot);
  Recording samples(1);
  write_sentinel("before", sentinel_rounds());
  Line("clocks").text("when", "before").json("policies", policies_json(options.sysroot)).write();
  const rusage before = usage_now();
  const uint64_t begin_ns = raw_ns();
  Ending end;
  for (int64_t index = 0;; index++) {
    const double left_s = options.seconds - static_cast<double>(raw_ns() - begin_ns) / 1e9;
    if (index > 0 && left_s < kShortest_s) break;
    Interval interval(std::min(kInterval_s, left_s));
    const uint64_t start_ns = clock_ns(CLOCK_BOOTTIME);
    iterate(runtime, samples, interval);
    const uint64_t end_ns = clock_ns(CLOCK_BOOTTIME);
    Line line("interval");
    line.whole("index", index);
    line.whole("start_boottime_ns", static_cast<int64_t>(start_ns)).whole("end_boottime_ns", static_cast<int64_t>(end_ns));
    line.whole("iterations", static_cast<int64_t>(samples.count()));
    interval.tell(line);
    line.json("zones_mc", zones.json()).json("clocks_khz", clocks_json(options.sysroot)).write();
    end.samples += static_cast<int64_t>(samples.count());
  }
  end.usage = usage_since(before);
  const std::string clocks_after = policies_json(options.sysroot);
  const auto rounds_after = sentinel_rounds();
  Line("clocks").text("when", "after").json("policies", clocks_after).write();
  write_placement(samples.cpu_counts());
  write_sentinel("after", rounds_after);
  end.ended_by = "enough";
  return end;
}

}  // namespace runner
