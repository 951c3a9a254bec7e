// The whole boundary between JavaScript and C++. Generic: it moves handles, shapes and numbers, and
// knows no op by name, so adding one does not touch it.
//
// Arguments travel in a command buffer, an array of doubles that both sides hold (a call that
// passes nothing costs a third of one that passes four numbers). Layout of a run:
//   in:  op, inputs, outputs, attributes (three counts), device, input handles...,
//        per output: dtype, rank, extents...; attributes...
//   out: output handles...
// NAPI_EXPERIMENTAL makes finalizers run inside the garbage collection itself, so that a training
// loop which never yields to the event loop still gives memory back (NODE-API "basic finalizers").
#define NAPI_EXPERIMENTAL
#define NODE_API_EXPERIMENTAL_NO_WARNING
#include <napi.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/backend.h"
#include "core/pointwise_kinds.h"
#include "cpu/cpu_backend.h"
#include "cpu/isa.h"
#include "cpu/thread_pool.h"
#include "handle_table.h"

namespace mixprec::binding {
namespace {

constexpr size_t kInitialCommandDoubles = 1 << 14;
// How much of the tensors' memory the garbage collector is told of. All of it would make V8 collect
// every 64 MB, several times in a training step; a quarter keeps the safety net at a fair price.
constexpr int64_t kExternalMemoryShare = 4;
constexpr int64_t kExternalMemoryStep = 4 << 20;

struct Instance {
  HandleTable handles;
  Napi::Reference<Napi::ArrayBuffer> command_buffer;
  double* command = nullptr;
  size_t command_doubles = 0;
  int64_t unreported_bytes = 0;
  std::vector<Tensor> inputs;
  std::vector<Tensor> outputs;
};

// Lets go of the tensors of a call, whether it returns or throws.
class CallTensors {
 public:
  explicit CallTensors(Instance& self) : self_(self) { clear(); }
  CallTensors(const CallTensors&) = delete;
  CallTensors& operator=(const CallTensors&) = delete;
  ~CallTensors() { clear(); }

