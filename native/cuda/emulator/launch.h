// How a kernel becomes work of an emulated stream: its arguments are kept, and every thread of the
// grid calls it with them.
#pragma once

#include <string_view>
#include <tuple>
#include <type_traits>

#include "cuda/runtime/api.h"

namespace mixprec::cuda {

struct LaunchConfig;

namespace emulator {

// A kernel with its arguments; `body` is called once for each thread.
struct BoundKernel {
  std::string_view name;
  void (*body)(const void* arguments) = nullptr;
  void (*destroy)(void* arguments) = nullptr;
  void* arguments = nullptr;  // owned
  size_t argument_bytes = 0;
};

// Queues the kernel, or runs it where MIXPREC_LAUNCH_BLOCKING is 1. Takes over the arguments.
api::Code submit(const LaunchConfig& config, const BoundKernel& kernel);

template <auto kernel, class... Parameters>
api::Code enqueue(const LaunchConfig& config, std::string_view name,
                  const Parameters&... arguments) {
  using Bound = std::tuple<std::decay_t<Parameters>...>;
  BoundKernel bound;
  bound.name = name;
  bound.body = [](const void* tuple) { std::apply(kernel, *static_cast<const Bound*>(tuple)); };
  bound.destroy = [](void* tuple) { delete static_cast<Bound*>(tuple); };
  bound.arguments = new Bound(arguments...);
  bound.argument_bytes = sizeof(Bound);
  return submit(config, bound);
}

}  // namespace emulator
}  // namespace mixprec::cuda
