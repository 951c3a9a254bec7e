// What the functions of the addon share: the state of an environment (main thread or worker), the
// command buffer in it, and how errors cross the boundary.
//
// NAPI_EXPERIMENTAL makes finalizers run inside the garbage collection itself, so that a training
// loop which never yields to the event loop still gives memory back (NODE-API "basic finalizers").
#define NAPI_EXPERIMENTAL
#define NODE_API_EXPERIMENTAL_NO_WARNING
#pragma once

#include <napi.h>

#include <cstdint>
#include <vector>

#include "core/backend.h"
#include "handle_table.h"

namespace mixprec::binding {

struct Instance {
  HandleTable handles;
  Napi::Reference<Napi::ArrayBuffer> command_buffer;
  double* command = nullptr;
  size_t command_doubles = 0;
  int64_t unreported_bytes = 0;
  std::vector<Tensor> inputs;
  std::vector<Tensor> outputs;
};

Instance* instance(napi_env env);

// The backend of a device: -1 is the CPU, else a CUDA ordinal. Throws DeviceError where there is
// none.
Backend& backend_for(double device);

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
void report_external_memory(napi_env env, Instance& self, int64_t bytes);

int64_t storage_bytes(const Tensor& tensor);

// A new tensor as the command buffer describes it at the cursor: dtype, rank, extents...
Tensor allocate(Backend& backend, const double*& cursor);

// The tensor whose handle is the first argument.
const Tensor& tensor_argument(napi_env env, napi_callback_info info);

void export_raw(napi_env env, napi_value exports, const char* name, napi_callback callback);

// Functions that move elements (elements.cc), those about devices (devices.cc) and those about
// graphs of queued work (graphs.cc).
void export_elements(napi_env env, napi_value exports);
void export_devices(napi_env env, napi_value exports);
void export_graphs(napi_env env, napi_value exports);

}  // namespace mixprec::binding
