// The arithmetic of tensor cores. Products are exact; how sums are rounded is chosen by
// MIXPREC_EMULATOR_TENSOR_CORE: "exact" (the default) adds in double and rounds once an
// instruction, to nearest; "truncating" is the published model of Hopper (Khattak and Mikaitis):
// the addends of a block, the accumulator among them, are aligned to the largest exponent with two
// extra bits, what is beyond is cut off, and so is what does not fit the result.
#pragma once

#include <cstdint>

namespace mixprec::cuda::emulator {

enum class TensorCoreModel { kExact, kTruncating };
TensorCoreModel tensor_core_model();
// For tests of both.
void set_tensor_core_model(TensorCoreModel model);

// c[m][n] += a[m][k] * b[k][n], all dense, n up to 256 and k up to 32. `block` products are added
// at a time by the truncating model.
void tensor_core(int m, int n, int k, int block, const float* a, const float* b, float* c);
void tensor_core(int m, int n, int k, const double* a, const double* b, double* c);
void tensor_core(int m, int n, int k, const int8_t* a, const int8_t* b, int32_t* c);

// What a tensor core reads of a float32: tf32 operands have no more bits.
float cut_to_tf32(float value);

}  // namespace mixprec::cuda::emulator
