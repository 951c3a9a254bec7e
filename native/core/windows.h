// The geometry of unfold and fold: windows that move over images.
#pragma once

#include <cstdint>

#include "backend.h"
#include "host_device.h"

namespace mixprec {

// One axis of a window that moves over an image.
struct WindowAxis {
  int64_t size;      // of the image
  int64_t kernel;    // elements of the window
  int64_t stride;    // from one window to the next
  int64_t padding;   // of zeros, on both sides
  int64_t dilation;  // from one element of a window to the next
  int64_t windows;

  WindowAxis(const OpCall& call, int32_t axis, int64_t extent)
      : size(extent),
        kernel(call.int_attr(axis)),
        stride(call.int_attr(axis + 2)),
        padding(call.int_attr(axis + 4)),
        dilation(call.int_attr(axis + 6)) {
    check(kernel > 0 && stride > 0 && padding >= 0 && dilation > 0,
          "a window needs a positive size, stride and dilation");
    const int64_t span = size + 2 * padding - dilation * (kernel - 1) - 1;
    windows = span < 0 ? 0 : span / stride + 1;
  }

  // Where in the image element `at` of window `window` lies; outside [0, size) in the padding.
  MIXPREC_HD int64_t position(int64_t window, int64_t at) const {
    return window * stride - padding + at * dilation;
  }
  // The window whose element `at` lies at a position; -1 where there is none.
  MIXPREC_HD int64_t window_at(int64_t position, int64_t at) const {
    const int64_t start = position + padding - at * dilation;
    if (start < 0 || start % stride != 0) return -1;
    const int64_t window = start / stride;
    return window < windows ? window : -1;
  }
};

// An image of N times C planes and its columns [N, C * kh * kw, oh * ow].
struct Windows {
  int64_t planes;  // N * C
  WindowAxis rows;
  WindowAxis columns;

  Windows(const OpCall& call, const Tensor& image, const Tensor& patches)
      : planes(image.shape[0] * image.shape[1]),
        rows(call, 0, image.shape[2]),
        columns(call, 1, image.shape[3]) {
    check(image.rank == 4 && patches.rank == 3, "unfold and fold take [N, C, H, W] images");
    check(patches.shape[0] == image.shape[0] &&
              patches.shape[1] == image.shape[1] * rows.kernel * columns.kernel &&
              patches.shape[2] == rows.windows * columns.windows,
          "unfold and fold got columns of another shape");
  }
  MIXPREC_HD int64_t plane_size() const { return rows.size * columns.size; }
  MIXPREC_HD int64_t taps() const { return rows.kernel * columns.kernel; }
  MIXPREC_HD int64_t length() const { return rows.windows * columns.windows; }
};

}  // namespace mixprec
