// Patches of images as columns and back, what a convolution is made of together with a product.
// A thread makes one element of the output: fold collects what lies over its pixel, in float32 for
// 16-bit floats, in the order in which the CPU adds.

#include "core/windows.h"
#include "cuda/tensors.h"
#include "elementwise.h"
#include "quotient.h"
#include "units.h"

namespace mixprec::cuda {
namespace {

constexpr int kThreads = 256;

MIXPREC_DEVICE int64_t thread_of_grid() { return int64_t{blockIdx.x} * kThreads + threadIdx.x; }
MIXPREC_DEVICE int64_t threads_of_grid() { return int64_t{gridDim.x} * kThreads; }

struct WindowArgs {
  Windows at;
  const void* from;
  void* to;
  int64_t count;     // elements of the output
  Quotient plane;    // by the elements of a plane of the output
  Quotient line;     // by the elements of a line in it
  Quotient tap_row;  // by the elements of a row of the window
};

// Columns [planes, taps, length]: a plane of the output is one tap of one image's plane.
template <class Unit>
__global__ void __launch_bounds__(kThreads)
    unfold_elements(MIXPREC_GRID_CONSTANT(WindowArgs) args) {
  const Windows& at = args.at;
  for (int64_t i = thread_of_grid(); i < args.count; i += threads_of_grid()) {
    const int64_t column = args.plane.of(i);  // plane * taps + tap
    const int64_t window = i - column * args.plane.divisor();
    const int64_t window_row = args.line.of(window);
    const int64_t window_column = window - window_row * args.line.divisor();
    const int64_t tap_line = args.tap_row.of(column);  // plane * kernel rows + tap row
    const int64_t tap_column = column - tap_line * at.columns.kernel;
    const int64_t plane = tap_line / at.rows.kernel;
    const int64_t tap_row = tap_line - plane * at.rows.kernel;
    const int64_t y = at.rows.position(window_row, tap_row);
    const int64_t x = at.columns.position(window_column, tap_column);
    Unit unit{};
    if (y >= 0 && y < at.rows.size && x >= 0 && x < at.columns.size) {
      unit = ptx::ld(static_cast<const Unit*>(args.from) + plane * at.plane_size() +
                     y * at.columns.size + x);
    }
    ptx::st(static_cast<Unit*>(args.to) + i, unit);
  }
}

template <class Compute>
__global__ void __launch_bounds__(kThreads)
    fold_elements(MIXPREC_GRID_CONSTANT(WindowArgs) args, DType dtype) {
  const Windows& at = args.at;
  for (int64_t i = thread_of_grid(); i < args.count; i += threads_of_grid()) {
    const int64_t plane = args.plane.of(i);
    const int64_t pixel = i - plane * args.plane.divisor();
    const int64_t y = args.line.of(pixel);
    const int64_t x = pixel - y * args.line.divisor();
    Compute sum = 0;
    for (int64_t tap_row = 0; tap_row < at.rows.kernel; ++tap_row) {
      const int64_t window_row = at.rows.window_at(y, tap_row);
      if (window_row < 0) continue;
      for (int64_t tap_column = 0; tap_column < at.columns.kernel; ++tap_column) {
        const int64_t window_column = at.columns.window_at(x, tap_column);
        if (window_column < 0) continue;
        const int64_t column = plane * at.taps() + tap_row * at.columns.kernel + tap_column;
        const int64_t from = column * at.length() + window_row * at.columns.windows + window_column;
        sum += load_vector_element<Compute>(args.from, dtype, from);
      }
    }
    store_vector_element(args.to, dtype, i, sum);
  }
}

}  // namespace

void CudaBackend::unfold(const OpCall& call) {
  const Tensor& out = call.out();
  const Windows windows(call, call.in(0), out);
  check(call.in(0).dtype == out.dtype, "unfold keeps the dtype");
  const int64_t count = out.numel();
  if (count == 0) return;
  const Tensor image = contiguous(*this, call.in(0));
  const WindowArgs args{windows,
                        image.data,
                        out.data,
                        count,
                        Quotient(windows.length(), count),
                        Quotient(windows.columns.windows, count),
                        Quotient(windows.columns.kernel, count)};
  by_unit(item_size(out.dtype), [&](auto tag) {
    using Unit = typename decltype(tag)::type;
    if constexpr (sizeof(Unit) <= 8) {
      launch<unfold_elements<Unit>>(config(count, kThreads), args);
    }
  });
}

void CudaBackend::fold(const OpCall& call) {
  const Tensor& out = call.out();
  const Windows windows(call, out, call.in(0));
  const int64_t count = out.numel();
  if (count == 0) return;
  check(is_floating(out.dtype), "fold adds floating point");
  const Tensor patches = contiguous_as(*this, call.in(0), out.dtype);
  const WindowArgs args{windows,
                        patches.data,
                        out.data,
                        count,
                        Quotient(windows.plane_size(), count),
                        Quotient(windows.columns.size, count),
                        Quotient()};
  by_compute_type(out.dtype, [&](auto tag) {
    using Compute = typename decltype(tag)::type;
    if constexpr (std::is_floating_point_v<Compute>) {
      launch<fold_elements<Compute>>(config(count, kThreads), args, out.dtype);
    }
  });
}

}  // namespace mixprec::cuda
