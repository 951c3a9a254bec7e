// Codes of the device API as exceptions that say what to do.
#pragma once

#include <string>

#include "api.h"
#include "core/errors.h"

namespace mixprec::cuda {

// Whether the code means that there is no usable GPU, which is no error by itself.
constexpr bool means_no_device(api::Code code) {
  return code == api::kInsufficientDriver || code == api::kNoDevice;
}

// Throws DeviceError with what is known of the failure; `doing` says what was tried.
[[noreturn]] void throw_device_error(api::Code code, const std::string& doing);

inline void require(api::Code code, const char* doing) {
  if (code != api::kSuccess) [[unlikely]]
    throw_device_error(code, doing);
}

// MIXPREC_LAUNCH_BLOCKING=1: every op waits for its kernels, so that an error names the op that
// caused it.
bool launches_block();

}  // namespace mixprec::cuda
