// Which instruction-set extensions the CPU kernels may use in this process.
#pragma once

namespace mixprec::cpu {

// Ordered: each level includes the ones before it.
enum class Isa { kPortable, kAvx2, kAvx512 };

// The best level of this processor; the environment variable MIXPREC_CPU_ISA (portable, avx2 or
// avx512) lowers it, never raises it; another value is an ArgumentError. Decided once per process.
Isa isa();

const char* isa_name(Isa level);

}  // namespace mixprec::cpu
