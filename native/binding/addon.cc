// The whole boundary between JavaScript and C++. Generic: it moves handles, shapes and numbers, and
// knows no op by name, so adding one does not touch it.
//
// Arguments travel in a command buffer, an array of doubles that both sides hold (a call that
// passes nothing costs a third of one that passes four numbers). Layout of a run:
//   in:  op, inputs, outputs, attributes (three counts), device, input handles...,
//        per output: dtype, rank, extents...; attributes...
//   out: output handles...
#include <algorithm>

#include "core/pointwise_kinds.h"
#include "cpu/isa.h"
#include "cpu/thread_pool.h"
#include "instance.h"

namespace mixprec::binding {
namespace {

constexpr size_t kInitialCommandDoubles = 1 << 14;

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

// As run, with each input as its handle (-1: one without memory), dtype, rank, extents, strides;
// returns what the backend says of such a call, which is not made.
napi_value explain(napi_env env, napi_callback_info) {
  Instance& self = *instance(env);
  return guarded(env, [&]() -> napi_value {
    const double* cursor = self.command;
    OpCall call;
    call.name = op_name(static_cast<int32_t>(cursor[0]));
    call.num_inputs = static_cast<int32_t>(cursor[1]);
    call.num_outputs = static_cast<int32_t>(cursor[2]);
    call.num_attrs = static_cast<int32_t>(cursor[3]);
    Backend& backend = backend_for(cursor[4]);
    cursor += 5;
    const CallTensors tensors(self);
    for (int32_t i = 0; i < call.num_inputs; ++i) {
      const double handle = *cursor++;
      Tensor tensor = describe(cursor);
      for (int32_t dim = 0; dim < tensor.rank; ++dim) {
        tensor.strides[dim] = static_cast<int64_t>(*cursor++);
      }
      self.inputs.push_back(handle < 0 ? std::move(tensor) : self.handles.get(handle));
    }
    for (int32_t i = 0; i < call.num_outputs; ++i) self.outputs.push_back(describe(cursor));
    call.inputs = self.inputs.data();
    call.outputs = self.outputs.data();
    call.attrs = cursor;
    return Napi::String::New(env, backend.explain(call));
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

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  napi_set_instance_data(
      env, new Instance,
      [](node_api_basic_env, void* data, void*) { delete static_cast<Instance*>(data); }, nullptr);
  export_raw(env, exports, "run", run);
  export_raw(env, exports, "explain", explain);
  export_raw(env, exports, "view", view);
  export_elements(env, exports);
  export_devices(env, exports);
  export_graphs(env, exports);
  export_raw(env, exports, "release", release);
  export_raw(env, exports, "attach", attach);
  export_raw(env, exports, "commandBuffer", command_buffer);
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
