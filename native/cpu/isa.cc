// Run-time detection of instruction-set extensions, lowered by MIXPREC_CPU_ISA.
#include "cpu/isa.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

#include "core/errors.h"

namespace mixprec::cpu {
namespace {

Isa processor_isa() {
#if MIXPREC_X86
  // kAvx512 is what a *_avx512.cc file is compiled for: F, BW, DQ and VL.
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  if (!avx2) return Isa::kPortable;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return avx512 ? Isa::kAvx512 : Isa::kAvx2;
#else
  return Isa::kPortable;
#endif
}

Isa requested_isa() {
  const char* name = std::getenv("MIXPREC_CPU_ISA");
  if (name == nullptr || *name == '\0') return Isa::kAvx512;
  for (const Isa level : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (std::strcmp(name, isa_name(level)) == 0) return level;
  }
  throw Error(
      ErrorCode::kArgument,
      std::string("MIXPREC_CPU_ISA — expected portable, avx2 or avx512, got \"") + name + "\"");
}

}  // namespace

Isa isa() {
  static const Isa level = std::min(processor_isa(), requested_isa());
  return level;
}

const char* isa_name(Isa level) {
  constexpr const char* kNames[] = {"portable", "avx2", "avx512"};
  return kNames[static_cast<int>(level)];
}

}  // namespace mixprec::cpu
