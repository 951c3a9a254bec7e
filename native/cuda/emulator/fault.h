// What the emulator reports. A fault ends its launch and leaves the device in the error state that
// the same mistake would leave on a GPU.
#pragma once

#include <cstdint>
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
// Another order of threads and copies, as by MIXPREC_EMULATOR_SEED, for the kernels that begin from
// now on.
void set_seed(uint32_t seed);

}  // namespace mixprec::cuda::emulator
