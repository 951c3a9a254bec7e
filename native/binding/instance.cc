#include "instance.h"

#include <cmath>

#include "cpu/cpu_backend.h"

#if defined(MIXPREC_HAS_CUDA)
#include "cuda/cuda_backend.h"
#endif

namespace mixprec::binding {
namespace {

// How much of the tensors' memory the garbage collector is told of. All of it would make V8 collect
// every 64 MB, several times in a training step; a quarter keeps the safety net at a fair price.
constexpr int64_t kExternalMemoryShare = 4;
constexpr int64_t kExternalMemoryStep = 4 << 20;

}  // namespace

Instance* instance(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return static_cast<Instance*>(data);
}

Backend& backend_for(double device) {
  if (device < 0) return cpu::backend();
#if defined(MIXPREC_HAS_CUDA)
  return cuda::backend(static_cast<int>(device));
#else
  throw Error(ErrorCode::kDevice, "this build has no CUDA backend; use \"cpu\"");
#endif
}

void report_external_memory(napi_env env, Instance& self, int64_t bytes) {
  self.unreported_bytes += bytes - self.handles.take_released_bytes();
  if (std::abs(self.unreported_bytes) < kExternalMemoryStep * kExternalMemoryShare) return;
  int64_t ignored = 0;
  napi_adjust_external_memory(env, self.unreported_bytes / kExternalMemoryShare, &ignored);
  self.unreported_bytes = 0;
}

int64_t storage_bytes(const Tensor& tensor) {
  return tensor.storage ? static_cast<int64_t>(tensor.storage->bytes()) : 0;
}

Tensor describe(const double*& cursor) {
  Tensor tensor;
  tensor.dtype = static_cast<DType>(static_cast<int32_t>(*cursor++));
  tensor.rank = static_cast<int32_t>(*cursor++);
  check(tensor.rank >= 0 && tensor.rank <= kMaxRank, "a tensor has too many dimensions");
  for (int32_t dim = 0; dim < tensor.rank; ++dim) {
    tensor.shape[dim] = static_cast<int64_t>(*cursor++);
  }
  int64_t stride = 1;
  for (int32_t dim = tensor.rank - 1; dim >= 0; --dim) {
    tensor.strides[dim] = stride;
    stride *= tensor.shape[dim];
  }
  return tensor;
}

Tensor allocate(Backend& backend, const double*& cursor) {
  Tensor tensor = describe(cursor);
  const size_t bytes = static_cast<size_t>(tensor.numel()) * item_size(tensor.dtype);
  tensor.storage = StorageRef(new Storage(&backend, backend.allocate(bytes), bytes));
  tensor.data = tensor.storage->data();
  return tensor;
}

const Tensor& tensor_argument(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  double handle = -1;
  napi_get_value_double(env, argument, &handle);
  return instance(env)->handles.get(handle);
}

void export_raw(napi_env env, napi_value exports, const char* name, napi_callback callback) {
  napi_value function;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function);
  napi_set_named_property(env, exports, name, function);
}

}  // namespace mixprec::binding
