// Launching kernels. `launch<kernel>(config, arguments...)` is what the triple brackets are in
// CUDA, in a form that the host compiler takes too; arguments are converted to the kernel's
// parameters.
#pragma once

#include <string_view>
#include <type_traits>
#include <utility>

#include "api.h"

#if defined(MIXPREC_CUDA_EMULATED)
#include "cuda/emulator/launch.h"
#endif

namespace mixprec::cuda {

struct LaunchConfig {
  api::Stream stream = nullptr;
  Dim3 grid;
  Dim3 block;
  size_t shared_bytes = 0;  // dynamic shared memory
  Dim3 cluster;             // blocks that share their shared memory; sm_90 on
};

// Throws DeviceError unless `code` is a success; `kernel` is the text of kernel_name().
void check_launch(api::Code code, std::string_view kernel);

namespace api {
Code launch_kernel(const LaunchConfig& config, const void* function, void** arguments);
}

namespace launch_detail {

// The compiler's spelling of this function holds the kernel's name.
template <auto kernel>
constexpr std::string_view kernel_name() {
  constexpr std::string_view text = __PRETTY_FUNCTION__;
  constexpr size_t begin = text.find("kernel = ") + 9;
  constexpr size_t end = text.find_first_of(";]", begin);
  return text.substr(begin, end - begin);
}

template <auto kernel, class... Parameters>
void launch_as(void (*)(Parameters...), const LaunchConfig& config,
               std::type_identity_t<Parameters>... arguments) {
#if defined(MIXPREC_CUDA_EMULATED)
  const api::Code code = emulator::enqueue<kernel>(config, kernel_name<kernel>(), arguments...);
#else
  void* addresses[] = {&arguments..., nullptr};
  const api::Code code =
      api::launch_kernel(config, reinterpret_cast<const void*>(kernel), addresses);
#endif
  check_launch(code, kernel_name<kernel>());
}

}  // namespace launch_detail

template <auto kernel, class... Arguments>
void launch(const LaunchConfig& config, Arguments&&... arguments) {
  launch_detail::launch_as<kernel>(kernel, config, std::forward<Arguments>(arguments)...);
}

}  // namespace mixprec::cuda