 private:
  void clear() {
    self_.inputs.clear();
    self_.outputs.clear();
  }
  Instance& self_;
};

Instance* instance(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return static_cast<Instance*>(data);
}

Backend& backend_for(double device) {
  if (device >= 0) throw Error(ErrorCode::kDevice, "this build has no CUDA backend");
  return cpu::backend();
}

// Runs `body`; what it throws becomes a JavaScript error with the code of its class.
template <class Body>
napi_value guarded(napi_env env, const Body& body) {
  try {
    return body();
  } catch (const Napi::Error& error) {
    error.ThrowAsJavaScriptException();
  } catch (const Error& error) {
    napi_throw_error(env, error_code_name(error.code()), error.what());
  } catch (const std::bad_alloc&) {
    napi_throw_error(env, "ERR_OUT_OF_MEMORY", "out of host memory");
  } catch (const std::exception& error) {
    napi_throw_error(env, "ERR_NATIVE", error.what());
  }
  return nullptr;
}

// Tells the collector, once in a while, how the memory behind its objects has changed.
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

Tensor allocate(Backend& backend, const double*& cursor) {
  Tensor tensor;
  tensor.dtype = static_cast<DType>(static_cast<int32_t>(*cursor++));
  tensor.rank = static_cast<int32_t>(*cursor++);
  check(tensor.rank >= 0 && tensor.rank <= kMaxRank, "an output has too many dimensions");
  for (int32_t dim = 0; dim < tensor.rank; ++dim) {
    tensor.shape[dim] = static_cast<int64_t>(*cursor++);
  }
  int64_t stride = 1;
  for (int32_t dim = tensor.rank - 1; dim >= 0; --dim) {
    tensor.strides[dim] = stride;
    stride *= tensor.shape[dim];
  }
  const size_t bytes = static_cast<size_t>(tensor.numel()) * item_size(tensor.dtype);
  tensor.storage = StorageRef(new Storage(&backend, backend.allocate(bytes), bytes));
  tensor.data = tensor.storage->data();
  return tensor;
}

napi_value run(napi_env env, napi_callback_info) {
  Instance& self = *instance(env);
  return guarded(env, [&]() -> napi_value {
    const double* cursor = self.command;
    OpCall call;
    const auto op = static_cast<int32_t>(cursor[0]);
    call.num_inputs = static_cast<int32_t>(cursor[1]);
    call.num_outputs = static_cast<int32_t>(cursor[2]);
    call.num_attrs = static_cast<int32_t>(cursor[3]);
    Backend& backend = backend_for(cursor[4]);
    cursor += 5;
    const CallTensors tensors(self);
    for (int32_t i = 0; i < call.num_inputs; ++i) {
      self.inputs.push_back(self.handles.get(*cursor++));
    }
    for (int32_t i = 0; i < call.num_outputs; ++i) {
      self.outputs.push_back(allocate(backend, cursor));
    }
    call.inputs = self.inputs.data();
    call.outputs = self.outputs.data();
    call.attrs = cursor;
    run_op(backend, op, call);
    int64_t bytes = 0;
    for (int32_t i = 0; i < call.num_outputs; ++i) {
      const int64_t own = storage_bytes(self.outputs[i]);
      self.command[i] = self.handles.add(std::move(self.outputs[i]), own);
      bytes += own;
    }
    report_external_memory(env, self, bytes);
    return nullptr;
  });
}

// in: handle, element offset from the first element, rank, extents..., strides...; out: handle.
napi_value view(napi_env env, napi_callback_info) {
  Instance& self = *instance(env);
  return guarded(env, [&]() -> napi_value {
    const double* cursor = self.command;
    Tensor tensor = self.handles.get(cursor[0]);
    const auto offset = static_cast<int64_t>(cursor[1]);
    tensor.rank = static_cast<int32_t>(cursor[2]);
    check(tensor.rank >= 0 && tensor.rank <= kMaxRank, "a view has too many dimensions");
    cursor += 3;
    for (int32_t dim = 0; dim < tensor.rank; ++dim) {
      tensor.shape[dim] = static_cast<int64_t>(*cursor++);
    }
    for (int32_t dim = 0; dim < tensor.rank; ++dim) {
      tensor.strides[dim] = static_cast<int64_t>(*cursor++);
    }
    const auto item = static_cast<int64_t>(item_size(tensor.dtype));
    tensor.data = static_cast<char*>(tensor.data) + offset * item;
    // The view must lie inside the storage, whatever the caller computed.
    int64_t lowest = static_cast<char*>(tensor.data) - static_cast<char*>(tensor.storage->data());
    int64_t highest = lowest;
    if (tensor.numel() > 0) {
      for (int32_t dim = 0; dim < tensor.rank; ++dim) {
        const int64_t span = (tensor.shape[dim] - 1) * tensor.strides[dim] * item;
        (span < 0 ? lowest : highest) += span;
      }
      check(lowest >= 0 && highest + item <= storage_bytes(tensor), "a view leaves its storage");
    }
    self.command[0] = self.handles.add(std::move(tensor));
    return nullptr;
  });
}

// from_bytes(bytes: Uint8Array); in: device, dtype, rank, extents...; out: handle.
napi_value from_bytes(napi_env env, napi_callback_info info) {
  Instance& self = *instance(env);
  return guarded(env, [&]() -> napi_value {
    size_t count = 1;
    napi_value argument;
    napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
    const Napi::Uint8Array source(env, argument);
    const double* cursor = self.command;
    Backend& backend = backend_for(*cursor++);
    Tensor tensor = allocate(backend, cursor);
    const size_t bytes = tensor.storage->bytes();
    check(source.ByteLength() == bytes, "the bytes given do not fill the tensor");
    if (bytes > 0) backend.copy_from_host(tensor.data, source.Data(), bytes);
    self.command[0] = self.handles.add(std::move(tensor), static_cast<int64_t>(bytes));
    report_external_memory(env, self, static_cast<int64_t>(bytes));
    return nullptr;
  });
}

const Tensor& tensor_argument(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  double handle = -1;
  napi_get_value_double(env, argument, &handle);
  return instance(env)->handles.get(handle);
}

// to_bytes(handle): ArrayBuffer with the elements of a contiguous tensor.
napi_value to_bytes(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Tensor& tensor = tensor_argument(env, info);
    check(tensor.is_contiguous(), "to_bytes needs a contiguous tensor");
    const size_t bytes = static_cast<size_t>(tensor.numel()) * item_size(tensor.dtype);
    void* data = nullptr;
    napi_value buffer;
    if (napi_create_arraybuffer(env, bytes, &data, &buffer) != napi_ok) {
      throw Error(ErrorCode::kOutOfMemory, "no memory for a copy of the tensor");
    }
    if (bytes > 0) tensor.storage->backend()->copy_to_host(data, tensor.data, bytes);
    return buffer;
  });
}

