// The part of GEMM that is compiled once per instruction set, as a table of functions, and the few
// types its callers fill in. `Acc` is the type of products and sums: float or double.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "cpu/isa.h"

namespace mixprec::cpu {

// How an element is stored, and rounded as it is read.
enum class Source {
  kFloat64,
  kFloat32,
  kFloat32AsTf32,
  kFloat32AsBFloat16,
  kFloat16,
  kBFloat16,
};

constexpr int64_t source_size(Source source) {
  return source == Source::kFloat64 ? 8 : source >= Source::kFloat16 ? 2 : 4;
}

// One operand seen from the kernels: `extent` is the dimension it shares with the output (M of lhs,
// N of rhs), k the one that is summed over. Strides count elements.
struct PanelSource {
  const char* data;
  Source source;
  int64_t extent_stride;
  int64_t k_stride;

  PanelSource at(int64_t extent, int64_t k) const {
    PanelSource moved = *this;
    moved.data += (extent * extent_stride + k * k_stride) * source_size(source);
    return moved;
  }
};

// out = alpha * acc + beta * out + bias, rounded to `dtype`.
template <class Acc>
struct StoreTarget {
  char* out;
  DType dtype;
  int64_t row_stride;
  Acc alpha;
  Acc beta;         // 0 does not read `out`
  const Acc* bias;  // one per column, or null

  StoreTarget at(int64_t row, int64_t col) const {
    StoreTarget moved = *this;
    moved.out += (row * row_stride + col) * static_cast<int64_t>(item_size(dtype));
    if (bias != nullptr) moved.bias += col;
    return moved;
  }
};

// Panels: `tile_rows` (lhs) or `tile_cols` (rhs) neighbours of the extent, stored k by k; the last
// panel of an operand is filled up with zeros. Sums go through k in order, one fused multiply-add
// after the other, in every tile alike: a result does not depend on how the output is cut up.
template <class Acc>
struct KernelTable {
  int tile_rows;
  int tile_cols;
  int vector_width;
  // c = lhs panel x rhs panel, or added to c: `rows` x `vectors` * vector_width elements.
  // The panel that lies `lhs_next` elements behind lhs is brought near on the way.
  void (*multiply_tile)(int rows, int vectors, int64_t k, const Acc* lhs, const Acc* rhs,
                        int64_t lhs_next, Acc* c, int64_t c_row_stride, bool accumulate);
  void (*pack_lhs)(const PanelSource& source, int64_t extent, int64_t k, Acc* panels);
  void (*pack_rhs)(const PanelSource& source, int64_t extent, int64_t k, Acc* panels);
  void (*store)(const StoreTarget<Acc>& target, int64_t rows, int64_t cols, const Acc* acc,
                int64_t acc_row_stride);
  // values[k] of the one row or column that the source points to.
  void (*read_vector)(const PanelSource& source, int64_t k, Acc* values);
  // y[i] = sum over k of x[k] * matrix[i, k], for a matrix with k_stride 1 ...
  void (*matrix_vector)(const PanelSource& matrix, int64_t extent, int64_t k, const Acc* x, Acc* y);
  // ... and for one with extent_stride 1.
  void (*vector_matrix)(const PanelSource& matrix, int64_t extent, int64_t k, const Acc* x, Acc* y);
};

// The largest tile of any table, for scratch on the stack.
inline constexpr int kMaxTileRows = 14;
inline constexpr int kMaxTileCols = 32;

template <class Acc>
const KernelTable<Acc>& gemm_kernels_portable();
template <class Acc>
const KernelTable<Acc>& gemm_kernels_avx2();
template <class Acc>
const KernelTable<Acc>& gemm_kernels_avx512();

template <class Acc>
const KernelTable<Acc>& gemm_kernels() {
#if MIXPREC_X86
  switch (isa()) {
    case Isa::kAvx512:
      return gemm_kernels_avx512<Acc>();
    case Isa::kAvx2:
      return gemm_kernels_avx2<Acc>();
    case Isa::kPortable:
      break;
  }
#endif
  return gemm_kernels_portable<Acc>();
}

}  // namespace mixprec::cpu
