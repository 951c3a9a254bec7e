// Joining, selecting and adding whole rows by index. Sums at one place are made in the order of the
// index by one thread, in float32 for 16-bit floats, and rounded once.

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>
#include <vector>

#include "along_dim.h"
#include "core/concat.h"
#include "cpu_backend.h"
#include "row_io.h"
#include "simd/kernels.h"
#include "strided.h"
#include "thread_pool.h"

namespace mixprec::cpu {
namespace {

constexpr int64_t kGrain = 1 << 14;  // elements worth a thread
constexpr int64_t kColumns = 1024;   // elements summed at once

void check_indices(const int64_t* index, int64_t count, int64_t bound) {
  const auto good = [=](int64_t value) {
    return static_cast<uint64_t>(value) < static_cast<uint64_t>(bound);
  };
  std::atomic<bool> all_good{true};
  parallel_for(count, kGrain, [&](int64_t begin, int64_t end) {
    bool bad = false;
    for (int64_t i = begin; i < end; ++i) bad |= !good(index[i]);
    if (bad) all_good.store(false, std::memory_order_relaxed);
  });
  if (all_good.load()) return;
  const int64_t position = std::find_if_not(index, index + count, good) - index;
  const std::string expected = bound == 0 ? "none, the dimension is empty"
                                          : "0 to " + std::to_string(bound - 1) +
                                                " (the dimension is " + std::to_string(bound) + ")";
  throw Error(ErrorCode::kArgument, "index out of range — expected " + expected + ", got " +
                                        std::to_string(index[position]) + " at position " +
                                        std::to_string(position));
}

}  // namespace

Tensor checked_indices(Backend& backend, const Tensor& index, int64_t bound) {
  check(index.dtype == DType::kInt64, "indices must be int64");
  Tensor dense = contiguous(backend, index);
  check_indices(dense.as<int64_t>(), dense.numel(), bound);
  return dense;
}

namespace {

template <class T>
void take_elements(const char* source, const int64_t* index, int64_t count, char* out) {
  const T* from = reinterpret_cast<const T*>(source);
  T* to = reinterpret_cast<T*>(out);
  for (int64_t i = 0; i < count; ++i) to[i] = from[index[i]];
}

// x [outer, extent, inner], index [n] -> out [outer, n, inner].
void take(Backend& backend, const Tensor& x, const Tensor& index_tensor, const AlongDim& layout,
          const Tensor& out) {
  const Tensor dense_index = checked_indices(backend, index_tensor, layout.extent);
  const int64_t* index = dense_index.as<int64_t>();
  const int64_t n = dense_index.numel();
  const int64_t inner = layout.inner;
  check(out.dtype == x.dtype && out.numel() == layout.outer * n * inner,
        "a selection got an output of another size");
  if (out.numel() == 0) return;
  const StridedRange source(x);
  const auto item = static_cast<int64_t>(item_size(x.dtype));
  if (inner == 1 && source.dense()) {
    parallel_for(layout.outer * n, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t at = begin; at < end;) {
        const int64_t row = at / n;
        const int64_t count = std::min(end, (row + 1) * n) - at;
        by_size(x.dtype, [&]<class T>(T) {
          take_elements<T>(source.at(row * layout.extent), index + at % n, count,
                           out.as<char>() + at * item);
        });
        at += count;
      }
    });
    return;
  }
  parallel_for(layout.outer * n, row_grain(inner), [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; ++at) {
      const int64_t first = (at / n * layout.extent + index[at % n]) * inner;
      char* target = out.as<char>() + at * inner * item;
      if (source.dense()) {
        std::memcpy(target, source.at(first), static_cast<size_t>(inner * item));
      } else {
        source.read(first, inner, target);
      }
    }
  });
}

// The positions of each value of an index, in their order: those of value v are
// positions[starts[v]] up to positions[starts[v + 1]].
struct Buckets {
  std::vector<int64_t> starts;
  std::vector<int64_t> positions;

  Buckets(const int64_t* index, int64_t count, int64_t bound, int64_t skipped)
      : starts(static_cast<size_t>(bound) + 1, 0) {
    for (int64_t i = 0; i < count; ++i) {
      if (index[i] != skipped) ++starts[static_cast<size_t>(index[i]) + 1];
    }
    for (size_t v = 1; v < starts.size(); ++v) starts[v] += starts[v - 1];
    positions.resize(static_cast<size_t>(starts.back()));
    std::vector<int64_t> next(starts.begin(), starts.end() - 1);
    for (int64_t i = 0; i < count; ++i) {
      if (index[i] == skipped) continue;
      positions[static_cast<size_t>(next[static_cast<size_t>(index[i])]++)] = i;
    }
  }
};

