// Joining, selecting and adding by index. What is added to one place is added by one block, in the
// order of the index for up to as many terms as it has rows of threads, and in one fixed order
// beyond; in float32 for 16-bit floats, rounded once.

#include <algorithm>
#include <bit>

#include "core/along_dim.h"
#include "cuda/cuda_backend.h"
#include "cuda/ptx/barrier.h"
#include "cuda/runtime/error.h"
#include "cuda/tensors.h"
#include "elementwise.h"
#include "key_order.h"
#include "quotient.h"
#include "report.h"
#include "units.h"

namespace mixprec::cuda {
namespace {

constexpr int kThreads = 256;

MIXPREC_DEVICE int64_t thread_of_grid() { return int64_t{blockIdx.x} * kThreads + threadIdx.x; }
MIXPREC_DEVICE int64_t threads_of_grid() { return int64_t{gridDim.x} * kThreads; }

// Reports an index outside [0, bound).
MIXPREC_DEVICE bool index_is_good(int64_t index, int64_t position, int64_t bound,
                                  const ReportSlot& slot) {
  if (static_cast<uint64_t>(index) < static_cast<uint64_t>(bound)) return true;
  report(slot, ReportKind::kIndex, index, position, bound);
  return false;
}

// ---- Selecting ----

// For an index that selects nothing, but has to be in range.
__global__ void __launch_bounds__(kThreads)
    check_index(const int64_t* index, int64_t count, int64_t bound, ReportSlot slot) {
  for (int64_t at = thread_of_grid(); at < count; at += threads_of_grid()) {
    index_is_good(ptx::ld(index + at), at, bound, slot);
  }
}

struct TakeArgs {
  const void* from;
  void* to;
  const int64_t* index;
  int64_t units;   // of the output
  Quotient row;    // by the units of a row
  Quotient count;  // by the length of the index
  int64_t extent;  // rows of the source that the index chooses from
  ReportSlot slot;
};

template <class Unit>
__global__ void __launch_bounds__(kThreads) take_rows(MIXPREC_GRID_CONSTANT(TakeArgs) args) {
  for (int64_t at = thread_of_grid(); at < args.units; at += threads_of_grid()) {
    const int64_t row = args.row.of(at);
    const int64_t outer = args.count.of(row);
    const int64_t position = row - outer * args.count.divisor();
    const int64_t chosen = ptx::ld(args.index + position);
    Unit unit{};
    if (index_is_good(chosen, position, args.extent, args.slot)) {
      const int64_t column = at - row * args.row.divisor();
      const int64_t source = (outer * args.extent + chosen) * args.row.divisor() + column;
      unit = ptx::ld(static_cast<const Unit*>(args.from) + source);
    }
    ptx::st(static_cast<Unit*>(args.to) + at, unit);
  }
}

// x [outer, extent, inner], index [n] -> out [outer, n, inner].
void take(CudaBackend& backend, const OpCall& call, const AlongDim& layout) {
  const Tensor& out = call.out();
  check(call.in(1).dtype == DType::kInt64, "indices must be int64");
  const Tensor index = contiguous(backend, call.in(1));
  const int64_t n = index.numel();
  check(out.dtype == call.in(0).dtype && out.numel() == layout.outer * n * layout.inner,
        "a selection got an output of another size");
  if (n == 0) return;
  const ReportSlot slot = backend.report_slot(call);
  if (out.numel() == 0) {
    return launch<check_index>(backend.config(n, kThreads), index.as<const int64_t>(), n,
                               layout.extent, slot);
  }
  const Tensor x = contiguous(backend, call.in(0));
  const size_t item = item_size(out.dtype);
  const int64_t row_bytes = layout.inner * static_cast<int64_t>(item);
  const size_t unit = widest_unit(item, row_bytes, {x.data, out.data});
  const int64_t row_units = row_bytes / static_cast<int64_t>(unit);
  const int64_t rows = layout.outer * n;
  const TakeArgs args{x.data,
                      out.data,
                      index.as<const int64_t>(),
                      rows * row_units,
                      Quotient(row_units, rows * row_units),
                      Quotient(n, rows),
                      layout.extent,
                      slot};
  by_unit(unit, [&](auto tag) {
    launch<take_rows<typename decltype(tag)::type>>(backend.config(args.units, kThreads), args);
  });
}

struct GatherArgs {
  const void* from;
  void* to;
  const int64_t* index;
  Layout<3> layout;  // over the index: of the output, the index and the source without its dim
  int64_t extent;
  int64_t stride;  // of the source along the dim
  ReportSlot slot;
};

template <class Unit>
__global__ void __launch_bounds__(kThreads)
    gather_elements(MIXPREC_GRID_CONSTANT(GatherArgs) args) {
  for (int64_t at = thread_of_grid(); at < args.layout.numel; at += threads_of_grid()) {
    int64_t offsets[3];
    args.layout.offsets(at, offsets);
    const int64_t chosen = ptx::ld(args.index + offsets[1]);
    Unit unit{};
    if (index_is_good(chosen, at, args.extent, args.slot)) {
      unit = ptx::ld(static_cast<const Unit*>(args.from) + offsets[2] + chosen * args.stride);
    }
    ptx::st(static_cast<Unit*>(args.to) + offsets[0], unit);
  }
}

// `tensor` with the shape of an index: every place along the dim is its first, elsewhere there may
// be fewer.
Tensor seen_by_index(const Tensor& tensor, const Tensor& index, int32_t dim) {
  check(index.dtype == DType::kInt64, "indices must be int64");
  check(index.rank == tensor.rank || index.rank == 0 || tensor.rank == 0,
        "an index of another number of dimensions");
  Tensor seen = tensor;
  seen.rank = index.rank;
  for (int32_t d = 0; d < index.rank; ++d) {
    seen.shape[d] = index.shape[d];
    if (d == dim || tensor.rank == 0) {
      seen.strides[d] = 0;
    } else {
      check(index.shape[d] <= tensor.shape[d], "an index larger than its tensor");
    }
  }
  return seen;
}

// ---- Adding ----

// The key of an element is the row that it is added to; `dropped` for none.
__global__ void __launch_bounds__(kThreads)
    row_keys(const int64_t* index, int64_t count, int64_t bound, int64_t skipped, int64_t* keys,
             ReportSlot slot) {
  for (int64_t at = thread_of_grid(); at < count; at += threads_of_grid()) {
    const int64_t row = ptx::ld(index + at);
    const bool takes_part = index_is_good(row, at, bound, slot) && row != skipped;
    ptx::st(keys + at, takes_part ? row : bound);
  }
}

struct ElementKeysArgs {
  const int64_t* index;
  int64_t* keys;
  Layout<2> layout;  // over the index: of the index, and of the target without its dim
  int64_t extent;
  int64_t stride;  // of the target along the dim
  int64_t dropped;
  ReportSlot slot;
};

// The key of an element is where in the dense target it is added.
__global__ void __launch_bounds__(kThreads)
    element_keys(MIXPREC_GRID_CONSTANT(ElementKeysArgs) args) {
  for (int64_t at = thread_of_grid(); at < args.layout.numel; at += threads_of_grid()) {
    int64_t offsets[2];
    args.layout.offsets(at, offsets);
    const int64_t chosen = ptx::ld(args.index + offsets[0]);
    const bool good = index_is_good(chosen, at, args.extent, args.slot);
    ptx::st(args.keys + at, good ? offsets[1] + chosen * args.stride : args.dropped);
  }
}

constexpr int kColumns = 4;  // a thread

struct SumArgs {
  const int64_t* keys;  // sorted
  const int32_t* positions;
  int64_t count;
  int64_t bound;  // keys from here on are dropped
  const void* source;
  void* out;
  DType dtype;
  int64_t columns;  // outer * inner
  int64_t inner;
  int32_t lanes;     // threads next to each other, a power of two; the others are rows
  int64_t chunks;    // of the columns, of kColumns a lane
  bool accumulates;  // adds to what `out` holds
};

template <class T>
MIXPREC_DEVICE T wrapping_sum(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
  } else {
    return a + b;
  }
}

// The end of the run of equal keys that starts at `first`: most are short.
MIXPREC_DEVICE int64_t run_end(const int64_t* keys, int64_t first, int64_t count, int64_t key) {
  int64_t inside = first;
  int64_t step = 1;
  while (inside + step < count && ptx::ld(keys + inside + step) == key) {
    inside += step;
    step *= 2;
  }
  int64_t outside = inside + step < count ? inside + step : count;
  while (outside - inside > 1) {
    const int64_t middle = inside + (outside - inside) / 2;
    if (ptx::ld(keys + middle) == key) {
      inside = middle;
    } else {
      outside = middle;
    }
  }
  return outside;
}

// source [outer, count, inner] -> out [outer, bound, inner]. A block sums one run of equal keys for
// some columns: its rows of threads take the terms in turn, and their sums are added row by row.
template <class Compute>
__global__ void __launch_bounds__(kThreads) sum_runs(MIXPREC_GRID_CONSTANT(SumArgs) args) {
  MIXPREC_SHARED(partial, Compute[kColumns][kThreads]);
  const int lane = static_cast<int>(threadIdx.x) & (args.lanes - 1);
  const int row = static_cast<int>(threadIdx.x) / args.lanes;
  const int rows = kThreads / args.lanes;
  const int64_t tasks = args.count * args.chunks;
  for (int64_t task = blockIdx.x; task < tasks; task += gridDim.x) {
    const int64_t first = task / args.chunks;
    const int64_t key = ptx::ld(args.keys + first);
    if (key >= args.bound) continue;
    if (first > 0 && ptx::ld(args.keys + first - 1) == key) continue;
    const int64_t end = run_end(args.keys, first, args.count, key);
    const int64_t column = task % args.chunks * (args.lanes * kColumns) + lane;
    int64_t outer[kColumns];
    int64_t at[kColumns];
    Compute sums[kColumns];
    MIXPREC_UNROLL
    for (int j = 0; j < kColumns; ++j) {
      outer[j] = (column + j * args.lanes) / args.inner;
      at[j] = (column + j * args.lanes) - outer[j] * args.inner;
      sums[j] = Compute(-0.0);  // changes nothing that it is added to
    }
    for (int64_t i = first + row; i < end; i += rows) {
      const int64_t position = ptx::ld(args.positions + i);
      MIXPREC_UNROLL
      for (int j = 0; j < kColumns; ++j) {
        if (column + j * args.lanes >= args.columns) continue;
        const int64_t from = (outer[j] * args.count + position) * args.inner + at[j];
        sums[j] =
            wrapping_sum(sums[j], load_vector_element<Compute>(args.source, args.dtype, from));
      }
    }
    const int64_t filled = end - first < rows ? end - first : rows;
    if (filled > 1) {
      MIXPREC_UNROLL
      for (int j = 0; j < kColumns; ++j) partial[j][threadIdx.x] = sums[j];
      ptx::sync_threads();
    }
    if (row == 0) {
      MIXPREC_UNROLL
      for (int j = 0; j < kColumns; ++j) {
        if (column + j * args.lanes >= args.columns) continue;
        const int64_t to = (outer[j] * args.bound + key) * args.inner + at[j];
        if (args.accumulates) {
          sums[j] = wrapping_sum(load_vector_element<Compute>(args.out, args.dtype, to), sums[j]);
        }
        for (int r = 1; r < filled; ++r) {
          sums[j] = wrapping_sum(sums[j], partial[j][r * args.lanes + lane]);
        }
        store_vector_element(args.out, args.dtype, to, sums[j]);
      }
    }
    if (filled > 1) ptx::sync_threads();
  }
}

// Adds the rows of `source` [outer, count, inner] to those of `out` that the sorted keys name.
void add_by_key(CudaBackend& backend, const KeyOrder& order, int64_t bound, const Tensor& source,
                int64_t outer, int64_t inner, bool accumulates, const Tensor& out) {
  const int64_t columns = outer * inner;
  const auto lanes = static_cast<int32_t>(
      std::min<uint64_t>(kWarpLanes, std::bit_ceil(static_cast<uint64_t>(columns))));
  const int64_t chunks = (columns + lanes * kColumns - 1) / (lanes * kColumns);
  const SumArgs args{
      order.sorted_keys(), order.positions(), order.count(), bound, source.data, out.data,
      out.dtype,           columns,           inner,         lanes, chunks,      accumulates};
  const LaunchConfig config = backend.config(order.count() * chunks * kThreads, kThreads);
  by_compute_type(out.dtype,
                  [&](auto tag) { launch<sum_runs<typename decltype(tag)::type>>(config, args); });
}

// source [outer, n, inner], index [n] -> out [outer, extent, inner]; `skipped` points nowhere.
void add_by_index(CudaBackend& backend, const OpCall& call, const AlongDim& layout,
                  int64_t skipped) {
  const Tensor& out = call.out();
  check(call.in(1).dtype == DType::kInt64, "indices must be int64");
  const Tensor index = contiguous(backend, call.in(1));
  const int64_t n = index.numel();
  check(call.in(0).dtype == out.dtype && call.in(0).numel() == layout.outer * n * layout.inner,
        "a sum by index got a source of another size or dtype");
  const size_t bytes = static_cast<size_t>(out.numel()) * item_size(out.dtype);
  if (bytes > 0) require(api::set_bytes(out.data, 0, bytes, backend.stream()), "a fill");
  if (n == 0) return;
  KeyOrder order(backend, n);
  launch<row_keys>(backend.config(n, kThreads), index.as<const int64_t>(), n, layout.extent,
                   skipped, order.keys(), backend.report_slot(call));
  if (bytes == 0) return;
  order.sort(layout.extent);
  const Tensor source = contiguous(backend, call.in(0));
  add_by_key(backend, order, layout.extent, source, layout.outer, layout.inner, false, out);
}

}  // namespace

