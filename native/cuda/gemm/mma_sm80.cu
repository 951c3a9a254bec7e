// From the description of a product to the arguments of the kernels of mma.sync.
#include "mma_sm80.h"

#include <string>

#include "cuda/tensors.h"
#include "finish.h"
#include "mma_sm80_kinds.h"

namespace mixprec::cuda {
namespace {

using mma_sm80::Operand;
using mma_sm80::ProductArgs;

Operand operand_of(const GemmDesc& desc, bool is_lhs) {
  const GemmOperand& from = is_lhs ? desc.lhs : desc.rhs;
  const MmaLayout layout = mma_layout(desc, is_lhs);
  const int64_t extent_stride = is_lhs ? from.row_stride : from.col_stride;
  const int64_t k_stride = is_lhs ? from.col_stride : from.row_stride;
  Operand operand{};
  operand.data = from.data;
  operand.extent = is_lhs ? desc.M : desc.N;
  operand.k_major = layout.k_major;
  operand.access = layout.access;
  operand.line_stride = layout.k_major ? extent_stride : k_stride;
  operand.chunk_stride = layout.k_major ? k_stride : extent_stride;
  // What there is one of may have any stride, which must not spoil the alignment.
  if ((layout.k_major ? operand.extent : desc.K) == 1) operand.line_stride = 0;
  if (layout.access != MmaAccess::kElements) operand.chunk_stride = 1;
  operand.batch_stride = from.batch_stride;
  operand.outer_stride = from.outer_stride;
  return operand;
}

template <class Acc>
ProductArgs<Acc> product_args(const GemmDesc& desc, void* partials) {
  ProductArgs<Acc> args{};
  args.lhs = operand_of(desc, true);
  args.rhs = operand_of(desc, false);
  args.epilogue = epilogue_args<Acc>(desc);
  args.partials = partials;
  args.K = desc.K;
  args.batch = desc.batch;
  args.batches = desc.batch * desc.outer;
  args.precision = desc.precision;
  args.dtype = desc.lhs.dtype;
  args.aligned = is_aligned_to(desc, 4);
  return args;
}

void multiply(CudaBackend& backend, const GemmDesc& desc, const MmaTile& tile, int32_t splits,
              void* partials) {
  using namespace mma_sm80;
  switch (tile.kind) {
    case MmaKind::kHalf:
      return half_product(backend, product_args<float>(desc, partials), tile, splits);
    case MmaKind::kTf32:
      return tf32_product(backend, product_args<float>(desc, partials), tile, splits);
    case MmaKind::kFloat32:
      return float32_product(backend, product_args<float>(desc, partials), tile, splits);
    case MmaKind::kFloat64: {
      ProductArgs<double> args = product_args<double>(desc, partials);
      args.has_sm90 = backend.properties().major >= 9;
      return float64_product(backend, args, tile, splits);
    }
    case MmaKind::kInt8:
      return int8_product(backend, product_args<int64_t>(desc, partials), tile, splits);
    case MmaKind::kNone:
      check(false, "a tile of mma.sync for no kind of product");
  }
}

}  // namespace

void mma_gemm(CudaBackend& backend, const GemmDesc& desc, const GemmConfig& config) {
  check(config.variant >= 0 && config.variant < kMmaTileCount, "no such tile of mma.sync");
  const MmaTile& tile = kMmaTiles[config.variant];
  check(mma_tile_fits(tile, desc, backend.properties()), "a tile of mma.sync for other products");
  if (config.splits <= 1) return multiply(backend, desc, tile, 1, nullptr);
  const Scratch partials(backend, sums_bytes(desc, config.splits));
  multiply(backend, desc, tile, config.splits, partials.data());
  finish_sums(backend, desc, partials.data(), config.splits);
}

}  // namespace mixprec::cuda
