// Patches of images as columns and back, what a convolution is made of together with a product.
// fold is the transpose of unfold: it adds, in float32 for 16-bit floats, in a fixed order.

#include <algorithm>

#include "along_dim.h"
#include "core/windows.h"
#include "cpu_backend.h"
#include "row_io.h"
#include "strided.h"
#include "thread_pool.h"

namespace mixprec::cpu {
namespace {

// The windows [first, last) whose element `at` lies in the image.
void windows_inside(const WindowAxis& axis, int64_t at, int64_t* first, int64_t* last) {
  const int64_t start = at * axis.dilation - axis.padding;
  *first = start >= 0 ? 0 : std::min(axis.windows, (-start + axis.stride - 1) / axis.stride);
  *last =
      start >= axis.size ? 0 : std::min(axis.windows, (axis.size - 1 - start) / axis.stride + 1);
  *last = std::max(*first, *last);
}

// The column of one tap (kernel row and column) of one plane.
template <class T>
void unfold_tap(const Windows& at, const T* plane, int64_t tap, T* out) {
  const int64_t tap_row = tap / at.columns.kernel;
  const int64_t tap_column = tap % at.columns.kernel;
  const int64_t width = at.columns.windows;
  int64_t first = 0;
  int64_t last = 0;
  windows_inside(at.columns, tap_column, &first, &last);
  for (int64_t window = 0; window < at.rows.windows; ++window, out += width) {
    const int64_t row = at.rows.position(window, tap_row);
    if (row < 0 || row >= at.rows.size || first == last) {
      std::fill_n(out, width, T{0});
      continue;
    }
    const T* from = plane + row * at.columns.size + at.columns.position(first, tap_column);
    std::fill_n(out, first, T{0});
    if (at.columns.stride == 1) {
      std::copy_n(from, last - first, out + first);
    } else {
      for (int64_t i = first; i < last; ++i, from += at.columns.stride) out[i] = *from;
    }
    std::fill_n(out + last, width - last, T{0});
  }
}

template <class T>
void unfold_all(const Windows& at, const Tensor& image, const Tensor& patches) {
  const T* from = image.as<T>();
  T* to = patches.as<T>();
  const int64_t taps = at.taps();
  parallel_for(at.planes * taps, row_grain(at.length()), [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      unfold_tap(at, from + task / taps * at.plane_size(), task % taps, to + task * at.length());
    }
  });
}

// Adds the column of one tap to the plane.
template <class T>
void fold_tap(const Windows& at, const T* column, int64_t tap, T* plane) {
  const int64_t tap_row = tap / at.columns.kernel;
  const int64_t tap_column = tap % at.columns.kernel;
  const int64_t stride = at.columns.stride;
  int64_t first = 0;
  int64_t last = 0;
  windows_inside(at.columns, tap_column, &first, &last);
  if (first == last) return;
  for (int64_t window = 0; window < at.rows.windows; ++window) {
    const int64_t row = at.rows.position(window, tap_row);
    if (row < 0 || row >= at.rows.size) continue;
    const T* from = column + window * at.columns.windows + first;
    T* to = plane + row * at.columns.size + at.columns.position(first, tap_column);
    for (int64_t i = 0; i < last - first; ++i) to[i * stride] += from[i];
  }
}

template <class T>
void fold_all(const Windows& at, const Tensor& patches, const Tensor& image) {
  const RowReader<T> input(patches, at.length());
  const RowWriter<T> output(image, at.plane_size());
  const int64_t taps = at.taps();
  const int64_t work = std::max(at.plane_size(), taps * at.length());
  parallel_for(at.planes, row_grain(work), [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; ++plane) {
      T* to = output.row(plane, 1);
      std::fill_n(to, at.plane_size(), T{0});
      for (int64_t tap = 0; at.length() > 0 && tap < taps; ++tap) {
        fold_tap(at, input.row(plane * taps + tap, 0), tap, to);
      }
      output.commit(plane, to, 1);
    }
  });
}

}  // namespace

void CpuBackend::unfold(const OpCall& call) {
  const Windows windows(call, call.in(0), call.out());
  check(call.in(0).dtype == call.out().dtype, "unfold keeps the dtype");
  if (call.out().numel() == 0) return;
  const Tensor image = contiguous(*this, call.in(0));
  by_size(image.dtype, [&]<class T>(T) { unfold_all<T>(windows, image, call.out()); });
}

void CpuBackend::fold(const OpCall& call) {
  const Windows windows(call, call.out(), call.in(0));
  if (call.out().numel() == 0) return;
  by_arithmetic(call.out().dtype,
                [&]<class T>(T) { fold_all<T>(windows, call.in(0), call.out()); });
}

}  // namespace mixprec::cpu
