// Integer products: rows of rhs, widened to 64 bits, are added up row by row of the output. They
// are rare (counts and masks), so that clarity goes before the last bit of speed.
#include "integer.h"

#include <algorithm>
#include <vector>

#include "core/errors.h"
#include "cpu/thread_pool.h"

namespace mixprec::cpu {
namespace {

constexpr int64_t kStripe = 1024;
constexpr int64_t kSerialWork = 1 << 16;

uint64_t load(const char* p, DType dtype) {
  switch (dtype) {
    case DType::kInt64:
      return *reinterpret_cast<const uint64_t*>(p);
    case DType::kInt32:
      return static_cast<uint64_t>(int64_t{*reinterpret_cast<const int32_t*>(p)});
    case DType::kInt8:
      return static_cast<uint64_t>(int64_t{*reinterpret_cast<const int8_t*>(p)});
    case DType::kUInt8:
      return *reinterpret_cast<const uint8_t*>(p);
    case DType::kBool:
      return *reinterpret_cast<const uint8_t*>(p) != 0;
    default:
      throw Error(ErrorCode::kInternal, "gemm got a float among integers");
  }
}

void store(char* p, DType dtype, uint64_t value) {
  switch (dtype) {
    case DType::kInt64:
      *reinterpret_cast<uint64_t*>(p) = value;
      return;
    case DType::kInt32:
      *reinterpret_cast<uint32_t*>(p) = static_cast<uint32_t>(value);
      return;
    case DType::kInt8:
    case DType::kUInt8:
      *reinterpret_cast<uint8_t*>(p) = static_cast<uint8_t>(value);
      return;
    case DType::kBool:
      *reinterpret_cast<uint8_t*>(p) = value != 0;
      return;
    default:
      throw Error(ErrorCode::kInternal, "gemm got a float among integers");
  }
}

const char* element(const GemmOperand& operand, int64_t batch, int64_t row, int64_t col) {
  const int64_t at =
      batch * operand.batch_stride + row * operand.row_stride + col * operand.col_stride;
  return static_cast<const char*>(operand.data) +
         at * static_cast<int64_t>(item_size(operand.dtype));
}

// Columns [col, col + cols) of one row of the output.
void multiply_row(const GemmDesc& desc, int64_t batch, int64_t row, int64_t col, int64_t cols,
                  uint64_t* sums) {
  const GemmOperand& rhs = desc.rhs;
  std::fill_n(sums, cols, uint64_t{0});
  for (int64_t k = 0; k < desc.K; ++k) {
    const uint64_t factor = load(element(desc.lhs, batch, row, k), desc.lhs.dtype);
    const char* from = element(rhs, batch, k, col);
    const auto add = [&](auto typed) {
      const auto* values = reinterpret_cast<const decltype(typed)*>(from);
      for (int64_t j = 0; j < cols; ++j) {
        sums[j] += factor * static_cast<uint64_t>(int64_t{values[j * rhs.col_stride]});
      }
    };
    if (factor == 0) continue;
    if (rhs.dtype == DType::kInt32) {
      add(int32_t{});
    } else if (rhs.dtype == DType::kInt64) {
      add(int64_t{});
    } else {
      for (int64_t j = 0; j < cols; ++j) {
        sums[j] += factor * load(from + j * rhs.col_stride, rhs.dtype);
      }
    }
  }
}

}  // namespace

void multiply_integers(const GemmDesc& desc) {
  const auto alpha = static_cast<uint64_t>(static_cast<int64_t>(desc.alpha));
  const auto beta = static_cast<uint64_t>(static_cast<int64_t>(desc.beta));
  const auto item = static_cast<int64_t>(item_size(desc.out_dtype));
  const int64_t stripes = (desc.N + kStripe - 1) / kStripe;
  const auto run = [&](int64_t begin, int64_t end) {
    uint64_t sums[kStripe];
    for (int64_t task = begin; task < end; ++task) {
      const int64_t batch = task / stripes / desc.M;
      const int64_t row = task / stripes % desc.M;
      const int64_t col = task % stripes * kStripe;
      const int64_t cols = std::min(kStripe, desc.N - col);
      multiply_row(desc, batch, row, col, cols, sums);
      char* out = static_cast<char*>(desc.out) +
                  (batch * desc.out_batch_stride + row * desc.out_row_stride + col) * item;
      for (int64_t j = 0; j < cols; ++j, out += item) {
        uint64_t value = alpha * sums[j];
        if (beta != 0) value += beta * load(out, desc.out_dtype);
        if (desc.bias != nullptr) {
          const auto size = static_cast<int64_t>(item_size(desc.bias_dtype));
          value += load(static_cast<const char*>(desc.bias) + (col + j) * size, desc.bias_dtype);
        }
        store(out, desc.out_dtype, value);
      }
    }
  };
  const int64_t per_task = std::max<int64_t>(1, std::min(kStripe, desc.N) * desc.K);
  parallel_for(desc.batch * desc.M * stripes, std::max<int64_t>(1, kSerialWork / per_task), run);
}

}  // namespace mixprec::cpu
