// Elements on their way between JavaScript and tensors, and between devices.
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "cpu/cpu_backend.h"
#include "instance.h"

namespace mixprec::binding {
namespace {

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

// An ArrayBuffer and where its bytes are. napi_create_arraybuffer ends the process where there is
// no memory for one; the constructor throws.
napi_value new_array_buffer(napi_env env, size_t bytes, void** data) {
  napi_value global, constructor, length, buffer;
  napi_get_global(env, &global);
  napi_get_named_property(env, global, "ArrayBuffer", &constructor);
  napi_create_double(env, static_cast<double>(bytes), &length);
  if (napi_new_instance(env, constructor, 1, &length, &buffer) != napi_ok) {
    napi_value error;
    napi_get_and_clear_last_exception(env, &error);
    throw Error(ErrorCode::kOutOfMemory,
                "out of memory on the host: there is no room for a copy of the tensor's " +
                    std::to_string(bytes) + " bytes");
  }
  size_t length_of_buffer = 0;
  napi_get_arraybuffer_info(env, buffer, data, &length_of_buffer);
  return buffer;
}

// to_bytes(handle): ArrayBuffer with the elements of a contiguous tensor.
napi_value to_bytes(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Tensor& tensor = tensor_argument(env, info);
    check(tensor.is_contiguous(), "to_bytes needs a contiguous tensor");
    const size_t bytes = static_cast<size_t>(tensor.numel()) * item_size(tensor.dtype);
    void* data = nullptr;
    const napi_value buffer = new_array_buffer(env, bytes, &data);
    if (bytes > 0) tensor.storage->backend()->copy_to_host(data, tensor.data, bytes);
    return buffer;
  });
}

// A copy to the host that a thread of libuv's pool waits for.
struct PendingBytes {
  napi_deferred deferred = nullptr;
  napi_ref buffer = nullptr;
  napi_async_work work = nullptr;
  Backend* backend = nullptr;
  std::unique_ptr<HostCopy> copy;
  std::exception_ptr failure;
};

// The error that guarded() would throw, as a value.
napi_value error_value(napi_env env, const std::exception_ptr& failure) {
  guarded(env, [&]() -> napi_value { std::rethrow_exception(failure); });
  napi_value error;
  napi_get_and_clear_last_exception(env, &error);
  return error;
}

void wait_for_bytes(napi_env, void* data) {
  auto& pending = *static_cast<PendingBytes*>(data);
  try {
    pending.copy->wait();
  } catch (...) {
    pending.failure = std::current_exception();
  }
}

void settle_bytes(napi_env env, napi_status, void* data) {
  const std::unique_ptr<PendingBytes> pending(static_cast<PendingBytes*>(data));
  napi_value buffer;
  napi_get_reference_value(env, pending->buffer, &buffer);
  try {
    if (pending->failure == nullptr) pending->backend->raise_pending();
  } catch (...) {
    pending->failure = std::current_exception();
  }
  if (pending->failure == nullptr) {
    napi_resolve_deferred(env, pending->deferred, buffer);
  } else {
    napi_reject_deferred(env, pending->deferred, error_value(env, pending->failure));
  }
  napi_delete_reference(env, pending->buffer);
  napi_delete_async_work(env, pending->work);
}

// to_bytes_async(handle): promise of what to_bytes gives; the elements are those of now.
napi_value to_bytes_async(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Tensor& tensor = tensor_argument(env, info);
    check(tensor.is_contiguous(), "to_bytes needs a contiguous tensor");
    const size_t bytes = static_cast<size_t>(tensor.numel()) * item_size(tensor.dtype);
    void* data = nullptr;
    const napi_value buffer = new_array_buffer(env, bytes, &data);
    auto pending = std::make_unique<PendingBytes>();
    pending->backend = tensor.storage->backend();
    if (bytes > 0) pending->copy = pending->backend->start_copy_to_host(data, tensor.data, bytes);
    napi_value promise;
    napi_create_promise(env, &pending->deferred, &promise);
    if (pending->copy == nullptr) {
      napi_resolve_deferred(env, pending->deferred, buffer);
      return promise;
    }
    napi_value name;
    napi_create_string_utf8(env, "mixprec.data", NAPI_AUTO_LENGTH, &name);
    napi_create_reference(env, buffer, 1, &pending->buffer);
    napi_create_async_work(env, nullptr, name, wait_for_bytes, settle_bytes, pending.get(),
                           &pending->work);
    napi_queue_async_work(env, pending->work);
    pending.release();
    return promise;
  });
}

// in: handle of a contiguous tensor, device; out: handle of a copy there.
napi_value to_device(napi_env env, napi_callback_info) {
  Instance& self = *instance(env);
  return guarded(env, [&]() -> napi_value {
    const Tensor source = self.handles.get(self.command[0]);
    check(source.is_contiguous(), "to_device needs a contiguous tensor");
    Backend& target = backend_for(self.command[1]);
    Backend& origin = *source.storage->backend();
    const size_t bytes = static_cast<size_t>(source.numel()) * item_size(source.dtype);
    Tensor copy = source;
    copy.storage = StorageRef(new Storage(&target, target.allocate(bytes), bytes));
    copy.data = copy.storage->data();
    if (bytes > 0) {
      if (&origin == &cpu::backend()) {
        target.copy_from_host(copy.data, source.data, bytes);
      } else if (&target == &cpu::backend()) {
        origin.copy_to_host(copy.data, source.data, bytes);
      } else {
        std::vector<char> host(bytes);
        origin.copy_to_host(host.data(), source.data, bytes);
        target.copy_from_host(copy.data, host.data(), bytes);
      }
    }
    self.command[0] = self.handles.add(std::move(copy), static_cast<int64_t>(bytes));
    report_external_memory(env, self, static_cast<int64_t>(bytes));
    return nullptr;
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

}  // namespace

void export_elements(napi_env env, napi_value exports) {
  export_raw(env, exports, "fromBytes", from_bytes);
  export_raw(env, exports, "toBytes", to_bytes);
  export_raw(env, exports, "toBytesAsync", to_bytes_async);
  export_raw(env, exports, "toDevice", to_device);
  export_raw(env, exports, "item", item);
}

}  // namespace mixprec::binding
