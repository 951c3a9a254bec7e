// The general product. The output is cut into regions, one task each; a task takes K in blocks,
// packs a block of rhs that stays in the second-level cache, and runs panels of lhs along it.

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <new>

#include "cpu/pages.h"
#include "cpu/thread_pool.h"
#include "finish.h"
#include "plan.h"

namespace mixprec::cpu {
namespace {

// A block of rhs: 512 KiB, which leaves the other half of a core's second-level cache to what
// passes by. Depth is part of what a result depends on, and the same on every machine.
constexpr int64_t kDepthBytes = 2048;
constexpr int64_t kBlockCols = 256;
// Regions beyond this gain little more from sharing packed panels, and threads share them worse.
constexpr int64_t kRegion = 1024;
// Panels of lhs that are packed together where their rows share cache lines.
constexpr int64_t kSharedPanels = 8;
// Panels of lhs beyond this do not stay in the second-level cache beside the block of rhs. Threads
// that share rows of the output then each fetch all of them from further away, which takes a tenth
// longer.
constexpr int64_t kPanelBytes = 512 << 10;
// What it costs to pack an element, in multiplications.
constexpr int64_t kPackingCost = 8;
// Scratch is taken in huge pages: panels that lie on one do not push each other out of the cache.
constexpr int64_t kScratchUnit = 2 << 20;
// Products below this many multiplications are not worth waking a thread for.
constexpr int64_t kSerialWork = 1 << 18;

constexpr int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }
constexpr int64_t ceil_div(int64_t value, int64_t unit) { return (value + unit - 1) / unit; }

// How much of K is taken at once.
template <class Acc>
int64_t block_depth(int64_t K) {
  constexpr int64_t kDepth = kDepthBytes / static_cast<int64_t>(sizeof(Acc));
  return ceil_div(K, ceil_div(K, kDepth));
}

// How the output is cut. It changes no result: each element's sum has the same order in any tile.
struct Grid {
  int64_t rows, cols;                // of a region
  int64_t row_regions, col_regions;  // of a matrix
};

// `depth_bytes` is what a row of a panel takes.
Grid cut(int64_t M, int64_t N, int64_t batch, int64_t depth_bytes, int tile_rows, int tile_cols,
         int64_t threads) {
  const int64_t row_tiles = ceil_div(M, tile_rows);
  const int64_t col_tiles = ceil_div(N, tile_cols);
  const int64_t least_rows = ceil_div(M, kRegion);
  const int64_t least_cols = ceil_div(N, kRegion);
  const int64_t most = std::max(2 * threads, batch * least_rows * least_cols);
  Grid best{};
  int64_t best_cost = std::numeric_limits<int64_t>::max();
  for (int64_t r = least_rows; r <= row_tiles && batch * r * least_cols <= most; ++r) {
    for (int64_t c = least_cols; c <= col_tiles && batch * r * c <= most; ++c) {
      Grid grid;
      grid.rows = ceil_div(row_tiles, r) * tile_rows;
      grid.cols = ceil_div(col_tiles, c) * tile_cols;
      grid.row_regions = ceil_div(M, grid.rows);
      grid.col_regions = ceil_div(N, grid.cols);
      const int64_t turns = ceil_div(batch * grid.row_regions * grid.col_regions, threads);
      int64_t cost = turns * (grid.rows * grid.cols + kPackingCost * (grid.rows + grid.cols));
      if (c > least_cols && grid.rows * depth_bytes > kPanelBytes) cost += cost / 10;
      if (cost >= best_cost) continue;
      best = grid;
      best_cost = cost;
    }
  }
  return best;
}

template <class Acc>
class Region {
 public:
  Region(const GemmPlan<Acc>& plan, const KernelTable<Acc>& kernels)
      : plan_(plan), kernels_(kernels), depth_(block_depth<Acc>(plan.K)) {
    // Sums build up in the output itself where it can hold them.
    const StoreTarget<Acc>& target = plan.target;
    const bool same_type = target.dtype == (sizeof(Acc) == 8 ? DType::kFloat64 : DType::kFloat32);
    in_place_ = plan.epilogue == nullptr && same_type &&
                (target.beta == 0 || (target.beta == 1 && target.alpha == 1));
    finish_ = !in_place_ || target.alpha != 1 || target.bias != nullptr;
  }

