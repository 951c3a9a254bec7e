#include "gemm_key.h"

#include <initializer_list>

namespace mixprec::cuda {
namespace {

// The largest power of two up to 16 that divides the addresses.
int64_t alignment(std::initializer_list<const void*> addresses) {
  uintptr_t all = 16;
  for (const void* address : addresses) all |= reinterpret_cast<uintptr_t>(address);
  return static_cast<int64_t>(all & (~all + 1));
}

}  // namespace

GemmKey::GemmKey(const GemmDesc& desc) {
  const GemmEpilogue& epilogue = desc.epilogue;
  const auto flag = [](bool is, int place) { return static_cast<int64_t>(is) << place; };
  size_t at = 0;
  const auto put = [&](int64_t value) { values[at++] = value; };
  for (const int64_t extent : {desc.M, desc.N, desc.K, desc.batch, desc.outer}) put(extent);
  for (const GemmOperand* operand : {&desc.lhs, &desc.rhs}) {
    put(static_cast<int64_t>(operand->dtype));
    put(operand->row_stride);
    put(operand->col_stride);
    put(operand->batch_stride);
    put(operand->outer_stride);
    put(alignment({operand->data}));
  }
  put(static_cast<int64_t>(desc.out_dtype));
  put(desc.out_row_stride);
  put(desc.out_batch_stride);
  put(desc.out_outer_stride);
  put(alignment({desc.out, epilogue.aux, epilogue.multiplier, epilogue.residual}));
  put(desc.bias == nullptr ? -1 : static_cast<int64_t>(desc.bias_dtype));
  put(static_cast<int64_t>(desc.precision));
  put(flag(desc.alpha == 1, 0) | flag(desc.beta != 0, 1) | flag(epilogue.derivative, 2) |
      flag(epilogue.aux != nullptr, 3) | flag(epilogue.multiplier != nullptr, 4) |
      flag(epilogue.residual != nullptr, 5));
  put(static_cast<int64_t>(epilogue.activation));
}

std::string GemmKey::text() const {
  std::string text;
  for (const int64_t value : values) {
    if (!text.empty()) text += ',';
    text += std::to_string(value);
  }
  return text;
}

}  // namespace mixprec::cuda