void CudaBackend::cat(const OpCall& call) {
  const auto dim = static_cast<int32_t>(call.int_attr(0));
  Tensor part = call.out();
  check(dim >= 0 && dim < part.rank, "cat along a dimension that does not exist");
  int64_t position = 0;
  for (int32_t i = 0; i < call.num_inputs; ++i) {
    const Tensor& x = call.in(i);
    if (x.numel() == 0) continue;
    check(x.rank == part.rank, "cat got tensors of different rank");
    part.shape[dim] = x.shape[dim];
    check(position + x.shape[dim] <= call.out().shape[dim], "cat got an output that is too small");
    part.data = call.out().as<char>() +
                position * part.strides[dim] * static_cast<int64_t>(item_size(part.dtype));
    copy_elements(*this, part, x);
    position += x.shape[dim];
  }
  check(call.out().numel() == 0 || position == call.out().shape[dim],
        "cat got an output that is too large");
}

void CudaBackend::index_select(const OpCall& call) {
  take(*this, call, AlongDim(call.in(0), static_cast<int32_t>(call.int_attr(0))));
}

void CudaBackend::embedding(const OpCall& call) {
  check(call.in(0).rank == 2, "embedding takes a weight of two dimensions");
  take(*this, call, AlongDim(call.in(0), 0));
}

