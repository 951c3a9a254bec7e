// Joining tensors, and selecting from them by index.

#include "core/along_dim.h"
#include "core/concat.h"
#include "cuda/tensors.h"
#include "indices.h"
#include "layout.h"
#include "quotient.h"
#include "units.h"

namespace mixprec::cuda {
namespace {

// For an index that selects nothing, but has to be in range.
__global__ void __launch_bounds__(kIndexThreads)
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
__global__ void __launch_bounds__(kIndexThreads) take_rows(MIXPREC_GRID_CONSTANT(TakeArgs) args) {
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
    return launch<check_index>(backend.config(n, kIndexThreads), index.as<const int64_t>(), n,
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
    launch<take_rows<typename decltype(tag)::type>>(backend.config(args.units, kIndexThreads),
                                                    args);
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
__global__ void __launch_bounds__(kIndexThreads)
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

}  // namespace

void CudaBackend::cat(const OpCall& call) {
  run_cat(call, [&](const Tensor& part, const Tensor& x) { copy_elements(*this, part, x); });
}

void CudaBackend::index_select(const OpCall& call) {
  take(*this, call, AlongDim(call.in(0), static_cast<int32_t>(call.int_attr(0))));
}

void CudaBackend::embedding(const OpCall& call) {
  check(call.in(0).rank == 2, "embedding takes a weight of two dimensions");
  take(*this, call, AlongDim(call.in(0), 0));
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
      launch<gather_elements<Unit>>(config(args.layout.numel, kIndexThreads), args);
    }
  });
}

}  // namespace mixprec::cuda
