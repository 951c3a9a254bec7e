// Copies, casts, fills and the in-place sum of gradients.

#include <algorithm>

#include "cpu_backend.h"
#include "simd/kernels.h"
#include "strided.h"
#include "thread_pool.h"

namespace mixprec::cpu {
namespace {

constexpr int64_t kGrain = 1 << 15;
constexpr int64_t kBlock = 1024;

}  // namespace

void CpuBackend::cast(const OpCall& call) { copy_elements(call.out(), call.in(0)); }

void CpuBackend::copy_into(const OpCall& call) {
  const Tensor& destination = call.in(0);
  const Tensor& source = call.in(1);
  // Overlapping memory would be read after it was written.
  if (source.storage.get() == destination.storage.get()) {
    Tensor copy = allocate_tensor(*this, source.dtype, source.shape, source.rank);
    copy_elements(copy, source);
    copy_elements(destination, copy);
  } else {
    copy_elements(destination, source);
  }
}

void CpuBackend::fill(const OpCall& call) {
  const double value = call.attr(0);
  alignas(8) char element[8];
  simd().convert(&value, DType::kFloat64, element, call.in(0).dtype, 1);
  Tensor source;
  source.data = element;
  source.dtype = call.in(0).dtype;
  copy_elements(call.in(0), source);
}

void CpuBackend::arange(const OpCall& call) {
  const Tensor& out = call.out();
  const double start = call.attr(0);
  const double step = call.attr(1);
  parallel_for(out.numel(), kGrain, [&](int64_t begin, int64_t end) {
    double block[kBlock];
    for (int64_t at = begin; at < end; at += kBlock) {
      const int64_t count = std::min(kBlock, end - at);
      for (int64_t i = 0; i < count; ++i) block[i] = start + step * static_cast<double>(at + i);
      char* target = out.as<char>() + at * static_cast<int64_t>(item_size(out.dtype));
      simd().convert(block, DType::kFloat64, target, out.dtype, count);
    }
  });
}

void CpuBackend::accumulate(const OpCall& call) {
  const Tensor& destination = call.in(0);
  check(destination.is_contiguous(), "accumulate needs a dense destination");
  const Tensor source = contiguous_as(*this, call.in(1), destination.dtype);
  check(source.numel() == destination.numel(), "accumulate got two sizes");
  const auto item = static_cast<int64_t>(item_size(destination.dtype));
  parallel_for(destination.numel(), kGrain, [&](int64_t begin, int64_t end) {
    char* to = destination.as<char>() + begin * item;
    const char* from = source.as<char>() + begin * item;
    simd().binary(BinaryOp::add, destination.dtype, to, false, from, false, to, end - begin);
  });
}

}  // namespace mixprec::cpu
