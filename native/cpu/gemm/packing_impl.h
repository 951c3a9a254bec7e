// How GEMM's kernels read operands: element types by source, and packing into panels. Part of
// kernels_impl.h.
#pragma once

#include "kernels.h"
#if defined(__AVX512F__)
#include "vector_avx512.h"
#elif defined(__AVX2__)
#include "vector_avx2.h"
#else
#include "vector_portable.h"
#endif

namespace mixprec::cpu {
namespace {

// Calls body with the element type that reads `source`.
template <class V, class Body>
void by_source(Source source, const Body& body) {
  if constexpr (sizeof(typename V::Scalar) == 8) {
    body(ElementF64{});
  } else {
    switch (source) {
      case Source::kFloat32AsTf32:
        return body(ElementF32AsTf32{});
      case Source::kFloat32AsBFloat16:
        return body(ElementF32AsBF16{});
      case Source::kFloat16:
        return body(ElementF16{});
      case Source::kBFloat16:
        return body(ElementBF16{});
      case Source::kFloat32:
      case Source::kFloat64:
        return body(ElementF32{});
    }
  }
}

// A vector of which `Tile` or fewer elements count. What is written past them is overwritten by the
// next k, unless this is the last one of its panel.
template <class V>
void store_part(typename V::Scalar* to, typename V::Reg value, int count, bool last) {
  if (last && count < V::kWidth) {
    V::store_first(to, value, count);
  } else {
    V::store(to, value);
  }
}

// For extent_stride 1: rows of the source, a few at a time so that their pages stay at hand.
template <class V, class E, int Tile>
void pack_rows(const typename E::Storage* source, int64_t k_stride, int64_t extent, int64_t k,
               typename V::Scalar* panels) {
  constexpr int64_t kGroup = 8;
  for (int64_t p0 = 0; p0 < k; p0 += kGroup) {
    const int64_t p1 = p0 + kGroup < k ? p0 + kGroup : k;
    for (int64_t i = 0; i < extent; i += Tile) {
      typename V::Scalar* to = panels + i * k + p0 * Tile;
      const auto* from = source + i + p0 * k_stride;
      const int64_t left = extent - i;
      for (int64_t p = p0; p < p1; ++p, to += Tile, from += k_stride) {
#pragma GCC unroll 2
        for (int at = 0; at < Tile; at += V::kWidth) {
          const int room = Tile - at < V::kWidth ? Tile - at : V::kWidth;
          const int64_t count = left - at;
          typename V::Reg value = V::zero();
          if (count >= V::kWidth && room == V::kWidth) {
            __builtin_prefetch(from + at + kGroup * k_stride);
            value = E::load(from + at);
          } else if (count > 0) {
            value = E::load_first(from + at, count < room ? static_cast<int>(count) : room);
          }
          store_part<V>(to + at, value, room, p + 1 == k);
        }
      }
    }
  }
}

// For k_stride 1: squares of the source, transposed in registers.
template <class V, class E, int Tile>
void pack_columns(const typename E::Storage* source, int64_t extent_stride, int64_t extent,
                  int64_t k, typename V::Scalar* panels) {
  constexpr int kWidth = V::kWidth;
  for (int64_t i = 0; i < extent; i += Tile) {
    typename V::Scalar* panel = panels + i * k;
    for (int64_t p = 0; p < k; p += kWidth) {
      const int depth = k - p < kWidth ? static_cast<int>(k - p) : kWidth;
      // The last part first: what it writes past the tile is overwritten by the first.
      for (int at = (Tile - 1) / kWidth * kWidth; at >= 0; at -= kWidth) {
        const int room = Tile - at < kWidth ? Tile - at : kWidth;
        const int64_t left = extent - i - at;
        const auto* from = source + (i + at) * extent_stride + p;
        typename V::Scalar* to = panel + p * Tile + at;
        typename V::Reg square[kWidth];
        if (left >= room && depth == kWidth) {
#pragma GCC unroll 16
          for (int r = 0; r < kWidth; ++r) {
            square[r] = V::zero();
            if (r >= room) continue;
            square[r] = E::load(from + r * extent_stride);
            __builtin_prefetch(from + (r + Tile) * extent_stride, 0, 2);  // for the next panel
          }
          V::transpose(square);
          const bool last = p + kWidth == k;
#pragma GCC unroll 16
          for (int c = 0; c < kWidth; ++c) {
            store_part<V>(to + c * Tile, square[c], room, last && c == kWidth - 1);
          }
        } else {
          for (int r = 0; r < kWidth; ++r) {
            square[r] =
                r < room && r < left ? E::load_first(from + r * extent_stride, depth) : V::zero();
          }
          V::transpose(square);
          for (int c = 0; c < depth; ++c) V::store_first(to + c * Tile, square[c], room);
        }
      }
    }
  }
}

template <class V, class E>
void read_one(const typename E::Storage* from, typename V::Scalar* to) {
  V::store_first(to, E::load_first(from, 1), 1);
}

template <class V, class E, int Tile>
void pack_elements(const typename E::Storage* source, int64_t extent_stride, int64_t k_stride,
                   int64_t extent, int64_t k, typename V::Scalar* panels) {
  for (int64_t i = 0; i < extent; i += Tile) {
    for (int64_t p = 0; p < k; ++p) {
      for (int at = 0; at < Tile; ++at) {
        typename V::Scalar* to = panels + i * k + p * Tile + at;
        *to = 0;
        if (i + at < extent) read_one<V, E>(source + (i + at) * extent_stride + p * k_stride, to);
      }
    }
  }
}

template <class V, int Tile>
void pack(const PanelSource& source, int64_t extent, int64_t k, typename V::Scalar* panels) {
  by_source<V>(source.source, [&](auto element) {
    using E = decltype(element);
    const auto* data = reinterpret_cast<const typename E::Storage*>(source.data);
    if (source.extent_stride == 1) {
      pack_rows<V, E, Tile>(data, source.k_stride, extent, k, panels);
    } else if (source.k_stride == 1) {
      pack_columns<V, E, Tile>(data, source.extent_stride, extent, k, panels);
    } else {
      pack_elements<V, E, Tile>(data, source.extent_stride, source.k_stride, extent, k, panels);
    }
  });
}

}  // namespace
}  // namespace mixprec::cpu