// item(handle): the first element as a number (int64 beyond 2^53 is rounded).
napi_value item(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Tensor& tensor = tensor_argument(env, info);
    check(tensor.numel() > 0, "item needs an element");
    alignas(8) unsigned char raw[8] = {};
    tensor.storage->backend()->copy_to_host(raw, tensor.data, item_size(tensor.dtype));
    const auto load = [&]<class T>(T value) {
      std::memcpy(&value, raw, sizeof(T));
      return value;
    };
    double value = 0;
    switch (tensor.dtype) {
      case DType::kFloat64:
        value = load(double{});
        break;
      case DType::kFloat32:
        value = load(float{});
        break;
      case DType::kFloat16:
        value = to_float(load(Float16{}));
        break;
      case DType::kBFloat16:
        value = to_float(load(BFloat16{}));
        break;
      case DType::kInt64:
        value = static_cast<double>(load(int64_t{}));
        break;
      case DType::kInt32:
        value = load(int32_t{});
        break;
      case DType::kInt8:
        value = load(int8_t{});
        break;
      case DType::kUInt8:
      case DType::kBool:
        value = load(uint8_t{});
        break;
    }
    napi_value result;
    napi_create_double(env, value, &result);
    return result;
  });
}

napi_value release(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  int32_t handle = -1;
  napi_get_value_int32(env, argument, &handle);
  instance(env)->handles.release(handle);
  return nullptr;
}

void finalize(node_api_basic_env env, void* data, void*) {
  void* self = nullptr;
  napi_get_instance_data(env, &self);
  if (self == nullptr) return;
  static_cast<Instance*>(self)->handles.release_lease(reinterpret_cast<uint64_t>(data));
}

// attach(owner, handle): the handle is released when the collector reclaims `owner`, if not before.
napi_value attach(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2];
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  int32_t handle = -1;
  napi_get_value_int32(env, arguments[1], &handle);
  const uint64_t lease = instance(env)->handles.lease(handle);
  napi_add_finalizer(env, arguments[0], reinterpret_cast<void*>(lease), finalize, nullptr, nullptr);
  return nullptr;
}

// command_buffer(doubles): the shared array, grown to at least that many doubles.
napi_value command_buffer(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    Instance& self = *instance(env);
    const Napi::CallbackInfo arguments(env, info);
    const auto doubles = std::max(
        kInitialCommandDoubles, static_cast<size_t>(arguments[0].As<Napi::Number>().Int64Value()));
    if (doubles > self.command_doubles) {
      Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(env, doubles * sizeof(double));
      self.command_buffer = Napi::Persistent(buffer);
      self.command = static_cast<double*>(buffer.Data());
      self.command_doubles = doubles;
    }
    return self.command_buffer.Value();
  });
}

