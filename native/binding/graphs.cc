// Graphs of queued work of a CUDA device: captured once, replayed with one launch.
#include "instance.h"

#if defined(MIXPREC_HAS_CUDA)
#include "cuda/cuda_backend.h"
#endif

namespace mixprec::binding {

#if defined(MIXPREC_HAS_CUDA)

namespace {

// What JavaScript holds of a graph, as an external object.
struct OwnedGraph {
  int device = 0;
  cuda::CapturedGraph graph;

  void destroy() noexcept {
    if (graph.handle == nullptr) return;
    cuda::backend(device).destroy_graph(graph);
    graph.handle = nullptr;
  }
};

OwnedGraph& graph_argument(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument = nullptr;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  void* data = nullptr;
  check(count == 1 && napi_get_value_external(env, argument, &data) == napi_ok,
        "a graph was expected");
  return *static_cast<OwnedGraph*>(data);
}

int device_argument(napi_env env) { return static_cast<int>(instance(env)->command[0]); }

// in: device. From here on what this thread queues is captured.
napi_value begin_capture(napi_env env, napi_callback_info) {
  return guarded(env, [&]() -> napi_value {
    cuda::backend(device_argument(env)).begin_capture();
    return nullptr;
  });
}

// in: device. Returns the graph.
napi_value end_capture(napi_env env, napi_callback_info) {
  return guarded(env, [&]() -> napi_value {
    auto owned = std::make_unique<OwnedGraph>();
    owned->device = device_argument(env);
    owned->graph = cuda::backend(owned->device).end_capture();
    napi_value external = nullptr;
    const auto finalize = [](node_api_basic_env, void* data, void*) {
      auto* const graph = static_cast<OwnedGraph*>(data);
      graph->destroy();
      delete graph;
    };
    napi_create_external(env, owned.release(), finalize, nullptr, &external);
    return external;
  });
}

// in: device. Ends the capture without a graph.
napi_value abandon_capture(napi_env env, napi_callback_info) {
  return guarded(env, [&]() -> napi_value {
    cuda::backend(device_argument(env)).abandon_capture();
    return nullptr;
  });
}

napi_value replay_graph(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const OwnedGraph& owned = graph_argument(env, info);
    check(owned.graph.handle != nullptr, "the graph was disposed");
    cuda::backend(owned.device).launch_graph(owned.graph);
    return nullptr;
  });
}

napi_value destroy_graph(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    graph_argument(env, info).destroy();
    return nullptr;
  });
}

}  // namespace

void export_graphs(napi_env env, napi_value exports) {
  export_raw(env, exports, "beginCapture", begin_capture);
  export_raw(env, exports, "endCapture", end_capture);
  export_raw(env, exports, "abandonCapture", abandon_capture);
  export_raw(env, exports, "replayGraph", replay_graph);
  export_raw(env, exports, "destroyGraph", destroy_graph);
}

#else

void export_graphs(napi_env, napi_value) {}  // there are no devices that could have one

#endif

}  // namespace mixprec::binding