  void run(int64_t batch, int64_t row, int64_t rows, int64_t col, int64_t cols) const {
    thread_local GemmScratch scratch;
    const int64_t block_cols = std::min(kBlockCols, cols);
    const int64_t lhs_size = round_up(rows, kernels_.tile_rows) * depth_;
    const int64_t rhs_size = round_up(block_cols, kernels_.tile_cols) * depth_;
    const int64_t lhs_group =
        (plan_.lhs.extent_stride == 1 ? kSharedPanels : 1) * kernels_.tile_rows;
    const int64_t slack = 2 * kernels_.vector_width;
    // Of the whole region where K is taken in several passes, of the panel at hand where an
    // epilogue needs rows that are longer than those of a tile.
    const bool region_sums = !in_place_ && depth_ < plan_.K;
    const bool sums = region_sums || plan_.epilogue != nullptr;
    const int64_t sums_rows = region_sums ? round_up(rows, kernels_.tile_rows) : kernels_.tile_rows;
    const int64_t sums_stride = round_up(cols, kernels_.tile_cols);
    const int64_t sums_size = sums ? sums_rows * sums_stride : 0;
    const int64_t unit = 64 / static_cast<int64_t>(sizeof(Acc));
    const int64_t rhs_at = round_up(lhs_size + slack, unit);
    const int64_t sums_at = rhs_at + round_up(rhs_size + slack, unit);
    Acc* const lhs_panels =
        static_cast<Acc*>(scratch.get((sums_at + sums_size) * static_cast<int64_t>(sizeof(Acc))));
    Acc* const rhs_panels = lhs_panels + rhs_at;

    PanelSource lhs = plan_.lhs;
    PanelSource rhs = plan_.rhs;
    lhs.data += batch * plan_.lhs_batch_stride;
    rhs.data += batch * plan_.rhs_batch_stride;
    StoreTarget<Acc> target = plan_.target;
    target.out += batch * plan_.out_batch_stride;
    target = target.at(row, col);

    for (int64_t k0 = 0; k0 < plan_.K; k0 += depth_) {
      Pass pass;
      pass.k = std::min(depth_, plan_.K - k0);
      pass.first = k0 == 0;
      pass.last = k0 + depth_ >= plan_.K;
      pass.sums_stride = sums_stride;
      for (int64_t j0 = 0; j0 < cols; j0 += block_cols) {
        const int64_t n = std::min(block_cols, cols - j0);
        kernels_.pack_rhs(rhs.at(col + j0, k0), n, pass.k, rhs_panels);
        for (int64_t i = 0; i < rows; i += kernels_.tile_rows) {
          const int64_t m = std::min<int64_t>(kernels_.tile_rows, rows - i);
          Acc* const panel = lhs_panels + i * pass.k;
          if (j0 == 0 && i % lhs_group == 0) {
            kernels_.pack_lhs(lhs.at(row + i, k0), std::min(lhs_group, rows - i), pass.k, panel);
          }
          if (sums) pass.sums = lhs_panels + sums_at + (region_sums ? i * sums_stride : 0);
          for (int64_t j = 0; j < n; j += kernels_.tile_cols) {
            const int64_t width = std::min<int64_t>(kernels_.tile_cols, n - j);
            const bool fetch = j == 0 && j0 > 0 && i + m < rows;
            tile(pass, target, panel, rhs_panels + j * pass.k, fetch ? m * pass.k : 0, i, m, j0 + j,
                 width);
          }
          if (sums && pass.last) {
            store_rows(plan_, target.at(i, j0), m, n, pass.sums + j0, sums_stride);
          }
        }
      }
    }
  }

