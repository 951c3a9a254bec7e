// Where the lanes of a warp hold the elements of matrices (PTX ISA 9.7.14.5, "Matrix Fragments"),
// and mma.sync on them. An operand's rows have 32 bytes of every type.
#pragma once

#include <cstdint>

#include "tensor_core.h"
#include "thread.h"

namespace mixprec::cuda::emulator {

enum class OperandType : uint8_t { kFloat16, kBFloat16, kTf32, kInt8 };

constexpr uint32_t element_bytes(OperandType type) {
  return type == OperandType::kTf32 ? 4 : type == OperandType::kInt8 ? 1 : 2;
}
constexpr int depth_of(OperandType type) { return static_cast<int>(32 / element_bytes(type)); }

// An element of a floating-point operand.
float float_value(const uint8_t* element, OperandType type);

// Row, and byte in it, of the first element in register `reg` of A (16 rows).
struct FragmentPlace {
  int row;
  int byte;
};
constexpr FragmentPlace a_place(int lane, int reg) {
  return {lane / 4 + reg % 2 * 8, lane % 4 * 4 + reg / 2 * 16};
}
// The same of B, whose rows are the result's columns (8).
constexpr FragmentPlace b_place(int lane, int reg) { return {lane / 4, lane % 4 * 4 + reg * 16}; }
// Where register `reg` of the result lies in a dense tile of n columns, 16 rows to a warp.
constexpr int result_place(int lane, int reg, int n) {
  return (lane / 4 + reg / 2 % 2 * 8) * n + reg / 4 * 8 + lane % 4 * 2 + reg % 2;
}

// What a lane brings to mma.sync; registers of 32 bits, d of float or int32_t.
struct MmaOperands {
  const uint32_t* a;
  const uint32_t* b;
  void* d;
};
void mma_m16n8(OperandType type, MmaOperands* const* lanes);

struct MmaOperandsF64 {
  const double* a;
  const double* b;
  double* d;
};
// 8 or 16 rows, depth 4 or 16.
void mma_f64(int rows, int depth, MmaOperandsF64* const* lanes);

}  // namespace mixprec::cuda::emulator
