// From the description of a product to the arguments of the Hopper kernels: copies of operands that
// wgmma does not take as they lie, tensor maps, and shares of K.
#include "wgmma_sm90.h"

#include <algorithm>
#include <optional>

#include "cuda/runtime/error.h"
#include "cuda/tensors.h"
#include "finish.h"
#include "wgmma_tiles.h"
#include "wide_range.h"

namespace mixprec::cuda {
namespace {

struct Box {
  uint32_t inner, rows;  // elements
};

// A map [w][z][rows][inner] with strides in elements. One of those dimensions that has an extent
// of 1 may have any stride, but the map wants one that is allowed.
TensorMap make_map(const void* data, DType dtype, Box box, const int64_t (&extents)[4],
                   const int64_t (&strides)[4]) {
  const auto item = static_cast<int64_t>(item_size(dtype));
  TensorMapDesc map_desc;
  map_desc.dtype = dtype;
  map_desc.rank = 4;
  map_desc.data = data;
  map_desc.swizzle = Swizzle::k128Bytes;
  for (int dim = 0; dim < 4; ++dim) {
    map_desc.extents[dim] = static_cast<uint64_t>(extents[dim]);
    map_desc.byte_strides[dim] =
        static_cast<uint64_t>(extents[dim] == 1 ? 16 : strides[dim] * item);
    map_desc.box[dim] = 1;
  }
  map_desc.box[0] = box.inner;
  map_desc.box[1] = box.rows;
  TensorMap map;
  require(api::encode_tensor_map(&map, map_desc), "describing an operand to the bulk copies");
  return map;
}

// An operand as the kernel sees it: `rows` are M or N.
struct Source {
  GemmOperand operand;
  int64_t rows = 0;
  int64_t row_stride = 0, k_stride = 0;
  Major major = Major::kK;
  int32_t planes = 1;
  int64_t plane_stride = 0;

