// From the description of a product to the arguments of the Hopper kernels: copies of operands that
// wgmma does not take as they lie, tensor maps, and shares of K.
#include "wgmma_sm90.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "cuda/runtime/error.h"
#include "cuda/tensors.h"
#include "finish.h"
#include "wgmma_launch.h"
#include "wgmma_tiles.h"
#include "wide_range.h"

namespace mixprec::cuda {
namespace {

struct Box {
  uint32_t inner, rows;  // elements
};

// A map [w][z][rows][inner] with strides in elements. One of those dimensions that has an extent
// of 1 may have any stride, but the map wants one that is allowed.
TensorMap make_map(const void* data, DType dtype, bool as_tf32, Box box,
                   const int64_t (&extents)[4], const int64_t (&strides)[4]) {
  const auto item = static_cast<int64_t>(item_size(dtype));
  TensorMapDesc map_desc;
  map_desc.dtype = dtype;
  map_desc.as_tf32 = as_tf32;
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
  bool as_tf32 = false;
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

// For a tile of `tile_rows` that `shares` blocks load together.
WgmmaOperand operand_map(const GemmDesc& desc, const Source& source, int32_t tile_rows,
                         int32_t shares) {
  const GemmOperand& from = source.operand;
  const int64_t batch = from.batch_stride == 0 ? 1 : desc.batch;
  const int64_t outer = from.outer_stride == 0 ? 1 : desc.outer;
  const bool k_dense = source.major == Major::kK;
  const auto item = static_cast<int32_t>(item_size(from.dtype));
  const int32_t depth = wgmma_depth(from.dtype);
  const Box box{static_cast<uint32_t>(128 / item),
                static_cast<uint32_t>(wgmma_box(k_dense, tile_rows, item, depth, shares))};
  WgmmaOperand result{};
  // The planes of a copy are a dimension, so that its batches, which are dense, have to be one.
  const bool one = source.planes > 1;
  const int64_t extents[4] = {k_dense ? desc.K : source.rows, k_dense ? source.rows : desc.K,
                              one ? batch * outer : batch, one ? source.planes : outer};
  const int64_t strides[4] = {1, k_dense ? source.row_stride : source.k_stride,
                              from.batch_stride != 0 ? from.batch_stride : from.outer_stride,
                              one ? source.plane_stride : from.outer_stride};
  result.map = make_map(from.data, from.dtype, source.as_tf32, box, extents, strides);
  result.z_batch = batch > 1 ? 1 : 0;
  result.z_outer = one && outer > 1 ? static_cast<int32_t>(batch) : 0;
  result.w_outer = !one && outer > 1 ? 1 : 0;
  return result;
}

// Whether bulk copies store the output, which is float32, int32 or of the operands' 16-bit type.
bool is_direct(const GemmDesc& desc, DType operand, int32_t splits) {
  if (desc.beta != 0 || !desc.epilogue.is_plain()) return false;
  if (desc.out_dtype == DType::kInt32
          ? desc.alpha != 1 || desc.bias != nullptr
          : desc.out_dtype != DType::kFloat32 && desc.out_dtype != operand) {
    return false;
  }
  const auto unit = static_cast<int64_t>(16 / item_size(desc.out_dtype));
  const auto steps = [&](int64_t count, int64_t stride) {
    return count == 1 || wgmma_detail::is_multiple(stride, unit);
  };
  return reinterpret_cast<uintptr_t>(desc.out) % 16 == 0 && steps(desc.M, desc.out_row_stride) &&
         steps(desc.batch * splits, desc.out_batch_stride) &&
         steps(desc.outer, desc.out_outer_stride);
}

// What the tile and the output have to do with the arguments; `desc` describes what this kernel
// stores, be it shares of the sums.
template <class Acc>
WgmmaArgs<Acc> product_args(const GemmDesc& desc, const WgmmaTile& tile, const Source& lhs,
                            const Source& rhs, int32_t splits, int multiprocessors) {
  WgmmaArgs<Acc> args{};
  args.M = static_cast<int32_t>(desc.M);
  args.N = static_cast<int32_t>(desc.N);
  args.cluster = wgmma_cluster(tile, desc.M);
  const int32_t depth = wgmma_depth(lhs.operand.dtype);
  args.lhs = operand_map(desc, lhs, tile.m, 1);
  args.rhs = operand_map(desc, rhs, tile.n, args.cluster);
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
  // What a device makes at a time is about as many rows as columns, whose operands then come out of
  // its cache the most often.
  const double rows_to_columns = static_cast<double>(tile.n) / (tile.m * args.cluster);
  const double at_a_time = static_cast<double>(multiprocessors) / args.cluster;
  args.group =
      std::max(1, static_cast<int32_t>(std::lround(std::sqrt(at_a_time * rows_to_columns))));
  args.units = args.batches * splits * args.clusters_down * args.tiles_across;
  args.epilogue = epilogue_args<Acc>(desc);
  args.aligned = is_aligned_to(desc, 4);
  args.direct = is_direct(desc, lhs.operand.dtype, splits);
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
    args.out.map = make_map(desc.out, desc.out_dtype, false, box, extents, strides);
  }
  return args;
}

// An operand with the memory for its copy, if it needs one, for as long as it takes to queue what
// reads it.
class Prepared {
 public:
  Prepared(CudaBackend& backend, const GemmDesc& desc, bool is_lhs, Preparation preparation)
      : source_(desc, is_lhs ? desc.lhs : desc.rhs, is_lhs) {
    const int64_t rows = is_lhs ? desc.M : desc.K;
    const int64_t cols = is_lhs ? desc.K : desc.N;
    if (is_taken_as_it_lies(backend, preparation) &&
        wgmma_detail::has_tensor_map(source_.operand, rows, cols, desc)) {
      source_.as_tf32 = preparation == Preparation::kTf32;
      return;
    }
    copy_ = prepared_operand(desc, is_lhs, preparation);
    memory_.emplace(backend, copy_.bytes);
    copy_.operand.data = memory_->data();
    source_ = Source(desc, copy_.operand, is_lhs);
    source_.major = Major::kK;  // also where both strides are 1
    source_.planes = preparation == Preparation::kPlanes ? kPlaneCount : 1;
    source_.plane_stride = copy_.plane_stride;
  }
  const Source& source() const { return source_; }
  const PreparedOperand* copy() const { return memory_ ? &copy_ : nullptr; }

