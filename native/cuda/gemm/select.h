// Which kernel makes a product, and how: decided from the description and the facts of the device
// alone, on the host. Every kernel that can make it is a row of what the families offer; a model of
// its time (select.cc) puts the rows in order.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/gemm_desc.h"
#include "cuda/runtime/api.h"

namespace mixprec::cuda {

enum class GemmFamily : int32_t { kSimt, kGemv, kMmaSm80, kWgmmaSm90 };
inline constexpr int32_t kGemmFamilyCount = 4;

const char* family_name(GemmFamily family);

struct GemmConfig {
  GemmFamily family = GemmFamily::kSimt;
  int32_t variant = 0;  // a row of the family's table of tiles
  // Shares of K that are summed apart into scratch memory, and added up in order afterwards.
  int32_t splits = 1;
  // Whether the kernel makes the transpose, rhs^T lhs^T, which is turned when it is finished.
  bool swapped = false;
};

// A kernel as the choice sees it.
struct GemmTile {
  GemmFamily family = GemmFamily::kSimt;
  int32_t variant = 0;
  int32_t m = 0, n = 0;  // of the output; 0 for a kernel that reads the operands once, in any order
  int32_t depth = 1;     // of K at a time; shares of K are multiples of it
  int32_t cluster = 1;   // blocks, one below the other, that share what they load of rhs
  int32_t resident = 1;  // blocks of a multiprocessor at a time
  int32_t max_splits = 1;
  bool can_swap = false;
  double flops_per_clock = 0;  // of a multiprocessor while it multiplies: 2 a multiply-add
  double start_seconds = 0;    // of a tile before and after its loop over K, where nothing hides it
  int64_t copied_bytes = 0;    // read and written beforehand, to convert operands
};

// A kernel, or a whole family (variant -1), that does not take a product, and why.
struct GemmRejection {
  GemmFamily family;
  int32_t variant;
  std::string reason;
};

// What the families say to a product.
struct GemmOffer {
  std::vector<GemmTile> tiles;
  std::vector<GemmRejection> rejections;
};

// What a multiprocessor does in a clock at the most, in operations (2 a multiply-add), with such
// operands and sums: on the general units and on the tensor cores. 0 where it has none.
struct GemmRates {
  double simt;
  double mma;    // by mma.sync
  double wgmma;  // by wgmma
};
GemmRates gemm_rates(const GemmDesc& desc, const api::DeviceProperties& device);

// Times in seconds. The sum is less than the parts where they overlap.
struct GemmEstimate {
  double seconds = 0;
  double compute = 0;
  double memory = 0;  // operands and output, once each
  double cache = 0;   // operands, as often as tiles read them, from the second-level cache
  double extra = 0;   // launches, conversions, adding up shares of K
  int64_t blocks = 0;
  double waves = 0;  // blocks by how many run at a time
};

GemmEstimate estimate(const GemmDesc& desc, const GemmTile& tile, const GemmConfig& config,
                      const api::DeviceProperties& device);

struct GemmRanked {
  GemmConfig config;
  GemmTile tile;
  GemmEstimate estimate;
};

// Every tile in the best way to use it, the fastest first.
std::vector<GemmRanked> rank(const GemmDesc& desc, const std::vector<GemmTile>& tiles,
                             const api::DeviceProperties& device);

// The best speed that the device could have for the product, in operations a second.
double peak_flops(const GemmDesc& desc, const api::DeviceProperties& device);

// rhs^T lhs^T: the transpose of the product. `out` and what lies as it does are not turned.
GemmDesc swapped(const GemmDesc& desc);

}  // namespace mixprec::cuda