  Source(const GemmDesc& desc, const GemmOperand& from, bool is_lhs)
      : operand(from),
        rows(is_lhs ? desc.M : desc.N),
        row_stride(is_lhs ? from.row_stride : from.col_stride),
        k_stride(is_lhs ? from.col_stride : from.row_stride) {
    const auto unit = static_cast<int64_t>(16 / item_size(from.dtype));
    const bool k_dense =
        k_stride == 1 && (rows == 1 || wgmma_detail::is_multiple(row_stride, unit));
    major = k_dense ? Major::kK : Major::kMn;
  }
};

// `box_rows` of the tile are loaded at once where k is dense.
WgmmaOperand operand_map(const GemmDesc& desc, const Source& source, int32_t box_rows) {
  const GemmOperand& from = source.operand;
  const int64_t batch = from.batch_stride == 0 ? 1 : desc.batch;
  const int64_t outer = from.outer_stride == 0 ? 1 : desc.outer;
  const bool k_dense = source.major == Major::kK;
  const int32_t depth = wgmma_depth(from.dtype);
  const auto side = static_cast<uint32_t>(depth);  // 128 bytes
  WgmmaOperand result{};
  const Box box{side, k_dense ? static_cast<uint32_t>(box_rows) : side};
  // The planes of a copy are a dimension, so that its batches, which are dense, have to be one.
  const bool one = source.planes > 1;
  const int64_t extents[4] = {k_dense ? desc.K : source.rows, k_dense ? source.rows : desc.K,
                              one ? batch * outer : batch, one ? source.planes : outer};
  const int64_t strides[4] = {1, k_dense ? source.row_stride : source.k_stride,
                              from.batch_stride != 0 ? from.batch_stride : from.outer_stride,
                              one ? source.plane_stride : from.outer_stride};
  result.map = make_map(from.data, from.dtype, box, extents, strides);
  result.z_batch = batch > 1 ? 1 : 0;
  result.z_outer = one && outer > 1 ? static_cast<int32_t>(batch) : 0;
  result.w_outer = !one && outer > 1 ? 1 : 0;
  return result;
}

bool is_aligned(const GemmDesc& desc) {
  const auto unit = static_cast<int64_t>(16 / item_size(desc.out_dtype));
  const auto steps = [&](int64_t count, int64_t stride) {
    return count == 1 || wgmma_detail::is_multiple(stride, unit);
  };
  return reinterpret_cast<uintptr_t>(desc.out) % 16 == 0 && steps(desc.M, desc.out_row_stride) &&
         steps(desc.batch, desc.out_batch_stride) && steps(desc.outer, desc.out_outer_stride);
}

// Whether bulk copies store the output, which is float32, int32 or of the operands' 16-bit type.
bool is_direct(const GemmDesc& desc, DType operand) {
  if (!is_aligned(desc) || desc.beta != 0 || !desc.epilogue.is_plain()) return false;
  if (desc.out_dtype == DType::kInt32) return desc.alpha == 1 && desc.bias == nullptr;
  return desc.out_dtype == DType::kFloat32 || desc.out_dtype == operand;
}

// What the tile and the output have to do with the arguments; `desc` describes what this kernel
// stores, be it shares of the sums.
template <class Acc>
WgmmaArgs<Acc> product_args(const GemmDesc& desc, const WgmmaTile& tile, const Source& lhs,
                            const Source& rhs, int32_t splits) {
  WgmmaArgs<Acc> args{};
  args.M = static_cast<int32_t>(desc.M);
  args.N = static_cast<int32_t>(desc.N);
  args.cluster = wgmma_cluster(tile, desc.M);
  const int32_t depth = wgmma_depth(lhs.operand.dtype);
  args.lhs = operand_map(desc, lhs, tile.m);
  args.rhs = operand_map(desc, rhs, tile.n / args.cluster);
  args.steps = static_cast<int32_t>((desc.K + depth - 1) / depth);
  args.splits = splits;
  args.steps_to_split = (args.steps + splits - 1) / splits;
  args.batch = static_cast<int32_t>(desc.batch);
  args.batches = static_cast<int32_t>(desc.batch * desc.outer);
  const auto cover = [](int64_t extent, int32_t by) {
    return static_cast<int32_t>((extent + by - 1) / by);
  };
  args.clusters_down = cover(desc.M, tile.m * args.cluster);
  args.tiles_across = cover(desc.N, tile.n);
  // About as many rows of a group as columns of the tiles that a device makes at a time.
  args.group = std::max(1, 2048 / (tile.m * args.cluster));
  args.units = args.batches * splits * args.clusters_down * args.tiles_across;
  args.epilogue = epilogue_args<Acc>(desc);
  args.aligned = is_aligned_to(desc, 4);
  args.direct = is_direct(desc, lhs.operand.dtype);
  args.out.z_batch = 1;
  args.out.w_outer = splits == 1 ? 1 : 0;
  if (splits > 1) {
    args.out.z_outer = args.batch;
    args.z_split = args.batches;
    args.split_stride = args.batches * desc.M * desc.N;
  }
  if (args.direct) {
    // Chunks of 16 rows of 128 bytes.
    const Box box{static_cast<uint32_t>(128 / item_size(desc.out_dtype)), 16};
    const int64_t extents[4] = {desc.N, desc.M,
                                splits == 1 ? desc.batch : desc.batch * desc.outer * splits,
                                splits == 1 ? desc.outer : 1};
    const int64_t strides[4] = {1, desc.out_row_stride, desc.out_batch_stride,
                                desc.out_outer_stride};
    args.out.map = make_map(desc.out, desc.out_dtype, box, extents, strides);
  }
  return args;
}

// Copies of both operands, for as long as it takes to queue what reads them.
class Copies {
 public:
  Copies(CudaBackend& backend, const GemmDesc& desc, Preparation preparation)
      : lhs_(prepared_operand(desc, true, preparation)),
        rhs_(prepared_operand(desc, false, preparation)),
        lhs_memory_(backend, lhs_.bytes),
        rhs_memory_(backend, rhs_.bytes) {
    lhs_.operand.data = lhs_memory_.data();
    rhs_.operand.data = rhs_memory_.data();
    if (preparation == Preparation::kPlanes) {
      ranges_memory_.emplace(backend, sizeof(ProductRanges));
      find_ranges(backend, desc, ranges());
    }
    prepare(backend, desc, true, preparation, lhs_, ranges());
    prepare(backend, desc, false, preparation, rhs_, ranges());
  }

