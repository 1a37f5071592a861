// One process, one purpose: sets itself up, loads the model, serves the purpose, says how it ended.
#include <fcntl.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>

#include "files.h"
#include "jsonl.h"
#include "loop.h"
#include "memory.h"
#include "options.h"
#include "runtime.h"

namespace runner {
namespace {

constexpr int kSchema = 1;
constexpr size_t kWarmUpBlocks = 64, kSteadyBlocks = 256;  // 2^18 and 2^20 samples of 16 bytes
constexpr int kMemoryExecutes = 20;                        // enough for lazy allocations to have been made

// Held until the process ends, by whatever end: the kernel lets go of it.
void take_lock(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) throw Failure(kRuntime, "lock", "io", path + ": " + strerror(errno));
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) throw Failure(kRuntime, "lock", "busy", path + ": another run holds it");
    throw Failure(kRuntime, "lock", "io", path + ": " + strerror(errno));
  }
}

cpu_set_t place(const Options& options) {
  if (options.cpus != "any" && sched_setaffinity(0, sizeof options.mask, &options.mask) != 0)
    throw Failure(kRuntime, "setup", "affinity", "--cpus " + options.cpus + ": " + strerror(errno));
  cpu_set_t now;
  CPU_ZERO(&now);
  sched_getaffinity(0, sizeof now, &now);
  return now;
}

std::string hex(const cpu_set_t& mask) {
  std::string text;
  for (size_t nibble = 0; nibble < CPU_SETSIZE / 4; nibble++) {
    int digit = 0;
    for (size_t bit = 0; bit < 4; bit++) digit |= CPU_ISSET(nibble * 4 + bit, &mask) ? 1 << bit : 0;
    text.insert(text.begin(), "0123456789abcdef"[digit]);
  }
  const size_t first = text.find_first_not_of('0');
  return "0x" + (first == std::string::npos ? "0" : text.substr(first));
}

