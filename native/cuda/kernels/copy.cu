// Copies, casts, fills and the in-place sum of gradients.

#include <cmath>

#include "core/pointwise.h"
#include "cuda/ptx/arithmetic.h"
#include "cuda/runtime/error.h"
#include "cuda/tensors.h"
#include "elementwise.h"
#include "math.h"

namespace mixprec::cuda {
namespace {

constexpr int kThreads = 256;

// Elements that are moved and not computed with: as many bytes at a time as both sides allow.
using Unit16 = Pack<uint64_t, 2>;

struct CopyArgs {
  void* to = nullptr;
  const void* from = nullptr;
  Layout<2> layout;  // in units
};

template <class Unit>
__global__ void __launch_bounds__(kThreads) copy_units(MIXPREC_GRID_CONSTANT(CopyArgs) args) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x; at < args.layout.numel;
       at += step) {
    int64_t offsets[2];
    args.layout.offsets(at, offsets);
    ptx::st(static_cast<Unit*>(args.to) + offsets[0],
            ptx::ld(static_cast<const Unit*>(args.from) + offsets[1]));
  }
}

// Makes a unit of `factor` neighbours, if the layout allows it.
bool widen_units(CopyArgs& args, int64_t factor, size_t unit) {
  Layout<2>& layout = args.layout;
  const size_t bytes = unit * static_cast<size_t>(factor);
  if (layout.rank == 0 || layout.extents[0] % factor != 0) return false;
  if ((reinterpret_cast<uintptr_t>(args.to) | reinterpret_cast<uintptr_t>(args.from)) % bytes !=
      0) {
    return false;
  }
  for (const auto& strides : layout.strides) {
    if (strides[0] != 1) return false;
    for (int32_t dim = 1; dim < layout.rank; ++dim) {
      if (strides[dim] % factor != 0) return false;
    }
  }
  layout.numel /= factor;
  layout.extents[0] /= factor;
  if (!layout.wide) layout.dividers[0] = Divider(static_cast<uint32_t>(layout.extents[0]));
  for (auto& strides : layout.strides) {
    for (int32_t dim = 1; dim < layout.rank; ++dim) strides[dim] /= factor;
  }
  return true;
}

void copy_same_dtype(CudaBackend& backend, const Tensor& destination, const Tensor& source) {
  LayoutBuilder<2> builder(destination.shape, destination.rank);
  builder.add(0, destination);
  builder.add(1, source);
  CopyArgs args{destination.data, source.data, builder.build()};
  size_t unit = item_size(destination.dtype);
  if (args.layout.rank == 0 ||
      (args.layout.rank == 1 && args.layout.strides[0][0] == 1 && args.layout.strides[1][0] == 1)) {
    const size_t bytes = static_cast<size_t>(args.layout.numel) * unit;
    return require(api::copy_on_device(args.to, args.from, bytes, backend.stream()), "a copy");
  }
  for (int64_t factor = static_cast<int64_t>(16 / unit); factor > 1; factor /= 2) {
    if (!widen_units(args, factor, unit)) continue;
    unit *= static_cast<size_t>(factor);
    break;
  }
  const LaunchConfig config = backend.config(args.layout.numel, kThreads);
  switch (unit) {
    case 1:
      return launch<copy_units<uint8_t>>(config, args);
    case 2:
      return launch<copy_units<uint16_t>>(config, args);
    case 4:
      return launch<copy_units<uint32_t>>(config, args);
    case 8:
      return launch<copy_units<uint64_t>>(config, args);
    default:
      return launch<copy_units<Unit16>>(config, args);
  }
}

struct Identity {
  template <class T>
  MIXPREC_DEVICE T operator()(T x) const {
    return x;
  }
};

struct Sum {
  template <class T>
  MIXPREC_DEVICE T operator()(T a, T b) const {
    return binary_value<BinaryOp::add, DeviceMath>(a, b);
  }
};

__global__ void __launch_bounds__(kThreads)
    arange_kernel(void* out, DType dtype, int64_t count, double start, double step) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x; at < count; at += stride) {
    const double value = ptx::add_rn(start, ptx::mul_rn(step, static_cast<double>(at)));
    store_element(out, dtype, at, value);
  }
}

void fill_elements(CudaBackend& backend, const Tensor& out, double value) {
  if (value == 0 && !std::signbit(value) && out.is_contiguous()) {
    const size_t bytes = static_cast<size_t>(out.numel()) * item_size(out.dtype);
    if (bytes == 0) return;
    return require(api::set_bytes(out.data, 0, bytes, backend.stream()), "a fill");
  }
  Elementwise<double, 1> work(backend, out);
  work.scalar(0, value);
  work.run(Identity{});
}

}  // namespace

void copy_elements(CudaBackend& backend, const Tensor& destination, const Tensor& source) {
  if (destination.numel() == 0) return;
  if (destination.dtype == source.dtype) return copy_same_dtype(backend, destination, source);
  by_compute_type(source.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    Elementwise<T, 1> work(backend, destination);
    work.input(0, source, source.dtype);
    work.run(Identity{});
  });
}

void CudaBackend::cast(const OpCall& call) { copy_elements(*this, call.out(), call.in(0)); }

void CudaBackend::copy_into(const OpCall& call) {
  const Tensor& destination = call.in(0);
  const Tensor& source = call.in(1);
  // Overlapping memory would be read after it was written.
  if (source.storage.get() == destination.storage.get()) {
    const Tensor copy = allocate_tensor(*this, source.dtype, source.shape, source.rank);
    copy_elements(*this, copy, source);
    copy_elements(*this, destination, copy);
  } else {
    copy_elements(*this, destination, source);
  }
}

void CudaBackend::fill(const OpCall& call) { fill_elements(*this, call.in(0), call.attr(0)); }

void CudaBackend::arange(const OpCall& call) {
  const Tensor& out = call.out();
  const double start = call.attr(0);
  const double step = call.attr(1);
  if (out.numel() == 0) return;
  if (step == 0) return fill_elements(*this, out, start);
  launch<arange_kernel>(config(out.numel(), kThreads), out.data, out.dtype, out.numel(), start,
                        step);
}

void CudaBackend::accumulate(const OpCall& call) {
  const Tensor& destination = call.in(0);
  check(destination.is_contiguous(), "accumulate needs a dense destination");
  check(call.in(1).numel() == destination.numel(), "accumulate got two sizes");
  by_compute_type(destination.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    Elementwise<T, 2> work(*this, destination);
    work.input(0, destination, destination.dtype);
    work.input(1, call.in(1), destination.dtype);
    work.run(Sum{});
  });
}

}  // namespace mixprec::cuda
