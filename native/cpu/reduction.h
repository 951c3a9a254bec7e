// Reduction of any set of dimensions of a tensor of any strides. Where the reduced elements lie
// side by side each output is a sum over rows; where the kept ones do, whole blocks of outputs are
// accumulated at once. Long reductions are cut into parts by their size alone, never by threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "row_io.h"
#include "simd/rows.h"
#include "thread_pool.h"

namespace mixprec::cpu {

inline constexpr int64_t kReduceColumns = 1024;  // outputs accumulated at once
inline constexpr int64_t kReduceColumnRows =
    128;                                         // rows added up before they are added to the total
inline constexpr int64_t kReduceRun = 4096;      // elements of a row per call of a kernel
inline constexpr int64_t kReduceBlock = 1024;    // elements converted at a time
inline constexpr int64_t kReducePart = 1 << 14;  // smallest part of a reduction that is cut
inline constexpr int64_t kReduceTasks = 64;  // outputs, or blocks of them, that occupy all threads

// Which element goes where.
struct ReduceLayout {
  // Dimensions that stay, outermost first: where their elements are, and where their results go.
  int32_t kept_rank = 0;
  int64_t kept_shape[kMaxRank];
  int64_t kept_strides[kMaxRank];
  int64_t result_strides[kMaxRank];
  // The reduced dimensions, as a tensor at the first element.
  Tensor reduced;
  int64_t outputs = 1;
  int64_t count = 1;  // elements per output
  bool columns = false;

  ReduceLayout(const Tensor& x, int64_t dims);
  // Moves the kept dimension whose elements are closest together to the end.
  void choose_columns();
  // Offsets, in elements, of output `index` (over the first `rank` kept dimensions).
  void offsets(int64_t index, int32_t rank, int64_t* element, int64_t* result) const {
    *element = 0;
    *result = 0;
    for (int32_t dim = rank - 1; dim >= 0; --dim) {
      const int64_t at = index % kept_shape[dim];
      index /= kept_shape[dim];
      *element += at * kept_strides[dim];
      *result += at * result_strides[dim];
    }
  }
};

// `count` elements `stride` apart as a dense block of A: in place, or in `block`.
template <class A>
const A* load_block(const char* address, DType dtype, int64_t stride, int64_t count, A* block) {
  if (stride == 1) {
    if (dtype == kArithmeticDType<A>) return reinterpret_cast<const A*>(address);
    simd().convert(address, dtype, block, kArithmeticDType<A>, count);
    return block;
  }
  alignas(64) char gathered[kReduceBlock * 8];
  Tensor run;
  run.data = const_cast<char*>(address);
  run.dtype = dtype;
  run.rank = 1;
  run.shape[0] = count;
  run.strides[0] = stride;
  const bool same = dtype == kArithmeticDType<A>;
  StridedRange(run).read(0, count, same ? static_cast<void*>(block) : gathered);
  if (!same) simd().convert(gathered, dtype, block, kArithmeticDType<A>, count);
  return block;
}

inline Tensor at_offset(const Tensor& tensor, int64_t offset) {
  Tensor moved = tensor;
  moved.data = tensor.as<char>() + offset * static_cast<int64_t>(item_size(tensor.dtype));
  return moved;
}

// One output's share [begin, end) of the reduced elements.
template <class A>
A reduce_row(const Tensor& reduced, int64_t begin, int64_t end, const Reduction<A>& op, A shift) {
  alignas(64) A block[kReduceBlock];
  A total = op.identity;
  const StridedRange range(reduced);
  const auto item = static_cast<int64_t>(item_size(reduced.dtype));
  range.for_each_run(begin, end - begin, [&](const char* address, int64_t stride, int64_t count) {
    const bool in_place = stride == 1 && reduced.dtype == kArithmeticDType<A>;
    const int64_t step = in_place ? kReduceRun : kReduceBlock;
    for (int64_t at = 0; at < count; at += step) {
      const int64_t length = std::min(step, count - at);
      const A* values =
          load_block(address + at * stride * item, reduced.dtype, stride, length, block);
      const A part = op.row(values, length, shift);
      op.merge(&total, &part, nullptr, 1);
    }
  });
  return total;
}

template <class A>
void reduce_rows(const ReduceLayout& layout, const Reduction<A>& op, const A* shifts, A* results) {
  int64_t parts = 1;
  if (layout.outputs < kReduceTasks) {
    parts = std::clamp<int64_t>(layout.count / kReducePart, 1, 256);
  }
  const int64_t part = (layout.count + parts - 1) / parts;
  std::vector<A> partial(static_cast<size_t>(parts > 1 ? parts * layout.outputs : 0));
  const int64_t grain = std::max<int64_t>(1, kReducePart / std::max<int64_t>(part, 1));
  parallel_for(layout.outputs * parts, grain, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t output = task / parts;
      const int64_t first = task % parts * part;
      int64_t element = 0;
      int64_t result = 0;
      layout.offsets(output, layout.kept_rank, &element, &result);
      const A shift = shifts == nullptr ? A{0} : shifts[result];
      const A value = reduce_row(at_offset(layout.reduced, element), std::min(first, layout.count),
                                 std::min(layout.count, first + part), op, shift);
      if (parts > 1) {
        partial[static_cast<size_t>(task)] = value;
      } else {
        results[result] = value;
      }
    }
  });
  if (parts == 1) return;
  for (int64_t output = 0; output < layout.outputs; ++output) {
    int64_t element = 0;
    int64_t result = 0;
    layout.offsets(output, layout.kept_rank, &element, &result);
    A total = op.identity;
    for (int64_t p = 0; p < parts; ++p) {
      op.merge(&total, &partial[static_cast<size_t>(output * parts + p)], nullptr, 1);
    }
    results[result] = total;
  }
}

