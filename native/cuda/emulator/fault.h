// What the emulator reports. A fault ends its launch and leaves the device in the error state that
// the same mistake would leave on a GPU.
#pragma once

#include <string>

#include "cuda/runtime/api.h"

namespace mixprec::cuda::emulator {

// Ends the running kernel with `text` as the report, to which kernel, block and thread are added.
// Called by a thread of a kernel only.
[[noreturn]] void fault(api::Code code, std::string text);

// The report of the fault that the device died of; empty if it lives.
std::string last_report();
// Brings the device back to life, which no real device can do: for tests that plant faults.
void revive();

}  // namespace mixprec::cuda::emulator
