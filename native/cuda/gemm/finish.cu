// Adds up the shares of K and applies the epilogue. A thread takes a few neighbouring columns of a
// row, so that the whole is as fast as the memory that it reads and writes.
#include "finish.h"

#include <algorithm>

#include "cuda/kernels/elementwise.h"
#include "cuda/kernels/reduce.h"
#include "epilogue.h"

namespace mixprec::cuda {
namespace {

constexpr int kThreads = 256;

template <class Acc, class Sum>
struct FinishArgs {
  EpilogueArgs<Acc> epilogue;
  const Sum* partials;
  int64_t share;  // elements of partials for one share of K
  int64_t M;
  int64_t N;
  int64_t batch;
  int64_t packs_across;
  int64_t packs;
  int32_t splits;
  bool transposed;  // partials are [N][M]
  bool partials_aligned;
  bool out_aligned;
};

template <class Acc, class Sum, int kCount>
MIXPREC_DEVICE void add_share(const Sum* from, int64_t stride, int valid, bool aligned,
                              Acc (&values)[kCount]) {
  if (aligned && valid == kCount) {
    constexpr int kPack = sizeof(Sum) * kCount <= 16 ? kCount : static_cast<int>(16 / sizeof(Sum));
    MIXPREC_UNROLL
    for (int p = 0; p < kCount; p += kPack) {
      const auto pack = ptx::ld_pack<kPack>(from + p);
      MIXPREC_UNROLL
      for (int i = 0; i < kPack; ++i) {
        values[p + i] = multiply_add(Acc(1), static_cast<Acc>(pack[i]), values[p + i]);
      }
    }
    return;
  }
  MIXPREC_UNROLL
  for (int i = 0; i < kCount; ++i) {
    if (i >= valid) continue;
    values[i] = multiply_add(Acc(1), static_cast<Acc>(ptx::ld(from + i * stride)), values[i]);
  }
}

template <class Acc, class Sum, int kCount>
__global__ void __launch_bounds__(kThreads)
    finish_product(MIXPREC_GRID_CONSTANT(FinishArgs<Acc, Sum>) args) {
  for (int64_t pack = int64_t{blockIdx.x} * kThreads + threadIdx.x; pack < args.packs;
       pack += int64_t{gridDim.x} * kThreads) {
    const int64_t row = pack / args.packs_across;
    const int64_t column = (pack - row * args.packs_across) * kCount;
    const int valid = static_cast<int>(args.N - column < kCount ? args.N - column : kCount);
    const int64_t matrix = row / args.M;
    const int64_t first = args.transposed
                              ? matrix * args.M * args.N + column * args.M + (row - matrix * args.M)
                              : row * args.N + column;
    Acc values[kCount] = {};
    for (int32_t split = 0; split < args.splits; ++split) {
      add_share(args.partials + split * args.share + first, args.transposed ? args.M : 1, valid,
                args.partials_aligned, values);
    }
    const int64_t outer = matrix / args.batch;
    const int64_t at = outer * args.epilogue.outer_stride +
                       (matrix - outer * args.batch) * args.epilogue.batch_stride +
                       (row - matrix * args.M) * args.epilogue.row_stride + column;
    store_finished(args.epilogue, values, at, column, valid, args.out_aligned);
  }
}

template <class Acc, class Sum>
void finish(CudaBackend& backend, const GemmDesc& desc, const void* partials, int splits,
            bool transposed) {
  constexpr int kCount = 4;
  FinishArgs<Acc, Sum> args{};
  args.epilogue = epilogue_args<Acc>(desc);
  args.partials = static_cast<const Sum*>(partials);
  const int64_t rows = desc.outer * desc.batch * desc.M;
  args.share = rows * desc.N;
  args.M = desc.M;
  args.N = desc.N;
  args.batch = desc.batch;
  args.packs_across = (desc.N + kCount - 1) / kCount;
  args.packs = rows * args.packs_across;
  args.splits = splits;
  args.transposed = transposed;
  args.partials_aligned = !transposed && desc.N % kCount == 0;
  args.out_aligned = is_aligned_to(desc, kCount);
  launch<finish_product<Acc, Sum, kCount>>(backend.config(args.packs, kThreads), args);
}

void finish_any(CudaBackend& backend, const GemmDesc& desc, const void* partials, int splits,
                bool transposed) {
  check(is_floating(desc.out_dtype) || desc.epilogue.is_plain(),
        "a product of integers got an epilogue");
  switch (sum_dtype(desc)) {
    case DType::kFloat64:
      return finish<double, double>(backend, desc, partials, splits, transposed);
    case DType::kInt64:
      return finish<int64_t, int64_t>(backend, desc, partials, splits, transposed);
    case DType::kInt32:
      return finish<int64_t, int32_t>(backend, desc, partials, splits, transposed);
    default:
      return finish<float, float>(backend, desc, partials, splits, transposed);
  }
}

}  // namespace

DType sum_dtype(const GemmDesc& desc) {
  if (is_floating(desc.out_dtype)) {
    return desc.out_dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  }
  const bool bytes = item_size(desc.lhs.dtype) == 1 && item_size(desc.rhs.dtype) == 1;
  return bytes ? DType::kInt32 : DType::kInt64;
}

size_t sums_bytes(const GemmDesc& desc, int splits) {
  const int64_t elements = splits * desc.outer * desc.batch * desc.M * desc.N;
  return static_cast<size_t>(elements) * item_size(sum_dtype(desc));
}

GemmDesc product_into(const GemmDesc& desc, void* sums) {
  GemmDesc product = desc;
  product.out = sums;
  product.out_dtype = sum_dtype(desc);
  product.out_row_stride = desc.N;
  product.out_batch_stride = desc.M * desc.N;
  product.out_outer_stride = desc.batch * product.out_batch_stride;
  product.alpha = 1;
  product.beta = 0;
  product.bias = nullptr;
  product.epilogue = {};
  return product;
}

void finish_sums(CudaBackend& backend, const GemmDesc& desc, const void* partials, int splits) {
  finish_any(backend, desc, partials, splits, false);
}

void finish_transposed(CudaBackend& backend, const GemmDesc& desc, const void* sums) {
  finish_any(backend, desc, sums, 1, true);
}

void sum_columns(CudaBackend& backend, const GemmDesc& desc) {
  check(is_floating(desc.out_dtype), "a product of integers has no column sums");
  Tensor out;
  out.data = desc.out;
  out.dtype = desc.out_dtype;
  out.rank = 4;
  const int64_t shape[] = {desc.outer, desc.batch, desc.M, desc.N};
  const int64_t strides[] = {desc.out_outer_stride, desc.out_batch_stride, desc.out_row_stride, 1};
  std::copy_n(shape, 4, out.shape);
  std::copy_n(strides, 4, out.strides);
  Tensor sums;
  sums.data = desc.epilogue.column_sums;
  sums.dtype = desc.out_dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  sums.rank = 1;
  sums.shape[0] = desc.N;
  sums.strides[0] = 1;
  reduce_sum(backend, out, 0b0111, 1.0, sums);
}

}  // namespace mixprec::cuda
