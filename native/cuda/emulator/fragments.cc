#include "fragments.h"

#include <cstring>

#include "core/dtype.h"

namespace mixprec::cuda::emulator {
namespace {

constexpr int kLanes = 32;
constexpr int kColumns = 8;

// Runs a product on matrices that are gathered from fragments and scattered to them.
template <class T, class Sum, class Convert, class Multiply>
void run_mma(OperandType type, MmaOperands* const* lanes, const Convert& convert,
             const Multiply& multiply) {
  const int depth = depth_of(type);
  const auto bytes = static_cast<int>(element_bytes(type));
  T a[16 * 32];
  T b[32 * kColumns];
  Sum d[16 * kColumns];
  for (int lane = 0; lane < kLanes; ++lane) {
    const MmaOperands& mine = *lanes[lane];
    for (int reg = 0; reg < 4; ++reg) {
      std::memcpy(&d[result_place(lane, reg, kColumns)], static_cast<const Sum*>(mine.d) + reg, 4);
      for (int byte = 0; byte < 4; byte += bytes) {
        const FragmentPlace in_a = a_place(lane, reg);
        a[in_a.row * depth + (in_a.byte + byte) / bytes] =
            convert(reinterpret_cast<const uint8_t*>(mine.a + reg) + byte);
        if (reg >= 2) continue;
        const FragmentPlace in_b = b_place(lane, reg);
        b[(in_b.byte + byte) / bytes * kColumns + in_b.row] =
            convert(reinterpret_cast<const uint8_t*>(mine.b + reg) + byte);
      }
    }
  }
  multiply(depth, a, b, d);
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int reg = 0; reg < 4; ++reg) {
      std::memcpy(static_cast<Sum*>(lanes[lane]->d) + reg, &d[result_place(lane, reg, kColumns)],
                  4);
    }
  }
}

}  // namespace

float float_value(const uint8_t* element, OperandType type) {
  if (type == OperandType::kTf32) {
    float value;
    std::memcpy(&value, element, 4);
    return cut_to_tf32(value);
  }
  uint16_t bits;
  std::memcpy(&bits, element, 2);
  return type == OperandType::kFloat16 ? to_float(Float16{bits}) : to_float(BFloat16{bits});
}

void mma_m16n8(OperandType type, MmaOperands* const* lanes) {
  if (type == OperandType::kInt8) {
    return run_mma<int8_t, int32_t>(
        type, lanes, [](const uint8_t* element) { return static_cast<int8_t>(*element); },
        [](int depth, const int8_t* a, const int8_t* b, int32_t* d) {
          tensor_core(16, kColumns, depth, a, b, d);
        });
  }
  run_mma<float, float>(
      type, lanes, [type](const uint8_t* element) { return float_value(element, type); },
      [](int depth, const float* a, const float* b, float* d) {
        tensor_core(16, kColumns, depth, depth, a, b, d);
      });
}

void mma_f64(int rows, int depth, MmaOperandsF64* const* lanes) {
  double a[16 * 16];
  double b[16 * kColumns];
  double d[16 * kColumns];
  const int tall = rows / 8;
  const auto row_of = [](int lane, int i, int count) { return lane / 4 + i % count * 8; };
  for (int lane = 0; lane < kLanes; ++lane) {
    const MmaOperandsF64& mine = *lanes[lane];
    for (int i = 0; i < tall * depth / 4; ++i) {
      a[row_of(lane, i, tall) * depth + i / tall * 4 + lane % 4] = mine.a[i];
    }
    for (int i = 0; i < depth / 4; ++i) b[(i * 4 + lane % 4) * kColumns + lane / 4] = mine.b[i];
    for (int i = 0; i < tall * 2; ++i) d[result_place(lane, i, kColumns)] = mine.d[i];
  }
  tensor_core(rows, kColumns, depth, a, b, d);
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int i = 0; i < tall * 2; ++i) lanes[lane]->d[i] = d[result_place(lane, i, kColumns)];
  }
}

}  // namespace mixprec::cuda::emulator
