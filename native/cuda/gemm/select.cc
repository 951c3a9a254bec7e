// The model of a product's time: whole waves of tiles, each as fast as the slowest of what it needs
// (multiplying, the cache, the memory), plus launches and what surrounds the product. It has to
// order kernels, not to foretell microseconds; docs/kernels.md compares it with measurements.
#include "select.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace mixprec::cuda {
namespace {

constexpr double kLaunchSeconds = 2.5e-6;
// Of the second-level cache, by each multiprocessor in a clock.
constexpr double kCacheBytesPerClock = 40;
// Of the memory's bandwidth that a kernel gets.
constexpr double kMemoryShare = 0.9;
constexpr double kUnknownClock = 1.5e9;
constexpr double kUnknownBandwidth = 1e12;
// Operands narrower than this may be worth taking the other way round.
constexpr int64_t kMostSwappedRows = 16;
// A share of K has at least this many steps of the loop.
constexpr int64_t kFewestSteps = 4;
constexpr int32_t kSplits[] = {1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32};

constexpr int64_t ceil_div(int64_t value, int64_t unit) { return (value + unit - 1) / unit; }

double clock_of(const api::DeviceProperties& device) {
  return device.clock_hz > 0 ? device.clock_hz : kUnknownClock;
}
double bandwidth_of(const api::DeviceProperties& device) {
  return kMemoryShare *
         (device.memory_bytes_per_second > 0 ? device.memory_bytes_per_second : kUnknownBandwidth);
}

double bytes_of(DType dtype, double elements) {
  return elements * static_cast<double>(item_size(dtype));
}

// Of an operand, counted once where it is broadcast.
double operand_bytes(const GemmOperand& operand, int64_t rows, int64_t cols, const GemmDesc& desc) {
  const double batch = operand.batch_stride == 0 ? 1 : static_cast<double>(desc.batch);
  const double outer = operand.outer_stride == 0 ? 1 : static_cast<double>(desc.outer);
  return bytes_of(operand.dtype, static_cast<double>(rows) * static_cast<double>(cols)) * batch *
         outer;
}

double out_elements(const GemmDesc& desc) {
  return static_cast<double>(desc.M) * static_cast<double>(desc.N) *
         static_cast<double>(desc.batch) * static_cast<double>(desc.outer);
}

// Operands and output, and what the epilogue reads and writes, once each.
double memory_bytes(const GemmDesc& desc) {
  const GemmEpilogue& epilogue = desc.epilogue;
  const int tensors = 1 + (desc.beta != 0) + (epilogue.aux != nullptr) +
                      (epilogue.multiplier != nullptr) + (epilogue.residual != nullptr);
  return operand_bytes(desc.lhs, desc.M, desc.K, desc) +
         operand_bytes(desc.rhs, desc.K, desc.N, desc) +
         tensors * bytes_of(desc.out_dtype, out_elements(desc));
}

double flops_of(const GemmDesc& desc) {
  return 2 * out_elements(desc) * static_cast<double>(desc.K);
}

// Sums of all shares of K, written and read again.
double sums_seconds(const GemmDesc& desc, int32_t splits, const api::DeviceProperties& device) {
  const double item = desc.out_dtype == DType::kFloat64 || desc.out_dtype == DType::kInt64 ? 8 : 4;
  const double bytes = 2 * item * splits * out_elements(desc);
  const double cache =
      kCacheBytesPerClock * clock_of(device) * static_cast<double>(device.multiprocessors);
  const bool stays = bytes < static_cast<double>(device.l2_bytes);
  return bytes / (stays ? std::max(cache, bandwidth_of(device)) : bandwidth_of(device));
}

}  // namespace

const char* family_name(GemmFamily family) {
  switch (family) {
    case GemmFamily::kSimt:
      return "simt";
    case GemmFamily::kGemv:
      return "gemv";
    case GemmFamily::kMmaSm80:
      return "mma_sm80";
    case GemmFamily::kWgmmaSm90:
      return "wgmma_sm90";
  }
  return "";
}

GemmRates gemm_rates(const GemmDesc& desc, const api::DeviceProperties& device) {
  const int capability = device.major * 10 + device.minor;
  const bool server = capability == 80 || capability == 90 || capability == 100;
  GemmRates rates{};
  if (!is_floating(desc.out_dtype)) {
    rates.simt = 16;  // 64-bit multiplications are made of four
  } else if (desc.out_dtype == DType::kFloat64) {
    rates.simt = !server ? 4 : (capability == 80 ? 64 : 128);
  } else {
    rates.simt = capability == 80 ? 128 : 256;
  }
  // Of 16-bit floats with float32 sums.
  const double half = capability < 80 ? 0 : (!server ? 512 : (capability == 80 ? 2048 : 2540));
  const double wide = capability == 90 ? 4096 : 0;
  double scale = 1;
  if (desc.lhs.dtype == DType::kFloat64) {
    rates.mma = !server ? 0 : (capability == 80 ? 128 : 256);
    return rates;
  }
  if (desc.lhs.dtype == DType::kFloat32) {
    // Six products of planes, or one of half the rate; rounded to bfloat16 it is a copy's.
    scale = desc.precision == MatmulPrecision::kHighest ? 1.0 / 6 : 0.5;
    rates.wgmma = wide * (desc.precision == MatmulPrecision::kMedium ? 1 : scale);
  } else {
    if (!is_floating(desc.lhs.dtype)) scale = item_size(desc.lhs.dtype) == 1 ? 2 : 0;
    rates.wgmma = wide * scale;
  }
  rates.mma = half * scale;
  return rates;
}

