#include "purposes.h"

#include <cerrno>

#include "clocks.h"
#include "frequency.h"
#include "jsonl.h"
#include "loop.h"
#include "process.h"
#include "sentinel.h"

namespace runner {
namespace {

constexpr size_t kWarmUpBlocks = 64, kSteadyBlocks = 256;  // 2^18 and 2^20 samples of 16 bytes
constexpr int kMemoryExecutes = 20;                        // enough for lazy allocations to have been made
constexpr size_t kProfileIterations = 20, kLeastInferences = 10;

int64_t write_blocks(const Recording& samples, const char* phase) {
  const auto blocks = samples.blocks();
  for (const auto& b : blocks)
    Line("block")
        .text("phase", phase)
        .whole("start_ns", static_cast<int64_t>(b.begin.monotonic_ns))
        .whole("end_ns", static_cast<int64_t>(b.end.monotonic_ns))
        .whole("start_boottime_ns", static_cast<int64_t>(b.begin.boottime_ns))
        .whole("end_boottime_ns", static_cast<int64_t>(b.end.boottime_ns))
        .numbers("samples_ns", b.execute_ns, b.count)
        .numbers("input_ns", b.input_ns, b.count)
        .write();
  return static_cast<int64_t>(blocks.size());
}

void write_window(uint64_t start_ns, uint64_t end_ns, size_t inferences) {
  Line("window")
      .whole("start_boottime_ns", static_cast<int64_t>(start_ns))
      .whole("end_boottime_ns", static_cast<int64_t>(end_ns))
      .whole("inferences", static_cast<int64_t>(inferences))
      .write();
}

}  // namespace

rusage usage_now() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage;
}

Usage usage_since(const rusage& before) {
  const rusage now = usage_now();
  return {now.ru_nivcsw - before.ru_nivcsw, now.ru_nvcsw - before.ru_nvcsw, now.ru_majflt - before.ru_majflt,
          now.ru_minflt - before.ru_minflt};
}

void write_end(const Ending& end) {
  Line line("end");
  line.text("status", end.status).whole("blocks", end.blocks).whole("samples", end.samples);
  if (!end.ended_by.empty()) line.text("ended_by", end.ended_by);
  if (end.usage)
    line.whole("involuntary_switches", end.usage->involuntary_switches)
        .whole("voluntary_switches", end.usage->voluntary_switches)
        .whole("major_faults", end.usage->major_faults)
        .whole("minor_faults", end.usage->minor_faults);
  line.write();
}

// Nothing is written between the first warm-up iteration and the last steady one. A crash in between loses the
// samples; the run is cut off then, and would not count anyway.
Ending latency(const Options& options, Runtime& runtime) {
  write_sentinel("before", sentinel_rounds());
  Recording warm(kWarmUpBlocks), steady(kSteadyBlocks);
  WarmUp until_steady(options.max_warmup_s);
  Steady until_enough(options.min_iterations, options.min_s, options.max_s);
  iterate(runtime, warm, until_steady);
  const std::string clocks_before = policies_json(options.sysroot);
  const rusage before = usage_now();
  iterate(runtime, steady, until_enough);
  Ending end;
  end.usage = usage_since(before);
  const std::string clocks_after = policies_json(options.sysroot);  // before the calibration adds to its times
  const auto rounds_after = sentinel_rounds();
  end.blocks = write_blocks(warm, "warmup");
  Line("clocks").text("when", "before").json("policies", clocks_before).write();
  end.blocks += write_blocks(steady, "steady");
  Line("clocks").text("when", "after").json("policies", clocks_after).write();
  write_placement(steady.cpu_counts());
  write_sentinel("after", rounds_after);
  end.samples = static_cast<int64_t>(steady.count());
  end.ended_by = until_enough.ended_by();
  if (!until_steady.steady()) end.status = "not_steady";
  return end;
}

// Nothing is read or written in the window, which holds back-to-back inference and nothing else.
Ending energy(const Options& options, Runtime& runtime) {
  Recording warm(kWarmUpBlocks), steady(kSteadyBlocks);
  WarmUp until_steady(options.max_warmup_s);
  Lasting until_enough(options.seconds, kLeastInferences);
  iterate(runtime, warm, until_steady);
  const rusage before = usage_now();
  const uint64_t start_ns = clock_ns(CLOCK_BOOTTIME);
  iterate(runtime, steady, until_enough);
  const uint64_t end_ns = clock_ns(CLOCK_BOOTTIME);
  Ending end;
  end.usage = usage_since(before);
  end.blocks = write_blocks(warm, "warmup");
  end.blocks += write_blocks(steady, "steady");
  write_placement(steady.cpu_counts());
  write_window(start_ns, end_ns, steady.count());
  end.samples = static_cast<int64_t>(steady.count());
  end.ended_by = "enough";
  if (!until_steady.steady()) end.status = "not_steady";
  return end;
}

Ending memory_steady(const Options& options, Runtime& runtime, MemoryLog& memory) {
  for (int i = 0; i < kMemoryExecutes; i++) {
    runtime.set_inputs();
    runtime.execute();
  }
  memory.write("steady", options.model);
  memory.write_peak();
  Ending end;
  end.usage = usage_since(rusage{});  // of the whole process, as its peak is
  return end;
}

Ending every_sample(const Options& options, Runtime& runtime, InputFiles& inputs) {
  OutputFiles outputs(options.outputs);
  for (size_t i = 0; i < inputs.samples(); i++) {
    inputs.read(i);
    runtime.set_inputs();
    runtime.execute();
    outputs.append(runtime.outputs());
  }
  outputs.write_lines();
  Ending end;
  end.samples = static_cast<int64_t>(inputs.samples());
  return end;
}

Ending profile(const Options& options, Runtime& runtime) {
  runtime.profile(options.outputs + "/profile.etdump", kProfileIterations);
  return {};
}

// One sleep, so that the device is left alone. On CLOCK_BOOTTIME: over in time even if the device is suspended.
Ending idle(const Options& options) {
  const uint64_t start_ns = clock_ns(CLOCK_BOOTTIME);
  const uint64_t until_ns = start_ns + static_cast<uint64_t>(options.seconds * 1e9);
  const timespec until = {static_cast<time_t>(until_ns / 1'000'000'000), static_cast<long>(until_ns % 1'000'000'000)};
  while (clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &until, nullptr) == EINTR) {
  }
  write_window(start_ns, clock_ns(CLOCK_BOOTTIME), 0);
  return {};
}

Ending sentinel_alone() {
  const auto before = sentinel_rounds(), after = sentinel_rounds();
  write_sentinel("before", before);
  write_sentinel("after", after);
  return {};
}

}  // namespace runner
