// Devices: which there are, their memory, and waiting for them.
#include <string>

#include "instance.h"

#if defined(MIXPREC_HAS_CUDA)
#include "cuda/cuda_backend.h"
#endif

namespace mixprec::binding {
namespace {

// in: device; out: allocated, max allocated, reserved, max reserved (bytes), live tensor
// handles, waits for the device.
napi_value memory_stats(napi_env env, napi_callback_info) {
  Instance& self = *instance(env);
  return guarded(env, [&]() -> napi_value {
    const Backend& backend = backend_for(self.command[0]);
    const MemoryStats stats = backend.memory_stats();
    self.command[0] = static_cast<double>(stats.allocated);
    self.command[1] = static_cast<double>(stats.max_allocated);
    self.command[2] = static_cast<double>(stats.reserved);
    self.command[3] = static_cast<double>(stats.max_reserved);
    self.command[4] = static_cast<double>(self.handles.count());
    self.command[5] = static_cast<double>(backend.waits());
    return nullptr;
  });
}

napi_value reset_peak_memory_stats(napi_env env, napi_callback_info) {
  return guarded(env, [&]() -> napi_value {
    backend_for(instance(env)->command[0]).reset_peak_memory_stats();
    return nullptr;
  });
}

// in: device. Waits for all its work.
napi_value synchronize(napi_env env, napi_callback_info) {
  return guarded(env, [&]() -> napi_value {
    backend_for(instance(env)->command[0]).synchronize();
    return nullptr;
  });
}

napi_value empty_cache(napi_env env, napi_callback_info) {
  return guarded(env, [&]() -> napi_value {
    backend_for(instance(env)->command[0]).empty_cache();
    return nullptr;
  });
}

// cuda_devices(): how the build and the machine stand to CUDA, and the facts of each device.
napi_value cuda_devices(napi_env raw_env, napi_callback_info) {
  return guarded(raw_env, [&]() -> napi_value {
    const Napi::Env env(raw_env);
    Napi::Object result = Napi::Object::New(env);
    Napi::Array devices = Napi::Array::New(env);
    std::string build = "none";
    std::string reason = "this build has no CUDA backend";
#if defined(MIXPREC_HAS_CUDA)
    build = cuda::api::is_emulated() ? "emulated" : "cuda";
    const int count = cuda::device_count(&reason);
    for (int i = 0; i < count; ++i) {
      cuda::api::DeviceProperties properties;
      if (cuda::api::device_properties(i, &properties) != cuda::api::kSuccess) continue;
      Napi::Object device = Napi::Object::New(env);
      device.Set("name", Napi::String::New(env, properties.name));
      device.Set("major", Napi::Number::New(env, properties.major));
      device.Set("minor", Napi::Number::New(env, properties.minor));
      device.Set("totalMemory",
                 Napi::Number::New(env, static_cast<double>(properties.total_memory)));
      device.Set("multiProcessorCount", Napi::Number::New(env, properties.multiprocessors));
      devices.Set(static_cast<uint32_t>(i), device);
    }
#endif
    result.Set("build", Napi::String::New(env, build));
    result.Set("reason", Napi::String::New(env, reason));
    result.Set("devices", devices);
    return result;
  });
}

}  // namespace

void export_devices(napi_env env, napi_value exports) {
  export_raw(env, exports, "memoryStats", memory_stats);
  export_raw(env, exports, "resetPeakMemoryStats", reset_peak_memory_stats);
  export_raw(env, exports, "emptyCache", empty_cache);
  export_raw(env, exports, "synchronize", synchronize);
  export_raw(env, exports, "cudaDevices", cuda_devices);
}

}  // namespace mixprec::binding