 private:
  struct Pass {
    int64_t k;
    bool first, last;
    Acc* sums = nullptr;  // of the panel's rows, where the output cannot hold them
    int64_t sums_stride;
  };

  void tile(const Pass& pass, const StoreTarget<Acc>& region, const Acc* lhs, const Acc* rhs,
            int64_t lhs_next, int64_t row, int64_t rows, int64_t col, int64_t cols) const {
    const int vectors = static_cast<int>(ceil_div(cols, kernels_.vector_width));
    const StoreTarget<Acc> target = region.at(row, col);
    const auto multiply = [&](Acc* c, int64_t stride, bool accumulate) {
      kernels_.multiply_tile(static_cast<int>(rows), vectors, pass.k, lhs, rhs, lhs_next, c, stride,
                             accumulate);
    };
    if (pass.sums != nullptr) {
      return multiply(pass.sums + col, pass.sums_stride, !pass.first);
    }
    alignas(64) Acc buffer[kMaxTileRows * kMaxTileCols];
    if (!in_place_) {
      multiply(buffer, kMaxTileCols, false);
      kernels_.store(target, rows, cols, buffer, kMaxTileCols);
      return;
    }
    StoreTarget<Acc> plain = target;
    plain.alpha = 1;
    plain.bias = nullptr;
    plain.beta = pass.first ? target.beta : Acc{1};
    Acc* const out = reinterpret_cast<Acc*>(target.out);
    if (cols == static_cast<int64_t>(vectors) * kernels_.vector_width) {
      multiply(out, target.row_stride, plain.beta != 0);
    } else {
      multiply(buffer, kMaxTileCols, false);
      kernels_.store(plain, rows, cols, buffer, kMaxTileCols);
    }
    if (pass.last && finish_) {
      StoreTarget<Acc> finish = target;
      finish.beta = 0;
      kernels_.store(finish, rows, cols, out, target.row_stride);
    }
  }

  const GemmPlan<Acc>& plan_;
  const KernelTable<Acc>& kernels_;
  int64_t depth_;
  bool in_place_;
  bool finish_;
};

}  // namespace

void* GemmScratch::get(int64_t bytes) {
  if (bytes > bytes_) {
    memory_.reset();
    bytes_ = 0;
    memory_.reset(allocate_pages(static_cast<size_t>(round_up(bytes, kScratchUnit))));
    if (!memory_) throw std::bad_alloc();
    bytes_ = bytes;
  }
  return memory_.get();
}

void GemmScratch::Free::operator()(void* p) const { std::free(p); }

template <class Acc>
void multiply_blocked(const GemmPlan<Acc>& plan) {
  const KernelTable<Acc>& kernels = gemm_kernels<Acc>();
  const Region<Acc> region(plan, kernels);
  const int64_t work = plan.batch * plan.M * plan.N * plan.K;
  const int64_t threads = work < kSerialWork ? 1 : usable_threads();
  const int64_t depth_bytes = block_depth<Acc>(plan.K) * static_cast<int64_t>(sizeof(Acc));
  const Grid grid =
      cut(plan.M, plan.N, plan.batch, depth_bytes, kernels.tile_rows, kernels.tile_cols, threads);
  const int64_t regions = grid.row_regions * grid.col_regions;
  const int64_t tasks = plan.batch * regions;
  const auto run = [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t row = task % regions / grid.col_regions * grid.rows;
      const int64_t col = task % regions % grid.col_regions * grid.cols;
      region.run(task / regions, row, std::min(grid.rows, plan.M - row), col,
                 std::min(grid.cols, plan.N - col));
    }
  };
  if (work < kSerialWork) {
    run(0, tasks);
  } else {
    const int64_t grain = std::max<int64_t>(1, kSerialWork * tasks / (2 * work));
    parallel_for(tasks, grain, run);
  }
}

template void multiply_blocked(const GemmPlan<float>&);
template void multiply_blocked(const GemmPlan<double>&);

}  // namespace mixprec::cpu
