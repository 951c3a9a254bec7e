// Draws from categorical distributions, the same as the CPU's: sample e of the output is decided by
// words 2e and 2e + 1 of the random sequence (core/philox.h), which are looked up in a binary tree
// of sums of the weights. A block builds the tree of a row and draws from it.

#include <bit>
#include <cmath>

#include "core/philox.h"
#include "cuda/ptx/arithmetic.h"
#include "cuda/tensors.h"
#include "elementwise.h"
#include "reduce_block.h"
#include "report.h"

namespace mixprec::cuda {
namespace {

constexpr int kThreads = 256;

struct DrawArgs {
  const void* weights = nullptr;  // dense, [rows, n]
  DType dtype = DType::kFloat32;
  int64_t rows = 0;
  int64_t n = 0;
  int64_t samples = 0;
  int64_t leaves = 0;  // n or more, a power of two
  // [rows, 2 * leaves]: node i is the sum of nodes 2i and 2i + 1, so that a weight taken out leaves
  // no rounding error behind.
  double* nodes = nullptr;
  int64_t* out = nullptr;
  uint64_t seed = 0;
  uint64_t offset = 0;
  bool replacement = false;
  ReportSlot slot;
};

// Puts the weights into the leaves; false, with a report, where one cannot draw from them.
MIXPREC_DEVICE bool fill_leaves(const DrawArgs& args, int64_t row, double* nodes) {
  int64_t positive = 0;
  int64_t first_bad = args.n;
  for (int64_t i = threadIdx.x; i < args.leaves; i += kThreads) {
    double weight = 0;
    if (i < args.n) weight = load_element<double>(args.weights, args.dtype, row * args.n + i);
    ptx::st(nodes + args.leaves + i, weight);
    positive += weight > 0 ? 1 : 0;
    const bool good = weight >= 0 && weight - weight == 0;
    if (!good && i < first_bad) first_bad = i;
  }
  positive = block_reduce<kThreads>(positive, int64_t{0}, AddCombine());
  first_bad = block_reduce<kThreads>(first_bad, args.n, MinCombine());
  if (first_bad < args.n) {
    if (threadIdx.x == 0) {
      const double weight =
          load_element<double>(args.weights, args.dtype, row * args.n + first_bad);
      int64_t bits;
      __builtin_memcpy(&bits, &weight, 8);
      report(args.slot, ReportKind::kWeight, bits, first_bad, row);
    }
    return false;
  }
  const int64_t needed = args.replacement ? 1 : args.samples;
  if (positive > 0 && positive >= needed) return true;
  if (threadIdx.x == 0) {
    report(args.slot, ReportKind::kPositiveWeights, positive, needed, row);
  }
  return false;
}

MIXPREC_DEVICE void add_up(double* nodes, int64_t node) {
  ptx::st(nodes + node, ptx::ld(nodes + 2 * node) + ptx::ld(nodes + 2 * node + 1));
}

// The position where the running sum of the weights passes that share of their total.
MIXPREC_DEVICE int64_t find(const double* nodes, int64_t leaves, double share) {
  double left_over = ptx::mul_rn(share, ptx::ld(nodes + 1));
  int64_t node = 1;
  while (node < leaves) {
    const double left = ptx::ld(nodes + 2 * node);
    node *= 2;
    if (left_over < left || ptx::ld(nodes + node + 1) == 0.0) continue;
    left_over = ptx::add_rn(left_over, -left);
    ++node;
  }
  return node - leaves;
}

MIXPREC_DEVICE int64_t draw(const DrawArgs& args, const double* nodes, int64_t at) {
  const PhiloxBlock block = philox(args.seed, args.offset + static_cast<uint64_t>(at) / 2);
  const bool second = at % 2 != 0;
  const double share =
      uniform53(second ? block.words[2] : block.words[0], second ? block.words[3] : block.words[1]);
  return find(nodes, args.leaves, share);
}

__global__ void __launch_bounds__(kThreads) draw_rows(MIXPREC_GRID_CONSTANT(DrawArgs) args) {
  for (int64_t row = blockIdx.x; row < args.rows; row += gridDim.x) {
    double* const nodes = args.nodes + row * 2 * args.leaves;
    bool good = fill_leaves(args, row, nodes);
    ptx::sync_threads();
    for (int64_t width = args.leaves / 2; good && width > 0; width /= 2) {
      for (int64_t i = threadIdx.x; i < width; i += kThreads) add_up(nodes, width + i);
      ptx::sync_threads();
    }
    if (good) {
      const double total = ptx::ld(nodes + 1);
      good = total - total == 0;
      if (!good && threadIdx.x == 0) report(args.slot, ReportKind::kWeightSum, row, 0, 0);
    }
    const int64_t begin = row * args.samples;
    if (!good || args.replacement) {
      for (int64_t i = threadIdx.x; i < args.samples; i += kThreads) {
        ptx::st(args.out + begin + i, good ? draw(args, nodes, begin + i) : 0);
      }
    } else if (threadIdx.x == 0) {
      for (int64_t i = 0; i < args.samples; ++i) {
        const int64_t found = draw(args, nodes, begin + i);
        ptx::st(args.out + begin + i, found);
        // Taken out.
        int64_t node = args.leaves + found;
        ptx::st(nodes + node, 0.0);
        for (node /= 2; node > 0; node /= 2) add_up(nodes, node);
      }
    }
  }
}

}  // namespace

void CudaBackend::multinomial(const OpCall& call) {
  const Tensor& out = call.out();
  check(call.in(0).rank == 2 && out.rank == 2 && call.in(0).shape[0] == out.shape[0],
        "multinomial takes weights [rows, n] and gives [rows, samples]");
  check(out.dtype == DType::kInt64, "multinomial gives int64");
  if (out.numel() == 0) return;
  const Tensor weights = contiguous(*this, call.in(0));
  DrawArgs args;
  args.weights = weights.data;
  args.dtype = weights.dtype;
  args.rows = weights.shape[0];
  args.n = weights.shape[1];
  args.samples = out.shape[1];
  args.leaves = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(args.n)));
  const Scratch nodes(*this, static_cast<size_t>(args.rows * 2 * args.leaves) * sizeof(double));
  args.nodes = nodes.as<double>();
  args.out = out.as<int64_t>();
  args.seed = static_cast<uint64_t>(call.int_attr(0));
  args.offset = static_cast<uint64_t>(call.int_attr(1));
  args.replacement = call.flag(2);
  args.slot = report_slot(call);
  launch<draw_rows>(config(args.rows * kThreads, kThreads), args);
}

}  // namespace mixprec::cuda
