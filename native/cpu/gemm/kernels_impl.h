// The kernels of GEMM, written once over the vectors of vector_*.h and compiled for each
// instruction set by kernels_*.cc.
#pragma once

#include "packing_impl.h"

// Everything here is internal to the unit that includes it, so that no code for one instruction set
// is ever linked in place of another's; for the same reason it calls no inline function of others.
namespace mixprec::cpu {
namespace {

template <class V>
using Table = KernelTable<typename V::Scalar>;

// ---- Products of panels ----

// The rows of c are fetched while the last few steps run: asked for sooner, they would be driven
// out again by the panels.
constexpr int64_t kLastSteps = 32;

template <class V, int Rows, int Vectors>
void multiply(int64_t k, const typename V::Scalar* lhs, const typename V::Scalar* rhs,
              int64_t lhs_next, typename V::Scalar* c, int64_t c_row_stride, bool accumulate) {
  using Scalar = typename V::Scalar;
  typename V::Reg acc[Rows][Vectors];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) acc[r][v] = V::zero();
  }
  const auto run = [&](int64_t steps) __attribute__((always_inline)) {
    for (int64_t p = 0; p < steps; ++p) {
      typename V::Reg b[Vectors];
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) b[v] = V::load(rhs + v * V::kWidth);
      __builtin_prefetch(lhs + lhs_next, 0, 2);
#pragma GCC unroll 16
      for (int r = 0; r < Rows; ++r) {
        const typename V::Reg a = V::broadcast(lhs[r]);
#pragma GCC unroll 2
        for (int v = 0; v < Vectors; ++v) acc[r][v] = V::fma(a, b[v], acc[r][v]);
      }
      lhs += V::kTileRows;
      rhs += V::kTileVectors * V::kWidth;
    }
  };
  const int64_t last = k < kLastSteps ? k : kLastSteps;
  run(k - last);
  Scalar* row = c;
  for (int r = 0; r < Rows; ++r, row += c_row_stride) {
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) __builtin_prefetch(row + v * V::kWidth, 1);
  }
  run(last);
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r, c += c_row_stride) {
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) {
      Scalar* to = c + v * V::kWidth;
      V::store(to, accumulate ? V::add(V::load(to), acc[r][v]) : acc[r][v]);
    }
  }
}

template <class V, int Rows = V::kTileRows>
void multiply_tile(int rows, int vectors, int64_t k, const typename V::Scalar* lhs,
                   const typename V::Scalar* rhs, int64_t lhs_next, typename V::Scalar* c,
                   int64_t c_row_stride, bool accumulate) {
  static_assert(V::kTileVectors == 2 && Rows <= kMaxTileRows);
  if (rows == Rows) {
    if (vectors == 2) {
      return multiply<V, Rows, 2>(k, lhs, rhs, lhs_next, c, c_row_stride, accumulate);
    }
    return multiply<V, Rows, 1>(k, lhs, rhs, lhs_next, c, c_row_stride, accumulate);
  }
  if constexpr (Rows > 1) {
    multiply_tile<V, Rows - 1>(rows, vectors, k, lhs, rhs, lhs_next, c, c_row_stride, accumulate);
  }
}

// ---- Stores ----

template <class V, class E>
void store_rows(const StoreTarget<typename V::Scalar>& target, int64_t rows, int64_t cols,
                const typename V::Scalar* acc, int64_t acc_row_stride) {
  const typename V::Reg alpha = V::broadcast(target.alpha);
  const typename V::Reg beta = V::broadcast(target.beta);
  const bool reads = target.beta != 0;
  const auto* bias = target.bias;
  for (int64_t i = 0; i < rows; ++i) {
    auto* out = reinterpret_cast<typename E::Storage*>(target.out) + i * target.row_stride;
    const typename V::Scalar* from = acc + i * acc_row_stride;
    int64_t j = 0;
    for (; j + V::kWidth <= cols; j += V::kWidth) {
      typename V::Reg value = V::mul(alpha, V::load(from + j));
      if (reads) value = V::fma(beta, E::load(out + j), value);
      if (bias != nullptr) value = V::add(value, V::load(bias + j));
      E::store(out + j, value);
    }
    if (j < cols) {
      const int left = static_cast<int>(cols - j);
      typename V::Reg value = V::mul(alpha, V::load_first(from + j, left));
      if (reads) value = V::fma(beta, E::load_first(out + j, left), value);
      if (bias != nullptr) value = V::add(value, V::load_first(bias + j, left));
      E::store_first(out + j, value, left);
    }
  }
}

template <class V>
void store(const StoreTarget<typename V::Scalar>& target, int64_t rows, int64_t cols,
           const typename V::Scalar* acc, int64_t acc_row_stride) {
  if constexpr (sizeof(typename V::Scalar) == 8) {
    store_rows<V, ElementF64>(target, rows, cols, acc, acc_row_stride);
  } else if (target.dtype == DType::kFloat16) {
    store_rows<V, ElementF16>(target, rows, cols, acc, acc_row_stride);
  } else if (target.dtype == DType::kBFloat16) {
    store_rows<V, ElementBF16>(target, rows, cols, acc, acc_row_stride);
  } else {
    store_rows<V, ElementF32>(target, rows, cols, acc, acc_row_stride);
  }
}