  ProductRanges* ranges() const {
    return ranges_memory_ ? ranges_memory_->as<ProductRanges>() : nullptr;
  }
  Source source(const GemmDesc& desc, bool is_lhs) const {
    const PreparedOperand& copy = is_lhs ? lhs_ : rhs_;
    Source source(desc, copy.operand, is_lhs);
    source.major = Major::kK;  // also where both strides are 1
    if (ranges_memory_) {
      source.planes = kPlaneCount;
      source.plane_stride = copy.plane_stride;
    }
    return source;
  }

 private:
  PreparedOperand lhs_, rhs_;
  Scratch lhs_memory_, rhs_memory_;
  std::optional<Scratch> ranges_memory_;
};

// The product into desc.out, or shares of the sums where there are several.
void multiply(CudaBackend& backend, const GemmDesc& desc, int32_t variant, int32_t splits) {
  const WgmmaTile& tile = kWgmmaTiles[variant];
  const WgmmaKind kind = wgmma_kind(desc);
  if (kind == WgmmaKind::kHalf) {
    const Source lhs(desc, desc.lhs, true);
    const Source rhs(desc, desc.rhs, false);
    WgmmaArgs<float> args = product_args<float>(desc, tile, lhs, rhs, splits);
    const WgmmaLaunch launch{backend, variant, lhs.major, rhs.major};
    return desc.lhs.dtype == DType::kFloat16 ? wgmma_float16(launch, args)
                                             : wgmma_bfloat16(launch, args);
  }
  const Preparation preparation = kind == WgmmaKind::kPlanes    ? Preparation::kPlanes
                                  : kind == WgmmaKind::kTf32    ? Preparation::kTf32
                                  : kind == WgmmaKind::kInteger ? Preparation::kBytes
                                                                : Preparation::kBFloat16;
  const Copies copies(backend, desc, preparation);
  const Source lhs = copies.source(desc, true);
  const Source rhs = copies.source(desc, false);
  const WgmmaLaunch launch{backend, variant, Major::kK, Major::kK};
  if (kind == WgmmaKind::kInteger) {
    WgmmaArgs<int64_t> args = product_args<int64_t>(desc, tile, lhs, rhs, splits);
    return wgmma_int8(launch, args);
  }
  WgmmaArgs<float> args = product_args<float>(desc, tile, lhs, rhs, splits);
  if (kind == WgmmaKind::kMedium) return wgmma_bfloat16(launch, args);
  if (kind == WgmmaKind::kTf32) return wgmma_tf32(launch, args);
  args.ranges = copies.ranges();
  wgmma_planes(launch, args);
  multiply_wide_range(backend, desc, splits, copies.ranges());
}

}  // namespace

void wgmma_gemm(CudaBackend& backend, const GemmDesc& desc, const GemmConfig& config) {
  check(wgmma_tile_fits(config.variant, desc), "a tile of wgmma for other products");
  if (config.splits <= 1) return multiply(backend, desc, config.variant, 1);
  const Scratch partials(backend, sums_bytes(desc, config.splits));
  multiply(backend, product_into(desc, partials.data()), config.variant, config.splits);
  finish_sums(backend, desc, partials.data(), config.splits);
}

}  // namespace mixprec::cuda
