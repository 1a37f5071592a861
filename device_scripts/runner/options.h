// The command line. The host writes it, so every mistake in it is reported and nothing is guessed.
#pragma once
#include <sched.h>

#include <string>
#include <vector>

#include "runtime.h"

namespace runner {

struct InputFile {
  TensorMeta meta;
  std::string path;
};

struct Options {
  std::string purpose, run, model, outputs, lock, cpus = "any";
  std::string sysroot;  // without a slash at its end: empty for /
  std::vector<InputFile> inputs;
  unsigned threads = 1;
  double min_s = 2, max_s = 60, max_warmup_s = 30;
  double seconds = 0;  // of idle, energy, sustained, which have no default
  size_t min_iterations = 100;
  bool version = false, drop_cache = false;
  bool loads() const { return purpose != "idle" && purpose != "sentinel"; }  // these two take no model
  cpu_set_t mask;  // valid unless cpus == "any"
};

// Throws Failure of stage "usage". Flags that are not ours are offered to the runtime.
Options parse_options(int argc, char** argv, Runtime& runtime);

}  // namespace runner