// Sums `count` rows, whose first elements are at rows + positions[i] * row_bytes, into `out`.
void sum_rows(const char* rows, int64_t row_bytes, const int64_t* positions, int64_t count,
              DType dtype, int64_t width, char* out) {
  const auto row = [&](int64_t i) { return rows + positions[i] * row_bytes; };
  if (!is_half_width(dtype) || count == 1) {
    std::memcpy(out, row(0), static_cast<size_t>(width) * item_size(dtype));
    for (int64_t i = 1; i < count; ++i) {
      simd().binary(BinaryOp::add, dtype, out, false, row(i), false, out, width);
    }
    return;
  }
  alignas(64) float total[kColumns];
  alignas(64) float term[kColumns];
  simd().convert(row(0), dtype, total, DType::kFloat32, width);
  for (int64_t i = 1; i < count; ++i) {
    simd().convert(row(i), dtype, term, DType::kFloat32, width);
    simd().binary(BinaryOp::add, DType::kFloat32, total, false, term, false, total, width);
  }
  simd().convert(total, DType::kFloat32, out, dtype, width);
}

// source [outer, n, inner], index [n] -> out [outer, extent, inner]: each row of `out` is the sum
// of those that point at it; `skipped` points nowhere.
void add_by_index(Backend& backend, const Tensor& source_tensor, const Tensor& index_tensor,
                  const AlongDim& layout, int64_t skipped, const Tensor& out) {
  const Tensor index = checked_indices(backend, index_tensor, layout.extent);
  const int64_t n = index.numel();
  const int64_t inner = layout.inner;
  check(source_tensor.dtype == out.dtype && source_tensor.numel() == layout.outer * n * inner,
        "a sum by index got a source of another size or dtype");
  if (out.numel() == 0) return;
  const Tensor source = contiguous(backend, source_tensor);
  const Buckets buckets(index.as<int64_t>(), n, layout.extent, skipped);
  const auto item = static_cast<int64_t>(item_size(out.dtype));
  const int64_t row_bytes = inner * item;
  // Few rows may have many terms each: then their columns are shared out as well.
  const int64_t rows = layout.outer * layout.extent;
  const int64_t widest = rows < 64 ? std::max<int64_t>(64, inner / 16) : inner;
  const int64_t width = std::min({widest, inner, kColumns});
  const int64_t blocks = (inner + width - 1) / width;
  const int64_t terms = 1 + n / layout.extent;
  parallel_for(rows * blocks, row_grain(width * terms), [&](int64_t begin, int64_t end) {
    // Most rows of an embedding's gradient are 0: tasks that follow one another do so in memory,
    // and a long run is cleared at once, which spares the processor reading it first.
    char* zeros = nullptr;
    int64_t zero_bytes = 0;
    const auto clear = [&] {
      if (zero_bytes > 0) std::memset(zeros, 0, static_cast<size_t>(zero_bytes));
      zero_bytes = 0;
    };
    for (int64_t task = begin; task < end; ++task) {
      const int64_t row = task / blocks;
      const int64_t first = task % blocks * width;
      const int64_t count = std::min(width, inner - first);
      const auto value = static_cast<size_t>(row % layout.extent);
      const int64_t start = buckets.starts[value];
      const int64_t pointing = buckets.starts[value + 1] - start;
      char* target = out.as<char>() + row * row_bytes + first * item;
      if (pointing == 0) {
        if (zero_bytes == 0) zeros = target;
        zero_bytes += count * item;
        continue;
      }
      clear();
      sum_rows(source.as<char>() + row / layout.extent * n * row_bytes + first * item, row_bytes,
               buckets.positions.data() + start, pointing, out.dtype, count, target);
    }
    clear();
  });
}

}  // namespace

void CpuBackend::cat(const OpCall& call) {
  run_cat(call, [](const Tensor& part, const Tensor& x) { copy_elements(part, x); });
}

void CpuBackend::index_select(const OpCall& call) {
  const AlongDim layout(call.in(0), static_cast<int32_t>(call.int_attr(0)));
  take(*this, call.in(0), call.in(1), layout, call.out());
}

void CpuBackend::index_add(const OpCall& call) {
  const AlongDim layout(call.out(), static_cast<int32_t>(call.int_attr(0)));
  add_by_index(*this, call.in(0), call.in(1), layout, -1, call.out());
}

void CpuBackend::embedding(const OpCall& call) {
  const Tensor& weight = call.in(0);
  check(weight.rank == 2, "embedding takes a weight of two dimensions");
  take(*this, weight, call.in(1), AlongDim(weight, 0), call.out());
}

void CpuBackend::embedding_grad(const OpCall& call) {
  const Tensor& grad_weight = call.out();
  check(grad_weight.rank == 2, "embedding_grad gives a gradient of two dimensions");
  add_by_index(*this, call.in(0), call.in(1), AlongDim(grad_weight, 0), call.int_attr(0),
               grad_weight);
}

}  // namespace mixprec::cpu