 private:
  bool is_taken_as_it_lies(CudaBackend& backend, Preparation preparation) const {
    switch (preparation) {
      case Preparation::kHalves:
        return true;
      case Preparation::kTf32:
        return source_.major == Major::kK && tensor_maps_round_to_tf32(backend);
      case Preparation::kBytes:
        return source_.major == Major::kK;
      default:
        return false;
    }
  }

  Source source_;
  PreparedOperand copy_;
  std::optional<Scratch> memory_;
};

Preparation preparation_of(WgmmaKind kind) {
  switch (kind) {
    case WgmmaKind::kPlanes:
      return Preparation::kPlanes;
    case WgmmaKind::kTf32:
      return Preparation::kTf32;
    case WgmmaKind::kMedium:
      return Preparation::kBFloat16;
    case WgmmaKind::kInteger:
      return Preparation::kBytes;
    default:
      return Preparation::kHalves;
  }
}

// The product into desc.out, or shares of the sums where there are several.
void multiply(CudaBackend& backend, const GemmDesc& desc, int32_t variant, int32_t splits) {
  const WgmmaTile& tile = kWgmmaTiles[variant];
  const WgmmaKind kind = wgmma_kind(desc);
  std::optional<Scratch> ranges_memory;
  ProductRanges* ranges = nullptr;
  if (kind == WgmmaKind::kPlanes) {
    ranges_memory.emplace(backend, sizeof(ProductRanges));
    ranges = ranges_memory->as<ProductRanges>();
    find_ranges(backend, desc, ranges);
  }
  const Preparation preparation = preparation_of(kind);
  const Prepared lhs(backend, desc, true, preparation);
  const Prepared rhs(backend, desc, false, preparation);
  prepare(backend, desc, preparation, lhs.copy(), rhs.copy(), ranges);
  const WgmmaLaunch launch{backend, variant, lhs.source().major, rhs.source().major};
  const int multiprocessors = backend.properties().multiprocessors;
  if (kind == WgmmaKind::kInteger) {
    auto args =
        product_args<int64_t>(desc, tile, lhs.source(), rhs.source(), splits, multiprocessors);
    return wgmma_int8(launch, args);
  }
  auto args = product_args<float>(desc, tile, lhs.source(), rhs.source(), splits, multiprocessors);
  args.ranges = ranges;
  if (kind == WgmmaKind::kTf32) return wgmma_tf32(launch, args);
  if (kind != WgmmaKind::kPlanes) {
    const bool is_float16 = lhs.source().operand.dtype == DType::kFloat16;
    return is_float16 ? wgmma_float16(launch, args) : wgmma_bfloat16(launch, args);
  }
  wgmma_planes(launch, args);
  multiply_wide_range(backend, desc, splits, ranges);
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