std::string boot_id() {
  char id[37] = "";
  const Fd fd(open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  return fd.get() >= 0 && read(fd.get(), id, 36) == 36 ? id : "";
}

void write_start(const Options& options, Runtime& runtime, const cpu_set_t& mask, unsigned threads) {
  std::string backends = "[";
  for (const auto& name : runtime.backends()) backends += (backends.size() > 1 ? "," : "") + json_text(name);
  const std::string boot = boot_id();
  Line("start")
      .whole("schema", kSchema)
      .text("run", options.run)
      .text("purpose", options.purpose)
      .text("runtime", runtime.name())
      .text("version", runtime.version())
      .json("backends", backends + "]")
      .whole("threads_requested", options.threads)
      .whole("threads", threads)
      .text("cpu_mask", hex(mask))
      .text("clock", "CLOCK_MONOTONIC_RAW")
      .text("loader", runtime.loader())
      .whole("pid", getpid())
      .json("boot_id", boot.empty() ? "null" : json_text(boot))
      .whole("page_size", sysconf(_SC_PAGESIZE))
      .real("loop_overhead_ns", loop_overhead_ns())
      .write();
}

void load(const Options& options, Runtime& runtime, MemoryLog* memory) {
  size_t bytes = 0;
  open_file(options.model, &bytes);
  runtime.check_file(options.model);
  const uint64_t t0 = raw_ns();
  runtime.load_program(options.model);
  const uint64_t t1 = raw_ns();
  if (memory) memory->write("program");
  const uint64_t t2 = raw_ns();
  runtime.load_method();
  const uint64_t t3 = raw_ns();
  if (memory) memory->write("method");
  Line line("load");
  line.whole("program_ns", static_cast<int64_t>(t1 - t0)).whole("method_ns", static_cast<int64_t>(t3 - t2));
  line.whole("file_bytes", static_cast<int64_t>(bytes));
  if (const auto* metas = runtime.inputs()) line.json("inputs", json_metas(*metas));
  if (const auto* metas = runtime.outputs_meta()) line.json("outputs", json_metas(*metas));
  if (runtime.arenas_bytes() >= 0) line.whole("arenas_bytes", runtime.arenas_bytes());
  line.write();
}

struct Ending {
  const char* status = "ok";
  int64_t blocks = 0, samples = 0;
  std::string ended_by;
  rusage before{}, after{};
};

void write_end(const Ending& end) {
  Line line("end");
  line.text("status", end.status).whole("blocks", end.blocks).whole("samples", end.samples);
  if (!end.ended_by.empty()) {
    line.text("ended_by", end.ended_by);
    line.whole("involuntary_switches", end.after.ru_nivcsw - end.before.ru_nivcsw);
    line.whole("voluntary_switches", end.after.ru_nvcsw - end.before.ru_nvcsw);
    line.whole("major_faults", end.after.ru_majflt - end.before.ru_majflt);
    line.whole("minor_faults", end.after.ru_minflt - end.before.ru_minflt);
  }
  line.write();
}

void first(Runtime& runtime) {
  const uint64_t t0 = raw_ns();
  runtime.set_inputs();
  const uint64_t t1 = raw_ns();
  runtime.execute();
  const uint64_t t2 = raw_ns();
  Line("first").whole("ns", static_cast<int64_t>(t2 - t1)).whole("input_ns", static_cast<int64_t>(t1 - t0)).write();
}

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

// Nothing is written between the first warm-up iteration and the last steady one. A crash in between loses the
// samples; the run is cut off then, and would not count anyway.
Ending latency(const Options& options, Runtime& runtime) {
  Recording warm(kWarmUpBlocks), steady(kSteadyBlocks);
  WarmUp until_steady(options.max_warmup_s);
  Steady until_enough(options.min_iterations, options.min_s, options.max_s);
  Ending end;
  iterate(runtime, warm, until_steady);
  getrusage(RUSAGE_SELF, &end.before);
  iterate(runtime, steady, until_enough);
  getrusage(RUSAGE_SELF, &end.after);
  end.blocks = write_blocks(warm, "warmup") + write_blocks(steady, "steady");
  end.samples = static_cast<int64_t>(steady.count());
  end.ended_by = until_enough.ended_by();
  if (!until_steady.steady()) end.status = "not_steady";
  return end;
}

Ending memory_steady(Runtime& runtime, MemoryLog& memory) {
  for (int i = 0; i < kMemoryExecutes; i++) {
    runtime.set_inputs();
    runtime.execute();
  }
  memory.write("steady");
  memory.write_peak();
  return {};
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

Ending serve(const Options& options, Runtime& runtime) {
  const cpu_set_t mask = place(options);  // before the thread pool exists: its threads inherit the mask
  const int allowed = CPU_COUNT(&mask);
  if (allowed > 0 && options.threads > static_cast<unsigned>(allowed))
    throw Failure(kUsage, "usage", "threads",
                  "--threads " + std::to_string(options.threads) + ": only " + std::to_string(allowed) + " CPUs are allowed");
  const unsigned threads = runtime.set_threads(options.threads);
  write_start(options, runtime, mask, threads);
  MemoryLog log;
  MemoryLog* memory = options.purpose == "memory" ? &log : nullptr;
  if (memory) memory->write("start");
  load(options, runtime, memory);
  if (options.purpose == "load" && options.inputs.empty()) return {};  // asked what the file says of itself
  InputFiles inputs(options.inputs);
  runtime.bind_inputs(inputs.views());
  if (options.purpose == "accuracy" || options.purpose == "check") return every_sample(options, runtime, inputs);
  inputs.read(0);
  first(runtime);
  if (memory) memory->write("first");
  if (options.purpose == "latency") return latency(options, runtime);
  if (memory) return memory_steady(runtime, *memory);
  return {};
}

void write_error(const std::string& stage, const std::string& kind, const std::string& message) {
  Line("error").text("stage", stage).text("class", kind).text("message", message).write();
  Ending end;
  end.status = "error";
  write_end(end);
}

int run(int argc, char** argv) {
  const auto runtime = make_runtime();
  try {
    const Options options = parse_options(argc, argv, *runtime);
    if (options.version) {
      printf("%s %s\n", runtime->name(), runtime->version());
      return kOk;
    }
    if (!options.lock.empty()) take_lock(options.lock);
    write_end(serve(options, *runtime));
    return kOk;
  } catch (const Failure& failure) {
    write_error(failure.stage, failure.kind, failure.what());
    return failure.exit;
  } catch (const std::bad_alloc&) {
    write_error("execute", "out_of_memory", "no memory left");
    return kRuntime;
  } catch (const std::exception& error) {
    write_error("execute", "rejected", error.what());
    return kRuntime;
  }
}

}  // namespace
}  // namespace runner

int main(int argc, char** argv) {
  int code;
  try {
    code = runner::run(argc, argv);
  } catch (const std::exception&) {  // stdout is gone: nobody left to tell
    code = runner::kRuntime;
  }
  fflush(nullptr);
  // Not exit(): the answer is complete, and a runtime that crashes while it tears down must not turn it into a crash.
  _exit(code);
}
