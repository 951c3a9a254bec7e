#include "error.h"

#include <cstdlib>
#include <cstring>

#include "launch.h"

namespace mixprec::cuda {
namespace {

// Whether the error stays with the process: the device can do no more work for it.
bool is_sticky(api::Code code) {
  return code >= api::kIllegalAddress && code <= api::kLaunchFailure;
}

}  // namespace

bool launches_block() {
  static const bool blocks = [] {
    const char* text = std::getenv("MIXPREC_LAUNCH_BLOCKING");
    return text != nullptr && std::strcmp(text, "1") == 0;
  }();
  return blocks;
}

void throw_device_error(api::Code code, const std::string& doing) {
  std::string message = doing + " failed: " + api::error_text(code) + " (" + api::error_name(code) +
                        ", " + std::to_string(code) + ")";
  if (code == api::kInsufficientDriver) {
    message += "; install a driver of NVIDIA that is as new as this build's CUDA, or use \"cpu\"";
  } else if (is_sticky(code)) {
    if (!launches_block()) {
      message +=
          "; a kernel queued earlier may be the cause, MIXPREC_LAUNCH_BLOCKING=1 in the "
          "environment "
          "makes the error name it";
    }
    message += "; the device can do no more work for this process, restart it";
  }
  throw Error(ErrorCode::kDevice, message);
}

void check_launch(api::Code code, std::string_view kernel) {
  if (code == api::kSuccess) [[likely]]
    return;
  throw_device_error(code, "launching " + std::string(kernel));
}

}  // namespace mixprec::cuda
