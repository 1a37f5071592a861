// ExecuTorch: .pte files through Program and Method, below extension::Module, so that nothing is in the timed region
// but Method::execute().
#include <executorch/extension/data_loader/mmap_data_loader.h>
#include <executorch/extension/memory_allocator/malloc_memory_allocator.h>
#include <executorch/runtime/backend/interface.h>
#include <executorch/runtime/executor/method.h>
#include <executorch/runtime/executor/program.h>
#include <executorch/runtime/platform/platform.h>
#include <executorch/runtime/platform/runtime.h>
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <optional>

#include "profile.h"
#include "pte_file.h"
#include "runtime.h"

// The wheel's libraries are built with the tracer on; an ExecuTorch of one's own may be without.
#if defined(ET_EVENT_TRACER_ENABLED) && __has_include(<executorch/devtools/etdump/etdump_flatcc.h>)
#include <executorch/devtools/etdump/etdump_flatcc.h>
#define RUNNER_TRACES 1
#endif

// libexecutorch_threadpool.so exports these, but the SDK ships no header that declares them.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  size_t get_thread_count() const;
  bool _unsafe_reset_threadpool(uint32_t num_threads);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool

namespace runner {
namespace {

namespace et = executorch::runtime;
using executorch::aten::ScalarType;

// What the runtime logged as errors: its return codes alone do not name the operator or the reason.
std::deque<std::string>& log_lines() {
  static std::deque<std::string> lines;
  return lines;
}

void keep_errors(et_timestamp_t, et_pal_log_level_t level, const char*, const char*, size_t, const char* text, size_t size) {
  if (level == et_pal_log_level_t::kFatal) fprintf(stderr, "%.*s\n", static_cast<int>(size), text);  // it aborts next
  if (level != et_pal_log_level_t::kError) return;
  if (log_lines().size() >= 64) log_lines().pop_front();
  log_lines().emplace_back(text, size);
}

// "Missing operator: [3] aten::foo.out" -> "aten::foo.out, …"
std::string missing_operators() {
  std::string names;
  for (const auto& line : log_lines())
    if (line.rfind("Missing operator: ", 0) == 0) {
      const size_t space = line.rfind(' ');
      const std::string name = line.substr(space + 1);
      if (names.find(name) == std::string::npos) names += (names.empty() ? "" : ", ") + name;
    }
  return names;
}

[[noreturn]] void refuse(const std::string& stage, et::Error error, const std::string& what) {
  std::string message = what + ": " + et::to_string(error);
  if (!log_lines().empty()) message += " (" + log_lines().back() + ")";
  std::string kind = "rejected";
  if (error == et::Error::OperatorMissing || !missing_operators().empty()) {
    kind = "op_missing";
    message = "this runner has no " + missing_operators();
  } else if (error == et::Error::InvalidProgram) {
    kind = "corrupt";
  } else if (error == et::Error::MemoryAllocationFailed) {
    kind = "out_of_memory";
  }
  throw Failure(stage == "execute" ? kRuntime : kRefused, stage, kind, message);
}

template <typename T>
T take(et::Result<T> result, const char* stage, const char* what) {
  if (!result.ok()) refuse(stage, result.error(), what);
  return std::move(*result);
}

const char* dtype_name(ScalarType type) {
  switch (type) {
    case ScalarType::Float: return "float32";
    case ScalarType::Half: return "float16";
    case ScalarType::Double: return "float64";
    case ScalarType::BFloat16: return "bfloat16";
    case ScalarType::Long: return "int64";
    case ScalarType::Int: return "int32";
    case ScalarType::Short: return "int16";
    case ScalarType::Char: return "int8";
    case ScalarType::Byte: return "uint8";
    case ScalarType::Bool: return "bool";
    default: return nullptr;
  }
}

ScalarType dtype_of(const std::string& name) {
  for (const auto type : {ScalarType::Float, ScalarType::Half, ScalarType::Long, ScalarType::Int, ScalarType::Byte})
    if (name == dtype_name(type)) return type;
  return ScalarType::Bool;
}

bool is_c_order(et::Span<const uint8_t> order) {
  for (size_t i = 0; i < order.size(); i++)
    if (order[i] != i) return false;
  return true;
}

// Metadata of input or output `index`. Only tensors cross the wire.
TensorMeta tensor_meta(const et::MethodMeta& method, bool input, size_t index, bool* planned) {
  const std::string which = (input ? "input " : "output ") + std::to_string(index);
  const auto tag = take(input ? method.input_tag(index) : method.output_tag(index), "load", which.c_str());
  const char* kind = input ? "input_mismatch" : "unsupported_output";
  if (tag != et::Tag::Tensor)
    throw Failure(kRefused, "load", kind, which + " of the model is no tensor; only tensors can go in and out");
  const auto info = take(input ? method.input_tensor_meta(index) : method.output_tensor_meta(index), "load", which.c_str());
  const char* dtype = dtype_name(info.scalar_type());
  if (!dtype) throw Failure(kRefused, "load", kind, which + " of the model has a dtype that cannot be sent");
  if (input && !is_c_order(info.dim_order()))
    throw Failure(kRefused, "load", kind, which + " of the model is not in C order (channels last); export it contiguous");
  if (planned) *planned = info.is_memory_planned();
  return {dtype, {info.sizes().begin(), info.sizes().end()}};
}

// Zeroed memory that costs nothing until it is touched: a damaged file may ask for a lot.
class Arena {
 public:
  explicit Arena(size_t bytes) : bytes_(bytes ? bytes : 1) {
    void* p = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
      throw Failure(kRefused, "load", "out_of_memory", "the model plans a buffer of " + std::to_string(bytes) + " bytes");
    data_ = static_cast<uint8_t*>(p);
  }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() { munmap(data_, bytes_); }
  uint8_t* data() const { return data_; }

