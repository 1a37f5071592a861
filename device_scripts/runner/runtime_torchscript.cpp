// TorchScript lite: .ptl files through libtorch's lite interpreter, the same that phones run.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/core/InferenceMode.h>
#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/jit/mobile/import.h>
#include <torch/csrc/jit/mobile/module.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "files.h"
#include "runtime.h"

namespace runner {
namespace {

struct Dtype {
  const char* name;
  at::ScalarType type;
};
constexpr Dtype kDtypes[] = {{"float32", at::kFloat},  {"float16", at::kHalf}, {"float64", at::kDouble},
                             {"bfloat16", at::kBFloat16}, {"int64", at::kLong},   {"int32", at::kInt},
                             {"int16", at::kShort},    {"int8", at::kChar},    {"uint8", at::kByte},
                             {"bool", at::kBool}};

const char* dtype_name(at::ScalarType type) {
  for (const auto& d : kDtypes)
    if (d.type == type) return d.name;
  return nullptr;
}

at::ScalarType dtype_of(const std::string& name) {
  for (const auto& d : kDtypes)
    if (name == d.name) return d.type;
  return at::kFloat;
}

// The first line that says something; libtorch's messages go on with a C++ stack.
std::string first_line(const std::exception& error) {
  const auto* ours = dynamic_cast<const c10::Error*>(&error);
  const std::string text = ours ? ours->what_without_backtrace() : error.what();
  const size_t begin = text.find_first_not_of(" \n");
  if (begin == std::string::npos) return "no message";
  return text.substr(begin, text.find('\n', begin) - begin);
}

[[noreturn]] void refuse_load(const std::exception& error) {
  const std::string message = first_line(error);
  const auto says = [&](const char* words) { return message.find(words) != std::string::npos; };
  std::string kind = "rejected";
  if (says("Following ops cannot be found")) kind = "op_missing";
  else if (says("version number")) kind = "bad_version";
  else if (says("PytorchStreamReader failed")) kind = "corrupt";
  throw Failure(kRefused, "load", kind, message);
}

// Calls `step`; what libtorch throws becomes a failure of the execution.
template <typename Step>
void guarded(const char* what, Step step) {
  try {
    step();
  } catch (const Failure&) {
    throw;
  } catch (const std::exception& error) {
    throw Failure(kRuntime, "execute", "rejected", std::string(what) + ": " + first_line(error));
  }
}

class TorchScript : public Runtime {
 public:
  const char* name() const override { return "torchscript"; }
  const char* version() const override { return RUNNER_RUNTIME_VERSION; }
  const char* loader() const override { return "file"; }
  std::vector<std::string> backends() const override { return {"cpu"}; }

  unsigned set_threads(unsigned count) override {
    at::set_num_threads(static_cast<int>(count));
    at::set_num_interop_threads(1);
    return static_cast<unsigned>(at::get_num_threads());
  }

  // A .ptl is a zip: its first four bytes, and the end-of-directory record in its last 64 KiB (APPNOTE 4.3.16).
  void check_file(const std::string& path) override {
    size_t size = 0;
    const Fd fd = open_file(path, &size);
    if (size < 22) throw Failure(kRefused, "load", "truncated", "the file has only " + std::to_string(size) + " bytes");
    std::string head(4, '\0'), tail(std::min<size_t>(size, 65535 + 22), '\0');
    read_exactly(fd.get(), head.data(), head.size(), 0);
    if (head != "PK\3\4") throw Failure(kRefused, "load", "bad_magic", "not a .ptl file: it does not begin like a zip archive");
    read_exactly(fd.get(), tail.data(), tail.size(), size - tail.size());
    if (tail.rfind("PK\5\6") == std::string::npos)
      throw Failure(kRefused, "load", "truncated", "the archive has no directory at its end");
  }

  void load_program(const std::string& path) override {
    try {
      set_engine(path);
      module_ = torch::jit::_load_for_mobile(path, c10::nullopt);
    } catch (const std::exception& error) {
      refuse_load(error);
    }
  }

