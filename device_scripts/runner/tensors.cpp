// Sizes and names of tensors, shared by every runtime.
#include <limits>

#include "runtime.h"

namespace runner {

size_t dtype_bytes(const std::string& dtype) {
  if (dtype == "float32" || dtype == "int32") return 4;
  if (dtype == "float64" || dtype == "int64") return 8;
  if (dtype == "float16" || dtype == "bfloat16" || dtype == "int16") return 2;
  if (dtype == "uint8" || dtype == "int8" || dtype == "bool") return 1;
  return 0;
}

size_t call_bytes(const TensorMeta& meta) {
  size_t bytes = dtype_bytes(meta.dtype);
  for (const int64_t d : meta.shape) {
    if (d < 0 || (d > 0 && bytes > std::numeric_limits<size_t>::max() / static_cast<size_t>(d)))
      throw std::overflow_error("the tensor's size does not fit");
    bytes *= static_cast<size_t>(d);
  }
  return bytes;
}

std::string describe(const TensorMeta& meta) {
  std::string text = meta.dtype + " [";
  for (size_t i = 0; i < meta.shape.size(); i++) text += (i ? "," : "") + std::to_string(meta.shape[i]);
  return text + "]";
}

}  // namespace runner