// in: device; out: allocated, max allocated, reserved, max reserved (bytes), live tensor handles.
napi_value memory_stats(napi_env env, napi_callback_info) {
  Instance& self = *instance(env);
  return guarded(env, [&]() -> napi_value {
    const MemoryStats stats = backend_for(self.command[0]).memory_stats();
    self.command[0] = static_cast<double>(stats.allocated);
    self.command[1] = static_cast<double>(stats.max_allocated);
    self.command[2] = static_cast<double>(stats.reserved);
    self.command[3] = static_cast<double>(stats.max_reserved);
    self.command[4] = static_cast<double>(self.handles.count());
    return nullptr;
  });
}

napi_value reset_peak_memory_stats(napi_env env, napi_callback_info) {
  return guarded(env, [&]() -> napi_value {
    backend_for(instance(env)->command[0]).reset_peak_memory_stats();
    return nullptr;
  });
}

napi_value empty_cache(napi_env env, napi_callback_info) {
  return guarded(env, [&]() -> napi_value {
    backend_for(instance(env)->command[0]).empty_cache();
    return nullptr;
  });
}

napi_value names(Napi::Env env, const char* const* list, int32_t count) {
  Napi::Array array = Napi::Array::New(env, count);
  for (int32_t i = 0; i < count; ++i) array.Set(i, Napi::String::New(env, list[i]));
  return array;
}

napi_value vocabulary(napi_env env, napi_callback_info) {
  return guarded(env, [&]() -> napi_value {
    Napi::Object object = Napi::Object::New(env);
    object.Set("ops", names(env, kOpNames, kOpCount));
    object.Set("unary", names(env, kUnaryNames, kUnaryCount));
    object.Set("unaryGrad", names(env, kUnaryGradNames, kUnaryGradCount));
    object.Set("binary", names(env, kBinaryNames, kBinaryCount));
    object.Set("compare", names(env, kCompareNames, kCompareCount));
    object.Set("isa", Napi::String::New(env, cpu::isa_name(cpu::isa())));
    return object;
  });
}

napi_value set_num_threads(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Napi::CallbackInfo arguments(env, info);
    cpu::set_num_threads(arguments[0].As<Napi::Number>().Int32Value());
    return nullptr;
  });
}

napi_value num_threads(napi_env env, napi_callback_info) {
  return guarded(env, [&]() -> napi_value { return Napi::Number::New(env, cpu::num_threads()); });
}

void export_raw(napi_env env, napi_value exports, const char* name, napi_callback callback) {
  napi_value function;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function);
  napi_set_named_property(env, exports, name, function);
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  napi_set_instance_data(
      env, new Instance,
      [](node_api_basic_env, void* data, void*) { delete static_cast<Instance*>(data); }, nullptr);
  export_raw(env, exports, "run", run);
  export_raw(env, exports, "view", view);
  export_raw(env, exports, "fromBytes", from_bytes);
  export_raw(env, exports, "toBytes", to_bytes);
  export_raw(env, exports, "item", item);
  export_raw(env, exports, "release", release);
  export_raw(env, exports, "attach", attach);
  export_raw(env, exports, "commandBuffer", command_buffer);
  export_raw(env, exports, "memoryStats", memory_stats);
  export_raw(env, exports, "resetPeakMemoryStats", reset_peak_memory_stats);
  export_raw(env, exports, "emptyCache", empty_cache);
  export_raw(env, exports, "vocabulary", vocabulary);
  export_raw(env, exports, "setNumThreads", set_num_threads);
  export_raw(env, exports, "numThreads", num_threads);
  return exports;
}

}  // namespace
}  // namespace mixprec::binding

static Napi::Object initialize_addon(Napi::Env env, Napi::Object exports) {
  return mixprec::binding::initialize(env, exports);
}
NODE_API_MODULE(mixprec, initialize_addon)