 private:
  size_t bytes_;
  uint8_t* data_;
};

class ExecuTorch : public Runtime {
 public:
  ExecuTorch() {
    et::runtime_init();
    et::register_pal(et::PalImpl::create(keep_errors, __FILE__));
  }
  const char* name() const override { return "executorch"; }
  const char* version() const override { return RUNNER_RUNTIME_VERSION; }
  const char* loader() const override { return "mmap"; }

  std::vector<std::string> backends() const override {
    std::vector<std::string> names;
    for (size_t i = 0; i < et::get_num_registered_backends(); i++)
      if (const auto name = et::get_backend_name(i); name.ok()) names.emplace_back(*name);
    return names;
  }

  unsigned set_threads(unsigned count) override {
    auto* pool = executorch::extension::threadpool::get_threadpool();
    if (!pool) return 1;
    if (pool->get_thread_count() != count) pool->_unsafe_reset_threadpool(count);
    return static_cast<unsigned>(pool->get_thread_count());
  }

  void check_file(const std::string& path) override { check_pte(path); }

  // Mapped and not locked, so that pages come in when they are used, and a page that is not used costs nothing.
  void load_program(const std::string& path) override {
    using Mmap = executorch::extension::MmapDataLoader;
    file_.emplace(take(Mmap::from(path.c_str(), Mmap::MlockConfig::NoMlock), "load", "cannot map the file"));
    program_.emplace(take(et::Program::load(&*file_, et::Program::Verification::InternalConsistency), "load",
                          "the program was refused"));
  }

  void load_method() override {
    const et::MethodMeta meta = take(program_->method_meta(method_name()), "load", "no metadata");
    check_backends(meta);
    for (size_t i = 0; i < meta.num_inputs(); i++) inputs_.push_back(tensor_meta(meta, true, i, nullptr));
    for (size_t i = 0; i < meta.num_outputs(); i++) {
      bool in_arena = true;
      outputs_.push_back(tensor_meta(meta, false, i, &in_arena));
      planned_output_.push_back(in_arena);
    }
    for (size_t i = 0; i < meta.num_memory_planned_buffers(); i++) {
      const int64_t bytes = take(meta.memory_planned_buffer_size(i), "load", "a planned buffer");
      if (bytes < 0) throw Failure(kRefused, "load", "corrupt", "a planned buffer of negative size");
      const Arena& arena = arenas_.emplace_back(static_cast<size_t>(bytes));
      spans_.emplace_back(arena.data(), static_cast<size_t>(bytes));
      arenas_bytes_ += bytes;
    }
    planned_.emplace(et::Span<et::Span<uint8_t>>(spans_.data(), spans_.size()));
    memory_.emplace(&method_memory_, &*planned_, &temporary_memory_);
    make_method(nullptr);
  }