void CudaBackend::index_add(const OpCall& call) {
  add_by_index(*this, call, AlongDim(call.out(), static_cast<int32_t>(call.int_attr(0))), -1);
}

void CudaBackend::embedding_grad(const OpCall& call) {
  check(call.out().rank == 2, "embedding_grad gives a gradient of two dimensions");
  add_by_index(*this, call, AlongDim(call.out(), 0), call.int_attr(0));
}

void CudaBackend::gather(const OpCall& call) {
  const Tensor& x = call.in(0);
  const Tensor& index = call.in(1);
  const Tensor& out = call.out();
  const auto dim = static_cast<int32_t>(call.int_attr(0));
  const Tensor seen = seen_by_index(x, index, dim);
  check(out.dtype == x.dtype && out.numel() == index.numel(),
        "gather got an output of another size");
  if (out.numel() == 0) return;
  LayoutBuilder<3> builder(index.shape, index.rank);
  builder.add(0, out);
  builder.add(1, index);
  builder.add(2, seen);
  const GatherArgs args{x.data,
                        out.data,
                        index.as<const int64_t>(),
                        builder.build(),
                        AlongDim(x, dim).extent,
                        x.rank > 0 ? x.strides[dim] : 0,
                        report_slot(call)};
  by_unit(item_size(x.dtype), [&](auto tag) {
    using Unit = typename decltype(tag)::type;
    if constexpr (sizeof(Unit) <= 8) {
      launch<gather_elements<Unit>>(config(args.layout.numel, kThreads), args);
    }
  });
}

