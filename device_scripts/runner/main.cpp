// One process, one purpose: sets itself up, loads the model, serves the purpose, says how it ended.
#include <fcntl.h>
#include <sched.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>

#include "cache.h"
#include "clocks.h"
#include "files.h"
#include "jsonl.h"
#include "loop.h"
#include "memory.h"
#include "options.h"
#include "process.h"
#include "purposes.h"
#include "runtime.h"

namespace runner {
namespace {

constexpr int kSchema = 1;

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
  return allowed_cpus();
}

struct Setup {
  std::optional<int64_t> exec_to_main_ns;
  cpu_set_t mask;
  unsigned threads;
};

void write_start(const Options& options, Runtime& runtime, const Setup& setup) {
  std::string backends = "[";
  for (const auto& name : runtime.backends()) backends += (backends.size() > 1 ? "," : "") + json_text(name);
  const std::string boot = boot_id();
  Line line("start");
  line.whole("schema", kSchema)
      .text("run", options.run)
      .text("purpose", options.purpose)
      .text("runtime", runtime.name())
      .text("version", runtime.version())
      .json("backends", backends + "]")
      .whole("threads_requested", options.threads)
      .whole("threads", setup.threads)
      .text("cpu_mask", hex(setup.mask))
      .text("clock", "CLOCK_MONOTONIC_RAW")
      .text("loader", runtime.loader())
      .text("locked", runtime.locked())
      .whole("pid", getpid())
      .json("boot_id", boot.empty() ? "null" : json_text(boot))
      .whole("page_size", sysconf(_SC_PAGESIZE))
      .real("loop_overhead_ns", loop_overhead_ns());
  if (setup.exec_to_main_ns) line.whole("exec_to_main_ns", *setup.exec_to_main_ns);
  line.write();
}

void load(const Options& options, Runtime& runtime, MemoryLog* memory) {
  size_t bytes = 0;
  open_file(options.model, &bytes);
  runtime.check_file(options.model);
  if (options.drop_cache) drop_cache(options.model);  // behind the check, which reads some of its pages
  const uint64_t t0 = raw_ns();
  runtime.load_program(options.model);
  const uint64_t t1 = raw_ns();
  if (memory) memory->write("program");
  const uint64_t t2 = raw_ns();
  runtime.load_method();
  const uint64_t t3 = raw_ns();
  if (memory) memory->write("method", options.model);
  Line line("load");
  line.whole("program_ns", static_cast<int64_t>(t1 - t0)).whole("method_ns", static_cast<int64_t>(t3 - t2));
  line.whole("file_bytes", static_cast<int64_t>(bytes));
  if (const auto* metas = runtime.inputs()) line.json("inputs", json_metas(*metas));
  if (const auto* metas = runtime.outputs_meta()) line.json("outputs", json_metas(*metas));
  if (runtime.arenas_bytes() >= 0) line.whole("arenas_bytes", runtime.arenas_bytes());
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

Setup set_up(const Options& options, Runtime& runtime, uint64_t main_boottime_ns) {
  Setup setup{};
  setup.exec_to_main_ns = exec_to_main_ns(main_boottime_ns);
  setup.mask = place(options);  // before the thread pool exists: its threads inherit the mask
  const int allowed = CPU_COUNT(&setup.mask);
  if (allowed > 0 && options.threads > static_cast<unsigned>(allowed))
    throw Failure(kUsage, "usage", "threads",
                  "--threads " + std::to_string(options.threads) + ": only " + std::to_string(allowed) + " CPUs are allowed");
  setup.threads = runtime.set_threads(options.threads);
  return setup;
}

Ending serve(const Options& options, Runtime& runtime, uint64_t main_boottime_ns) {
  const auto is = [&](const char* purpose) { return options.purpose == purpose; };
  write_start(options, runtime, set_up(options, runtime, main_boottime_ns));
  if (is("sentinel")) return sentinel_alone();
  if (is("idle")) return idle(options);
  MemoryLog log;
  MemoryLog* memory = is("memory") ? &log : nullptr;
  if (memory) memory->write("start");
  const rusage before = usage_now();
  load(options, runtime, memory);
  Ending loaded;
  if (is("load") && options.inputs.empty()) return loaded;  // asked what the file says of itself
  InputFiles inputs(options.inputs);
  runtime.bind_inputs(inputs.views());
  if (is("accuracy") || is("check")) return every_sample(options, runtime, inputs);
  inputs.read(0);
  first(runtime);
  if (memory) memory->write("first", options.model);
  if (is("latency")) return latency(options, runtime);
  if (is("energy")) return energy(options, runtime);
  if (is("sustained")) return sustained(options, runtime);
  if (is("profile")) return profile(options, runtime);
  if (memory) return memory_steady(options, runtime, *memory);
  loaded.usage = usage_since(before);
  return loaded;
}

void write_error(const std::string& stage, const std::string& kind, const std::string& message) {
  Line("error").text("stage", stage).text("class", kind).text("message", message).write();
  Ending end;
  end.status = "error";
  write_end(end);
}

int run(int argc, char** argv, uint64_t main_boottime_ns) {
  const auto runtime = make_runtime();
  try {
    const Options options = parse_options(argc, argv, *runtime);
    if (options.version) {
      printf("%s %s\n", runtime->name(), runtime->version());
      return kOk;
    }
    if (!options.lock.empty()) take_lock(options.lock);
    write_end(serve(options, *runtime, main_boottime_ns));
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
  const uint64_t main_boottime_ns = runner::clock_ns(CLOCK_BOOTTIME);
  int code;
  try {
    code = runner::run(argc, argv, main_boottime_ns);
  } catch (const std::exception&) {  // stdout is gone: nobody left to tell
    code = runner::kRuntime;
  }
  fflush(nullptr);
  // Not exit(): the answer is complete, and a runtime that crashes while it tears down must not turn it into a crash.
  _exit(code);
}
