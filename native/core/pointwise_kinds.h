// The element-wise functions by name; a position in a list is the `kind` that crosses the boundary.
// Their formulas are in core/pointwise.h.
#pragma once

#include <cstdint>

namespace mixprec {

// clang-format off
#define MIXPREC_UNARY_KINDS(X)                                                                  \
  X(neg) X(abs) X(exp) X(log) X(sqrt) X(rsqrt) X(reciprocal) X(tanh) X(sigmoid) X(relu)         \
  X(gelu_erf) X(gelu_tanh) X(silu) X(erf) X(sin) X(cos) X(sign) X(floor) X(log1p) X(expm1)

// Derivative times gradOutput, from x (gelu_erf, gelu_tanh, silu) or from y (tanh, sigmoid, relu).
#define MIXPREC_UNARY_GRAD_KINDS(X) X(gelu_erf) X(gelu_tanh) X(silu) X(tanh) X(sigmoid) X(relu)

#define MIXPREC_BINARY_KINDS(X) X(add) X(sub) X(mul) X(div) X(maximum) X(minimum) X(pow)

#define MIXPREC_COMPARE_KINDS(X) X(eq) X(ne) X(lt) X(le) X(gt) X(ge)
// clang-format on

#define MIXPREC_ENUM_ROW(name) name,
enum class UnaryOp : int32_t { MIXPREC_UNARY_KINDS(MIXPREC_ENUM_ROW) };
enum class UnaryGradOp : int32_t { MIXPREC_UNARY_GRAD_KINDS(MIXPREC_ENUM_ROW) };
enum class BinaryOp : int32_t { MIXPREC_BINARY_KINDS(MIXPREC_ENUM_ROW) };
enum class CompareOp : int32_t { MIXPREC_COMPARE_KINDS(MIXPREC_ENUM_ROW) };
#undef MIXPREC_ENUM_ROW

#define MIXPREC_NAME_ROW(name) #name,
inline constexpr const char* kUnaryNames[] = {MIXPREC_UNARY_KINDS(MIXPREC_NAME_ROW)};
inline constexpr const char* kUnaryGradNames[] = {MIXPREC_UNARY_GRAD_KINDS(MIXPREC_NAME_ROW)};
inline constexpr const char* kBinaryNames[] = {MIXPREC_BINARY_KINDS(MIXPREC_NAME_ROW)};
inline constexpr const char* kCompareNames[] = {MIXPREC_COMPARE_KINDS(MIXPREC_NAME_ROW)};
#undef MIXPREC_NAME_ROW

inline constexpr int32_t kUnaryCount = sizeof(kUnaryNames) / sizeof(kUnaryNames[0]);
inline constexpr int32_t kUnaryGradCount = sizeof(kUnaryGradNames) / sizeof(kUnaryGradNames[0]);
inline constexpr int32_t kBinaryCount = sizeof(kBinaryNames) / sizeof(kBinaryNames[0]);
inline constexpr int32_t kCompareCount = sizeof(kCompareNames) / sizeof(kCompareNames[0]);

}  // namespace mixprec