GemmEstimate estimate(const GemmDesc& given, const GemmTile& tile, const GemmConfig& config,
                      const api::DeviceProperties& device) {
  const GemmDesc desc = config.swapped ? swapped(given) : given;
  const double clock = clock_of(device);
  const double bandwidth = bandwidth_of(device);
  const int64_t processors = std::max(1, device.multiprocessors);
  GemmEstimate result;
  result.memory = memory_bytes(desc) / bandwidth;
  result.extra = kLaunchSeconds;
  if (tile.copied_bytes > 0) {
    result.extra += kLaunchSeconds + static_cast<double>(tile.copied_bytes) / bandwidth;
  }
  if (config.splits > 1) result.extra += kLaunchSeconds + sums_seconds(desc, config.splits, device);
  if (config.swapped) result.extra += kLaunchSeconds + sums_seconds(desc, 1, device);
  if (tile.m == 0) {
    result.compute =
        flops_of(desc) / (tile.flops_per_clock * clock * static_cast<double>(processors));
    result.blocks = processors;
    result.waves = 1;
    result.seconds = std::max(result.compute, result.memory) + result.extra;
    return result;
  }
  const int64_t down = ceil_div(ceil_div(desc.M, tile.m), tile.cluster) * tile.cluster;
  const int64_t tiles = down * ceil_div(desc.N, tile.n) * desc.batch * desc.outer;
  result.blocks = tiles * config.splits;
  const int64_t at_once = std::max<int64_t>(tile.cluster, processors / tile.cluster * tile.cluster);
  result.waves = static_cast<double>(result.blocks) / static_cast<double>(at_once * tile.resident);
  // Blocks of a multiprocessor share its units, but hide what surrounds each other's loops.
  const int64_t in_turn = ceil_div(result.blocks, at_once);
  const int64_t steps = ceil_div(ceil_div(desc.K, tile.depth), config.splits);
  const double block_flops = 2.0 * tile.m * tile.n * tile.depth * static_cast<double>(steps);
  const double turn = block_flops / (tile.flops_per_clock * clock);
  result.compute = static_cast<double>(in_turn) * turn +
                   static_cast<double>(ceil_div(in_turn, tile.resident)) * tile.start_seconds;
  const double strip = (tile.m + static_cast<double>(tile.n) / tile.cluster) * tile.depth;
  const double read = bytes_of(desc.lhs.dtype, strip) * static_cast<double>(steps * result.blocks);
  result.cache = read / (kCacheBytesPerClock * clock * static_cast<double>(processors));
  result.seconds = std::max({result.compute, result.memory, result.cache}) + result.extra;
  return result;
}

std::vector<GemmRanked> rank(const GemmDesc& desc, const std::vector<GemmTile>& tiles,
                             const api::DeviceProperties& device) {
  std::vector<GemmRanked> ranked;
  ranked.reserve(tiles.size());
  for (const GemmTile& tile : tiles) {
    GemmRanked best;
    best.tile = tile;
    bool found = false;
    const bool may_swap =
        tile.can_swap && tile.m != tile.n && std::min(desc.M, desc.N) <= kMostSwappedRows;
    for (int turned = 0; turned <= (may_swap ? 1 : 0); ++turned) {
      for (const int32_t splits : kSplits) {
        if (splits > 1 &&
            (splits > tile.max_splits || desc.K < int64_t{splits} * kFewestSteps * tile.depth)) {
          break;
        }
        const GemmConfig config{tile.family, tile.variant, splits, turned != 0};
        const GemmEstimate time = estimate(desc, tile, config, device);
        if (found && time.seconds >= best.estimate.seconds) continue;
        best.config = config;
        best.estimate = time;
        found = true;
      }
    }
    ranked.push_back(best);
  }
  std::stable_sort(ranked.begin(), ranked.end(), [](const GemmRanked& a, const GemmRanked& b) {
    return a.estimate.seconds < b.estimate.seconds;
  });
  return ranked;
}

double peak_flops(const GemmDesc& desc, const api::DeviceProperties& device) {
  const GemmRates rates = gemm_rates(desc, device);
  return std::max({rates.simt, rates.mma, rates.wgmma}) * clock_of(device) *
         std::max(1, device.multiprocessors);
}

GemmDesc swapped(const GemmDesc& desc) {
  GemmDesc turned = desc;
  std::swap(turned.M, turned.N);
  std::swap(turned.lhs, turned.rhs);
  std::swap(turned.lhs.row_stride, turned.lhs.col_stride);
  std::swap(turned.rhs.row_stride, turned.rhs.col_stride);
  return turned;
}

}  // namespace mixprec::cuda