  const std::vector<TensorMeta>* inputs() const override { return &inputs_; }
  const std::vector<TensorMeta>* outputs_meta() const override { return &outputs_; }
  int64_t arenas_bytes() const override { return arenas_bytes_; }

  void bind_inputs(const std::vector<TensorView>& given) override {
    if (given.size() != inputs_.size())
      mismatch("expected " + std::to_string(inputs_.size()) + " inputs, given " + std::to_string(given.size()));
    for (size_t i = 0; i < given.size(); i++) {
      const TensorMeta& meta = given[i].meta;
      if (meta.dtype != inputs_[i].dtype || meta.shape.size() != inputs_[i].shape.size()) mismatch(i, meta);
      Bound& bound = bound_.emplace_back();
      for (size_t d = 0; d < meta.shape.size(); d++) {
        if (meta.shape[d] > inputs_[i].shape[d]) mismatch(i, meta);  // its metadata holds the upper bounds
        bound.sizes.push_back(static_cast<int32_t>(meta.shape[d]));
        bound.order.push_back(static_cast<uint8_t>(d));
      }
      bound.tensor.emplace(dtype_of(meta.dtype), static_cast<ssize_t>(bound.sizes.size()), bound.sizes.data(),
                           const_cast<void*>(given[i].data), bound.order.data());
      values_.emplace_back(executorch::aten::Tensor(&*bound.tensor));
    }
    // A dynamic dimension takes fewer than its metadata says, so the method itself must say what fits.
    for (size_t i = 0; i < given.size(); i++)
      if (method_->set_input(values_[i], i) != et::Error::Ok) mismatch(i, given[i].meta);
  }

#ifdef RUNNER_TRACES
  // The method is made a second time, with a tracer: what the first one takes tells what tracing costs.
  void profile(const std::string& path, size_t iterations) override {
    const et_tick_ratio_t tick = et::pal_ticks_to_ns_multiplier();
    if (tick.numerator != tick.denominator)
      throw Failure(kRuntime, "setup", "rejected", "this platform's trace does not count in ns");
    settle(*this);
    const auto untraced_ns = timed(*this, iterations);
    tracer_.emplace();
    make_method(&*tracer_);
    settle(*this);
    tracer_->reset();  // loading and the first executions are not what is asked for
    const auto traced_ns = timed(*this, iterations);
    const auto trace = tracer_->get_etdump_data();
    const std::unique_ptr<void, decltype(&free)> owned(trace.buf, free);
    if (!trace.buf || !trace.size) throw Failure(kRuntime, "outputs", "rejected", "the runtime made no trace");
    write_profile(path, trace.buf, trace.size, untraced_ns, traced_ns);
  }
#endif

  void set_inputs() override {
    const auto error = method_->set_inputs(executorch::aten::ArrayRef<et::EValue>(values_.data(), values_.size()));
    if (error != et::Error::Ok) refuse("execute", error, "setting the inputs");
  }

  void execute() override {
    const auto error = method_->execute();
    if (error != et::Error::Ok) refuse("execute", error, "the method failed");
  }

  std::vector<TensorView> outputs() override {
    std::vector<TensorView> views;
    copies_.resize(method_->outputs_size());
    for (size_t i = 0; i < method_->outputs_size(); i++) {
      const et::EValue& value = method_->get_output(i);
      if (!value.isTensor()) throw Failure(kRuntime, "outputs", "unsupported_output", "an output is no tensor");
      const auto& tensor = value.toTensor();
      const char* dtype = dtype_name(tensor.scalar_type());
      if (!dtype || !tensor.const_data_ptr())
        throw Failure(kRuntime, "outputs", "unsupported_output", "output " + std::to_string(i) + " cannot be read");
      TensorMeta meta{dtype, {tensor.sizes().begin(), tensor.sizes().end()}};
      views.push_back({meta, in_c_order(tensor, &copies_[i])});
    }
    return views;
  }

 private:
  struct Bound {  // TensorImpl points into the two lists
    std::vector<int32_t> sizes;
    std::vector<uint8_t> order;
    std::optional<executorch::aten::TensorImpl> tensor;
  };

  [[noreturn]] static void mismatch(const std::string& message) {
    throw Failure(kRefused, "inputs", "input_mismatch", message);
  }
  [[noreturn]] void mismatch(size_t i, const TensorMeta& given) const {
    mismatch("input " + std::to_string(i) + ": expected " + describe(inputs_[i]) + ", given " + describe(given));
  }

