// From a row of kWgmmaTiles to the instance of the kernel, and its launch.
#pragma once

#include <algorithm>

#include "core/errors.h"
#include "wgmma_kernel.h"
#include "wgmma_launch.h"
#include "wgmma_tiles.h"

namespace mixprec::cuda {

template <class I>
void launch_wgmma(const WgmmaLaunch& where, const WgmmaArgs<typename I::Acc>& args) {
  const CudaBackend& backend = where.backend;
  const int32_t clusters = std::max(1, backend.properties().multiprocessors / args.cluster);
  const auto blocks = static_cast<uint32_t>(std::min(clusters, args.units) * args.cluster);
  LaunchConfig config = backend.grid(blocks, kWgmmaThreads, I::Layout::kBytes);
  config.cluster = static_cast<uint32_t>(args.cluster);
  launch<wgmma_product<I>>(config, args);
}

// The instance of a row of the table.
template <class T, Major kLhs, Major kRhs, int kVariant, int kPlanes = 1>
void launch_variant(const WgmmaLaunch& where, const WgmmaArgs<WgmmaAcc<T>>& args) {
  constexpr WgmmaTile kTile = kWgmmaTiles[kVariant];
  constexpr int kBlocks = kTile.m / (kTile.ping_pong ? 64 : 128);
  launch_wgmma<WgmmaInstance<T, kLhs, kRhs, kBlocks, kTile.n, kTile.ping_pong, kPlanes>>(where,
                                                                                         args);
}

template <class T, Major kLhs, Major kRhs>
void launch_tile(const WgmmaLaunch& where, const WgmmaArgs<WgmmaAcc<T>>& args) {
  static_assert(kWgmmaTileCount == 6);
  switch (where.variant) {
    case 0:
      return launch_variant<T, kLhs, kRhs, 0>(where, args);
    case 1:
      return launch_variant<T, kLhs, kRhs, 1>(where, args);
    case 2:
      return launch_variant<T, kLhs, kRhs, 2>(where, args);
    case 3:
      return launch_variant<T, kLhs, kRhs, 3>(where, args);
    case 4:
      return launch_variant<T, kLhs, kRhs, 4>(where, args);
    case 5:
      return launch_variant<T, kLhs, kRhs, 5>(where, args);
    default:
      check(false, "no such row of the tiles of wgmma");
  }
}

// Operands of 16 bits, in the order in which they lie in memory.
template <class T>
void launch_layout(const WgmmaLaunch& where, const WgmmaArgs<float>& args) {
  if (where.lhs == Major::kK) {
    if (where.rhs == Major::kK) return launch_tile<T, Major::kK, Major::kK>(where, args);
    return launch_tile<T, Major::kK, Major::kMn>(where, args);
  }
  if (where.rhs == Major::kK) return launch_tile<T, Major::kMn, Major::kK>(where, args);
  return launch_tile<T, Major::kMn, Major::kMn>(where, args);
}

}  // namespace mixprec::cuda