// A block of outputs' share [begin, end) of the reduced elements.
template <class A>
void reduce_block(const Tensor& reduced, int64_t stride, int64_t width, int64_t begin, int64_t end,
                  const Reduction<A>& op, const A* shifts, A* totals) {
  alignas(64) A sums[kReduceColumns];
  alignas(64) A block[kReduceColumns];
  const StridedRange range(reduced);
  const auto item = static_cast<int64_t>(item_size(reduced.dtype));
  std::fill_n(totals, width, op.identity);
  std::fill_n(sums, width, op.identity);
  int64_t pending = 0;
  range.for_each_run(begin, end - begin, [&](const char* address, int64_t step, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const char* row = address + i * step * item;
      op.columns(sums, load_block(row, reduced.dtype, stride, width, block), shifts, width);
      if (++pending < kReduceColumnRows) continue;
      op.merge(totals, sums, nullptr, width);
      std::fill_n(sums, width, op.identity);
      pending = 0;
    }
  });
  if (pending > 0) op.merge(totals, sums, nullptr, width);
}

template <class A>
void reduce_columns(const ReduceLayout& layout, const Reduction<A>& op, const A* shifts,
                    A* results) {
  static_assert(kReduceColumns <= kReduceBlock, "load_block takes at most kReduceBlock elements");
  const int32_t inner = layout.kept_rank - 1;
  const int64_t width = layout.kept_shape[inner];
  const int64_t stride = layout.kept_strides[inner];
  const int64_t result_stride = layout.result_strides[inner];
  const int64_t blocks = (width + kReduceColumns - 1) / kReduceColumns;
  const int64_t tasks = layout.outputs / width * blocks;
  int64_t parts = 1;
  if (tasks < kReduceTasks) {
    const int64_t useful = layout.count * std::min(width, kReduceColumns) / kReducePart;
    parts = std::clamp<int64_t>(useful, 1, std::min(kReduceTasks / tasks, layout.count));
  }
  const int64_t part = (layout.count + parts - 1) / parts;
  // Of each task, the totals of its parts.
  std::vector<A> partial(static_cast<size_t>(parts > 1 ? tasks * parts * kReduceColumns : 0));
  const auto locate = [&](int64_t task, int64_t* element, int64_t* result) {
    layout.offsets(task / blocks, inner, element, result);
    const int64_t first = task % blocks * kReduceColumns;
    *element += first * stride;
    *result += first * result_stride;
    return std::min(kReduceColumns, width - first);
  };
  const auto put = [&](const A* totals, int64_t result, int64_t columns) {
    for (int64_t i = 0; i < columns; ++i) results[result + i * result_stride] = totals[i];
  };
  const int64_t grain = std::max<int64_t>(
      1, kReducePart / std::max<int64_t>(part * std::min(width, kReduceColumns), 1));
  parallel_for(tasks * parts, grain, [&](int64_t begin, int64_t end) {
    alignas(64) A shift_block[kReduceColumns];
    alignas(64) A totals[kReduceColumns];
    for (int64_t at = begin; at < end; ++at) {
      const int64_t first = at % parts * part;
      int64_t element = 0;
      int64_t result = 0;
      const int64_t columns = locate(at / parts, &element, &result);
      if (shifts != nullptr) {
        for (int64_t i = 0; i < columns; ++i) shift_block[i] = shifts[result + i * result_stride];
      }
      A* target = parts > 1 ? partial.data() + at * kReduceColumns : totals;
      reduce_block(at_offset(layout.reduced, element), stride, columns,
                   std::min(first, layout.count), std::min(layout.count, first + part), op,
                   shift_block, target);
      if (parts == 1) put(totals, result, columns);
    }
  });
  if (parts == 1) return;
  for (int64_t task = 0; task < tasks; ++task) {
    int64_t element = 0;
    int64_t result = 0;
    const int64_t columns = locate(task, &element, &result);
    A* totals = partial.data() + task * parts * kReduceColumns;
    for (int64_t p = 1; p < parts; ++p)
      op.merge(totals, totals + p * kReduceColumns, nullptr, columns);
    put(totals, result, columns);
  }
}

// One result per output, in row-major order.
template <class A>
void reduce(const ReduceLayout& layout, const Reduction<A>& op, const A* shifts, A* results) {
  if (layout.outputs == 0) return;
  if (layout.count == 0) {
    std::fill_n(results, layout.outputs, op.identity);
  } else if (layout.columns) {
    reduce_columns(layout, op, shifts, results);
  } else {
    reduce_rows(layout, op, shifts, results);
  }
}

}  // namespace mixprec::cpu