// ---- Products with a vector ----

template <class V>
void read_vector(const PanelSource& source, int64_t k, typename V::Scalar* values) {
  by_source<V>(source.source, [&](auto element) {
    using E = decltype(element);
    const auto* from = reinterpret_cast<const typename E::Storage*>(source.data);
    int64_t p = 0;
    if (source.k_stride == 1) {
      for (; p + V::kWidth <= k; p += V::kWidth) V::store(values + p, E::load(from + p));
    }
    for (; p < k; ++p) read_one<V, E>(from + p * source.k_stride, values + p);
  });
}

// Each row is summed in two chains of vectors, however many rows are taken at once.
template <class V, class E, int Rows>
void dot_rows(const typename E::Storage* matrix, int64_t stride, int64_t k,
              const typename V::Scalar* x, typename V::Scalar* y) {
  typename V::Reg even[Rows];
  typename V::Reg odd[Rows];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) even[r] = odd[r] = V::zero();
  int64_t p = 0;
  for (; p + 2 * V::kWidth <= k; p += 2 * V::kWidth) {
    const typename V::Reg x0 = V::load(x + p);
    const typename V::Reg x1 = V::load(x + p + V::kWidth);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      even[r] = V::fma(x0, E::load(matrix + r * stride + p), even[r]);
      odd[r] = V::fma(x1, E::load(matrix + r * stride + p + V::kWidth), odd[r]);
    }
  }
  for (; p < k; p += V::kWidth) {
    const int count = k - p < V::kWidth ? static_cast<int>(k - p) : V::kWidth;
    const typename V::Reg x0 = V::load_first(x + p, count);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      even[r] = V::fma(x0, E::load_first(matrix + r * stride + p, count), even[r]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) y[r] = V::sum(V::add(even[r], odd[r]));
}

template <class V>
void matrix_vector(const PanelSource& matrix, int64_t extent, int64_t k,
                   const typename V::Scalar* x, typename V::Scalar* y) {
  by_source<V>(matrix.source, [&](auto element) {
    using E = decltype(element);
    const auto* data = reinterpret_cast<const typename E::Storage*>(matrix.data);
    const int64_t stride = matrix.extent_stride;
    // The more rows, the more reads are under way; twice as many sums must fit the registers.
    constexpr int kRows = V::kTileRows > 8 ? 8 : 4;
    int64_t i = 0;
    for (; i + kRows <= extent; i += kRows) {
      dot_rows<V, E, kRows>(data + i * stride, stride, k, x, y + i);
    }
    for (; i < extent; ++i) dot_rows<V, E, 1>(data + i * stride, stride, k, x, y + i);
  });
}

// y += the sum of `Count` rows of the matrix, each times its x. The rows after these are fetched on
// the way: the hardware sees too many short streams to do it by itself.
template <class V, class E, int Count>
void add_rows(const typename E::Storage* matrix, int64_t stride, int64_t extent,
              const typename V::Scalar* x, typename V::Scalar* y) {
  typename V::Reg factor[Count];
#pragma GCC unroll 8
  for (int p = 0; p < Count; ++p) factor[p] = V::broadcast(x[p]);
  int64_t j = 0;
  for (; j + V::kWidth <= extent; j += V::kWidth) {
    typename V::Reg sum = V::load(y + j);
#pragma GCC unroll 8
    for (int p = 0; p < Count; ++p) {
      __builtin_prefetch(matrix + (p + Count) * stride + j, 0, 2);
      sum = V::fma(factor[p], E::load(matrix + p * stride + j), sum);
    }
    V::store(y + j, sum);
  }
  if (j < extent) {
    const int left = static_cast<int>(extent - j);
    typename V::Reg sum = V::load_first(y + j, left);
#pragma GCC unroll 8
    for (int p = 0; p < Count; ++p) {
      sum = V::fma(factor[p], E::load_first(matrix + p * stride + j, left), sum);
    }
    V::store_first(y + j, sum, left);
  }
}

template <class V>
void vector_matrix(const PanelSource& matrix, int64_t extent, int64_t k,
                   const typename V::Scalar* x, typename V::Scalar* y) {
  for (int64_t j = 0; j < extent; ++j) y[j] = 0;
  by_source<V>(matrix.source, [&](auto element) {
    using E = decltype(element);
    const auto* data = reinterpret_cast<const typename E::Storage*>(matrix.data);
    const int64_t stride = matrix.k_stride;
    int64_t p = 0;
    for (; p + 8 <= k; p += 8) add_rows<V, E, 8>(data + p * stride, stride, extent, x + p, y);
    for (; p < k; ++p) add_rows<V, E, 1>(data + p * stride, stride, extent, x + p, y);
  });
}

template <class V>
constexpr Table<V> kTable = {
    V::kTileRows,
    V::kTileVectors* V::kWidth,
    V::kWidth,
    multiply_tile<V>,
    pack<V, V::kTileRows>,
    pack<V, V::kTileVectors * V::kWidth>,
    store<V>,
    read_vector<V>,
    matrix_vector<V>,
    vector_matrix<V>,
};

}  // namespace
}  // namespace mixprec::cpu
