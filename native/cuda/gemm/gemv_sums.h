// A large matrix times a few vectors, what a thread does: it reads its part of the matrix 16 bytes
// at a time, with several reads under way, and multiplies each element with all vectors.
#pragma once

#include "cuda/kernels/element.h"
#include "epilogue.h"

namespace mixprec::cuda::gemv {

struct GemvArgs {
  const void* matrix;
  const void* vectors;
  DType dtype;
  MatmulPrecision precision;
  int32_t count;  // of the vectors that a launch takes, from `first` on
  int32_t first;
  int32_t total;
  int64_t rows;  // of the matrix, one element of each result
  int64_t K;
  // Strides of the matrix: from chunk to chunk across, and within a chunk.
  int64_t line_stride;
  int64_t chunk_stride;
  int64_t vector_stride;
  int64_t vector_k_stride;
  bool matrix_wide;   // chunks are 16 bytes that lie aligned
  bool vectors_wide;  // likewise along k
  // Warps that share the k of a row, or threads of a warp across.
  int32_t ways;
  int64_t share;  // steps of k to a share of the grid
  int64_t batch;
  int64_t batches;
  int64_t matrix_batch, matrix_outer;
  int64_t vectors_batch, vectors_outer;
  EpilogueArgs<float> epilogue;
  int64_t out_row;        // from row to row of the matrix in out
  int64_t out_vector;     // from vector to vector
  bool rows_are_columns;  // rows of the matrix are columns of out
  float* partials;
};

// Where a block is in the grid.
struct GemvPlace {
  int64_t matrix_base;
  int64_t vectors_base;
  int64_t k_begin;
  int64_t k_end;
};

// What an element is multiplied as; kRounds: not by more than `precision` asks for.
template <bool kRounds, class T>
MIXPREC_DEVICE float operand_value(T stored_value, MatmulPrecision precision) {
  const float value = widened<float>(stored_value);
  if constexpr (kRounds) {
    return precision == MatmulPrecision::kHigh ? round_to_tf32(value)
                                               : ptx::widen(ptx::narrow_bf16(value));
  }
  return value;
}

// Calls body with the type of the elements, and whether they are rounded.
template <class Body>
MIXPREC_DEVICE void by_element(const GemvArgs& args, const Body& body) {
  if (args.dtype == DType::kFloat16) return body(TypeTag<Float16>{}, std::false_type{});
  if (args.dtype == DType::kBFloat16) return body(TypeTag<BFloat16>{}, std::false_type{});
  if (args.precision == MatmulPrecision::kHighest) {
    return body(TypeTag<float>{}, std::false_type{});
  }
  body(TypeTag<float>{}, std::true_type{});
}

// The first `valid` elements of a chunk, and zeros.
template <class T, int kChunk>
MIXPREC_DEVICE void load_chunk(const T* from, int64_t stride, int valid, bool wide,
                               Pack<T, kChunk>& chunk) {
  if (wide && valid == kChunk) {
    chunk = ptx::ld_pack<kChunk>(from);
    return;
  }
  MIXPREC_UNROLL
  for (int i = 0; i < kChunk; ++i) {
    chunk[i] = i < valid ? ptx::ld(from + i * stride) : T{};
  }
}

// Adds the products of k to k_end of kRows rows, the first at `matrix`, with the vectors.
template <bool kRounds, class T, int kVectors, int kRows, int kAtOnce>
MIXPREC_DEVICE void add_rows(const GemvArgs& args, const T* matrix, const T* vectors, int rows,
                             int64_t k, int64_t k_end, int64_t step,
                             float (&sums)[kVectors][kRows]) {
  constexpr int kChunk = static_cast<int>(16 / sizeof(T));
  const auto add = [&](const Pack<T, kChunk>(&chunks)[kRows], int64_t at, int valid) {
    MIXPREC_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      if (v >= args.count) continue;
      Pack<T, kChunk> x;
      load_chunk(vectors + v * args.vector_stride + at * args.vector_k_stride, args.vector_k_stride,
                 valid, args.vectors_wide, x);
      MIXPREC_UNROLL
      for (int i = 0; i < kChunk; ++i) {
        const float factor = operand_value<kRounds>(x[i], args.precision);
        MIXPREC_UNROLL
        for (int r = 0; r < kRows; ++r) {
          sums[v][r] += operand_value<kRounds>(chunks[r][i], args.precision) * factor;
        }
      }
    }
  };
  const auto row_at = [&](int r) {
    // Rows past the end read the last one again, and are dropped.
    return matrix + (r < rows ? r : rows - 1) * args.line_stride;
  };
  if (args.matrix_wide) {
    for (; k + (kAtOnce - 1) * step + kChunk <= k_end; k += kAtOnce * step) {
      Pack<T, kChunk> chunks[kAtOnce][kRows];
      MIXPREC_UNROLL
      for (int u = 0; u < kAtOnce; ++u) {
        MIXPREC_UNROLL
        for (int r = 0; r < kRows; ++r) {
          chunks[u][r] = ptx::ld_pack<kChunk>(row_at(r) + k + u * step);
        }
      }
      MIXPREC_UNROLL
      for (int u = 0; u < kAtOnce; ++u) add(chunks[u], k + u * step, kChunk);
    }
  }
  for (; k < k_end; k += step) {
    const int valid = k_end - k < kChunk ? static_cast<int>(k_end - k) : kChunk;
    Pack<T, kChunk> chunks[kRows];
    MIXPREC_UNROLL
    for (int r = 0; r < kRows; ++r) {
      load_chunk(row_at(r) + k * args.chunk_stride, args.chunk_stride, valid, args.matrix_wide,
                 chunks[r]);
    }
    add(chunks, k, valid);
  }
}

// Adds, to the sums of a chunk of columns, the products of every step-th k.
template <bool kRounds, class T, int kVectors, int kAtOnce, int kChunk>
MIXPREC_DEVICE void add_columns(const GemvArgs& args, const T* matrix, const T* vectors, int valid,
                                int64_t k, int64_t k_end, int64_t step,
                                float (&sums)[kVectors][kChunk]) {
  const auto add = [&](const Pack<T, kChunk>& chunk, int64_t at) {
    MIXPREC_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      if (v >= args.count) continue;
      const float factor = operand_value<kRounds>(
          ptx::ld(vectors + v * args.vector_stride + at * args.vector_k_stride), args.precision);
      MIXPREC_UNROLL
      for (int i = 0; i < kChunk; ++i) {
        sums[v][i] += operand_value<kRounds>(chunk[i], args.precision) * factor;
      }
    }
  };
  const bool wide = args.matrix_wide && valid == kChunk;
  if (wide) {
    for (; k + (kAtOnce - 1) * step < k_end; k += kAtOnce * step) {
      Pack<T, kChunk> chunks[kAtOnce];
      MIXPREC_UNROLL
      for (int u = 0; u < kAtOnce; ++u) {
        chunks[u] = ptx::ld_pack<kChunk>(matrix + (k + u * step) * args.line_stride);
      }
      MIXPREC_UNROLL
      for (int u = 0; u < kAtOnce; ++u) add(chunks[u], k + u * step);
    }
  }
  for (; k < k_end; k += step) {
    Pack<T, kChunk> chunk;
    load_chunk(matrix + k * args.line_stride, 1, valid, wide, chunk);
    add(chunk, k);
  }
}

}  // namespace mixprec::cuda::gemv
