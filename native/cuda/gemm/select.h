// Which kernel makes a product, and how: decided from the description alone, on the host.
#pragma once

#include <cstdint>

#include "core/gemm_desc.h"

namespace mixprec::cuda {

enum class GemmFamily : int32_t { kSimt, kGemv, kMmaSm80, kWgmmaSm90 };

struct GemmConfig {
  GemmFamily family = GemmFamily::kSimt;
  int32_t variant = 0;  // a row of the family's table of tiles
  // Shares of K that are summed apart into scratch memory, and added up in order afterwards.
  int32_t splits = 1;
};

}  // namespace mixprec::cuda