  // Quantized weights are packed for the engine that is set when they are loaded; the file may name the one it was made
  // for. Another one computes the same but for rounding, so a name that this libtorch has not is passed over.
  static void set_engine(const std::string& path) {
    caffe2::serialize::PyTorchStreamReader archive(path);
    if (!archive.hasRecord("extra/quantized_engine")) return;
    const auto [data, size] = archive.getRecord("extra/quantized_engine");
    const std::string wanted(static_cast<const char*>(data.get()), size);
    for (const at::QEngine engine : at::globalContext().supportedQEngines())
      if (wanted == c10::toString(engine)) at::globalContext().setQEngine(engine);
  }

  void load_method() override {
    try {
      method_ = module_.find_method("forward");
    } catch (const std::exception& error) {
      refuse_load(error);
    }
    if (!method_) throw Failure(kRefused, "load", "rejected", "the module has no method \"forward\"");
  }

  void bind_inputs(const std::vector<TensorView>& given) override {
    const auto& function = method_->function();
    if (function.hasSchema()) {
      // The interpreter checks them too, but its words for too few are about its own stack.
      const auto& arguments = function.getSchema().arguments();
      const size_t most = arguments.empty() ? 0 : arguments.size() - 1;  // the first is self
      size_t least = 0;
      for (size_t i = 1; i < arguments.size(); i++) least += arguments[i].type()->str() == "Tensor" ? 1 : 0;
      if (given.size() > most || given.size() < least)
        throw Failure(kRefused, "inputs", "input_mismatch",
                      "expected " + std::to_string(most) + " inputs, given " + std::to_string(given.size()));
    }
    for (const auto& view : given) {
      sources_.push_back(view.data);
      inputs_.emplace_back(at::empty(view.meta.shape, dtype_of(view.meta.dtype)));
    }
  }

  // Lets go of the last result here, outside the timed region, and makes the stack that the interpreter consumes.
  // The values are copied each time: a model may change its input in place.
  void set_inputs() override {
    leaves_.clear();
    stack_.clear();
    for (size_t i = 0; i < inputs_.size(); i++) {
      std::memcpy(inputs_[i].mutable_data_ptr(), sources_[i], inputs_[i].nbytes());
      stack_.emplace_back(inputs_[i]);
    }
  }

  void execute() override {
    guarded("forward", [&] { method_->run(stack_); });
  }

  std::vector<TensorView> outputs() override {
    std::vector<TensorView> views;
    guarded("outputs", [&] {
      leaves_.clear();
      for (const auto& value : stack_) flatten(value, 0);
      for (const auto& leaf : leaves_)
        views.push_back({{dtype_name(leaf.scalar_type()), leaf.sizes().vec()}, leaf.const_data_ptr()});
    });
    return views;
  }

 private:
  // Leaves in pytree order: a dict's in the order of insertion, which c10::Dict keeps.
  void flatten(const c10::IValue& value, int depth) {
    if (depth > 64) throw Failure(kRuntime, "outputs", "unsupported_output", "the outputs are nested too deeply");
    if (value.isTensor() && value.toTensor().defined()) {
      const auto& tensor = value.toTensor();
      if (tensor.layout() != at::kStrided || !dtype_name(tensor.scalar_type()))
        throw Failure(kRuntime, "outputs", "unsupported_output", "an output is sparse or quantized");
      leaves_.push_back(tensor.resolve_conj().resolve_neg().contiguous());
    } else if (value.isTuple()) {
      for (const auto& item : value.toTupleRef().elements()) flatten(item, depth + 1);
    } else if (value.isList()) {
      for (const c10::IValue& item : value.toListRef()) flatten(item, depth + 1);
    } else if (value.isGenericDict()) {
      for (const auto& item : value.toGenericDict()) flatten(item.value(), depth + 1);
    } else {
      throw Failure(kRuntime, "outputs", "unsupported_output", "an output is a " + value.tagKind() + ", not a tensor");
    }
  }

  c10::InferenceMode no_gradients_{true};  // for the life of the process
  torch::jit::mobile::Module module_;
  std::optional<torch::jit::mobile::Method> method_;
  std::vector<const void*> sources_;
  std::vector<c10::IValue> stack_;
  std::vector<at::Tensor> inputs_, leaves_;
};

}  // namespace

std::unique_ptr<Runtime> make_runtime() { return std::make_unique<TorchScript>(); }

}  // namespace runner