void CudaBackend::scatter_add(const OpCall& call) {
  const Tensor& index = call.in(1);
  const Tensor& out = call.out();
  const auto dim = static_cast<int32_t>(call.int_attr(0));
  copy_elements(*this, out, call.in(0));
  const Tensor target = seen_by_index(out, index, dim);
  Tensor part = call.in(2);
  check(part.rank == index.rank || index.numel() <= 1, "a source of another number of dimensions");
  for (int32_t d = 0; d < index.rank && part.rank == index.rank; ++d) {
    check(index.shape[d] <= part.shape[d], "a source smaller than its index");
    part.shape[d] = index.shape[d];
  }
  if (index.numel() == 0) return;
  KeyOrder order(*this, index.numel());
  LayoutBuilder<2> builder(index.shape, index.rank);
  builder.add(0, index);
  builder.add(1, target);
  const ElementKeysArgs args{index.as<const int64_t>(),
                             order.keys(),
                             builder.build(),
                             AlongDim(out, dim).extent,
                             out.rank > 0 ? out.strides[dim] : 0,
                             out.numel(),
                             report_slot(call)};
  launch<element_keys>(config(index.numel(), kThreads), args);
  if (out.numel() == 0) return;
  order.sort(out.numel());
  const Tensor source = contiguous_as(*this, part, out.dtype);
  add_by_key(*this, order, out.numel(), source, 1, 1, true, out);
}

}  // namespace mixprec::cuda