  // "forward" if there is one, else the only method.
  const char* method_name() const {
    const char* only = nullptr;
    for (size_t i = 0; i < program_->num_methods(); i++) {
      only = take(program_->get_method_name(i), "load", "a method without a name");
      if (std::strcmp(only, "forward") == 0) return only;
    }
    if (program_->num_methods() == 1) return only;
    throw Failure(kRefused, "load", "rejected", "the program has no method \"forward\"");
  }

  void check_backends(const et::MethodMeta& meta) const {
    std::string needed;
    for (size_t i = 0; i < meta.num_backends(); i++) {
      const char* name = take(meta.get_backend_name(i), "load", "a delegate without a name");
      if (et::get_backend_class(name)) continue;
      if (needed.find(name) == std::string::npos) needed += (needed.empty() ? "" : ", ") + std::string(name);
    }
    if (needed.empty()) return;
    std::string has;
    for (const auto& name : backends()) has += (has.empty() ? "" : ", ") + name;
    throw Failure(kRefused, "load", "backend_missing", "needs " + needed + ", this runner has " + (has.empty() ? "none" : has));
  }

  // Without a tracer the runtime spends a branch per instruction on not tracing, and that is all.
  void make_method(et::EventTracer* tracer) {
    method_.reset();
    method_memory_.reset();
    method_.emplace(take(program_->load_method(method_name(), &*memory_, tracer), "load", "the method was refused"));
    for (size_t i = 0; i < outputs_.size(); i++)
      if (!planned_output_[i]) give_output_memory(i);
  }

  void give_output_memory(size_t i) {
    const Arena& arena = arenas_.emplace_back(call_bytes(outputs_[i]));
    // An output that is an input or a constant has memory of its own, and says so by an error.
    (void)method_->set_output_data_ptr(arena.data(), call_bytes(outputs_[i]), i);
    log_lines().clear();
  }

  // The tensor's bytes in C order: its own memory, or a copy where its dimensions are stored in another order.
  static const void* in_c_order(const executorch::aten::Tensor& tensor, std::vector<uint8_t>* copy) {
    const auto sizes = tensor.sizes();
    const auto strides = tensor.strides();
    const size_t rank = sizes.size(), bytes = static_cast<size_t>(tensor.element_size());
    bool straight = true;
    int64_t expected = 1;
    for (size_t d = rank; d-- > 0; expected *= sizes[d]) straight = straight && (sizes[d] == 1 || strides[d] == expected);
    const auto* from = static_cast<const uint8_t*>(tensor.const_data_ptr());
    if (straight) return from;
    copy->resize(static_cast<size_t>(tensor.nbytes()));
    std::vector<int64_t> index(rank, 0);
    for (size_t at = 0; at < copy->size(); at += bytes) {
      int64_t offset = 0;
      for (size_t d = 0; d < rank; d++) offset += index[d] * strides[d];
      std::memcpy(copy->data() + at, from + static_cast<size_t>(offset) * bytes, bytes);
      for (size_t d = rank; d-- > 0;) {
        if (++index[d] < sizes[d]) break;
        index[d] = 0;
      }
    }
    return copy->data();
  }

  std::optional<executorch::extension::MmapDataLoader> file_;
  std::optional<et::Program> program_;
  executorch::extension::MallocMemoryAllocator method_memory_, temporary_memory_;
  std::deque<Arena> arenas_;
  std::vector<et::Span<uint8_t>> spans_;
  int64_t arenas_bytes_ = 0;
  std::optional<et::HierarchicalAllocator> planned_;
  std::optional<et::MemoryManager> memory_;
#ifdef RUNNER_TRACES
  std::optional<executorch::etdump::ETDumpGen> tracer_;  // before the method, which points to it
#endif
  std::optional<et::Method> method_;
  std::vector<TensorMeta> inputs_, outputs_;
  std::vector<bool> planned_output_;
  std::deque<Bound> bound_;
  std::vector<et::EValue> values_;
  std::vector<std::vector<uint8_t>> copies_;
};

}  // namespace

std::unique_ptr<Runtime> make_runtime() { return std::make_unique<ExecuTorch>(); }

}  // namespace runner
