// Elements of any dtype as numbers of the type that a kernel computes in: float for float32 and the
// 16-bit floats, double, or int64_t for integers and bool. The dtype is a run-time value, uniform
// over the grid, so that a kernel is compiled once per computed type and not once per dtype.
#pragma once

#include "core/dtype.h"
#include "cuda/ptx/convert.h"
#include "cuda/ptx/memory.h"

namespace mixprec::cuda {

// ---- Numbers to numbers, as the CPU backend converts them ----

// Truncation; NaN and what is out of range give the least integer.
template <class Integer, class Float>
MIXPREC_DEVICE Integer truncated(Float x) {
  constexpr Integer kLeast = static_cast<Integer>(uint64_t{1} << (sizeof(Integer) * 8 - 1));
  constexpr Float kBound =
      sizeof(Integer) == 8 ? Float(9223372036854775808.0) : Float(2147483648.0);
  const bool inside = sizeof(Integer) == 4 && sizeof(Float) == 8 ? (x > -kBound - 1) & (x < kBound)
                                                                 : (x >= -kBound) & (x < kBound);
  return inside ? static_cast<Integer>(x) : kLeast;
}

template <class To, class From>
MIXPREC_DEVICE To number_as(From x) {
  if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    // Bytes are the low bytes of the int32.
    if constexpr (sizeof(To) == 8) return static_cast<To>(truncated<int64_t>(x));
    return static_cast<To>(truncated<int32_t>(x));
  } else {
    return static_cast<To>(x);
  }
}

// ---- Stored elements to numbers and back ----

template <class Compute>
MIXPREC_DEVICE Compute widened(Float16 x) {
  return number_as<Compute>(ptx::widen(x));
}
template <class Compute>
MIXPREC_DEVICE Compute widened(BFloat16 x) {
  return number_as<Compute>(ptx::widen(x));
}
template <class Compute, class T>
requires std::is_arithmetic_v<T> MIXPREC_DEVICE Compute widened(T x) {
  return number_as<Compute>(x);
}

// bool in memory: a byte of 0 or 1.
struct BoolByte {
  uint8_t byte;
};
template <class Compute>
MIXPREC_DEVICE Compute widened(BoolByte x) {
  return static_cast<Compute>(x.byte != 0);
}

// Rounds to the storage type; from double to 16 bits by way of float32, as torch does.
template <class T, class Compute>
MIXPREC_DEVICE T stored(Compute x) {
  if constexpr (std::is_same_v<T, Float16>) {
    return ptx::narrow_f16(static_cast<float>(x));
  } else if constexpr (std::is_same_v<T, BFloat16>) {
    return ptx::narrow_bf16(static_cast<float>(x));
  } else if constexpr (std::is_same_v<T, BoolByte>) {
    return BoolByte{x != Compute(0)};
  } else {
    return number_as<T>(x);
  }
}

template <class T>
struct TypeTag {
  using type = T;
};

// Calls body with a TypeTag of the storage type of `dtype`.
template <class Body>
MIXPREC_DEVICE void by_storage(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::kFloat64:
      return body(TypeTag<double>{});
    case DType::kFloat32:
      return body(TypeTag<float>{});
    case DType::kFloat16:
      return body(TypeTag<Float16>{});
    case DType::kBFloat16:
      return body(TypeTag<BFloat16>{});
    case DType::kInt64:
      return body(TypeTag<int64_t>{});
    case DType::kInt32:
      return body(TypeTag<int32_t>{});
    case DType::kInt8:
      return body(TypeTag<int8_t>{});
    case DType::kUInt8:
      return body(TypeTag<uint8_t>{});
    case DType::kBool:
      return body(TypeTag<BoolByte>{});
  }
}

// The dtypes that load_elements and store_elements know for a computed type: the usual ones, so
// that the code of vectorized kernels stays small.
template <class Compute>
constexpr bool is_vector_dtype(DType dtype) {
  if (dtype == DType::kBool) return true;
  if constexpr (std::is_same_v<Compute, float>) {
    return dtype == DType::kFloat32 || is_half_width(dtype);
  } else if constexpr (std::is_same_v<Compute, double>) {
    return dtype == DType::kFloat64;
  } else {
    return !is_floating(dtype);
  }
}
template <class Compute, class Body>
MIXPREC_DEVICE void by_vector_storage(DType dtype, const Body& body) {
  if (dtype == DType::kBool) return body(TypeTag<BoolByte>{});
  if constexpr (std::is_same_v<Compute, float>) {
    if (dtype == DType::kFloat32) return body(TypeTag<float>{});
    if (dtype == DType::kFloat16) return body(TypeTag<Float16>{});
    return body(TypeTag<BFloat16>{});
  } else if constexpr (std::is_same_v<Compute, double>) {
    return body(TypeTag<double>{});
  } else {
    if (dtype == DType::kInt64) return body(TypeTag<int64_t>{});
    if (dtype == DType::kInt32) return body(TypeTag<int32_t>{});
    if (dtype == DType::kInt8) return body(TypeTag<int8_t>{});
    return body(TypeTag<uint8_t>{});
  }
}

template <class Compute>
MIXPREC_DEVICE Compute load_element(const void* data, DType dtype, int64_t index) {
  Compute result{};
  by_storage(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    result = widened<Compute>(ptx::ld(static_cast<const T*>(data) + index));
  });
  return result;
}

// As load_element and store_element, for vector dtypes only.
template <class Compute>
MIXPREC_DEVICE Compute load_vector_element(const void* data, DType dtype, int64_t index) {
  Compute result{};
  by_vector_storage<Compute>(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    result = widened<Compute>(ptx::ld(static_cast<const T*>(data) + index));
  });
  return result;
}
template <class Compute>
MIXPREC_DEVICE void store_vector_element(void* data, DType dtype, int64_t index, Compute value) {
  by_vector_storage<Compute>(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    ptx::st(static_cast<T*>(data) + index, stored<T>(value));
  });
}

template <class Compute>
MIXPREC_DEVICE void store_element(void* data, DType dtype, int64_t index, Compute value) {
  by_storage(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    ptx::st(static_cast<T*>(data) + index, stored<T>(value));
  });
}

// Elements [index, index + N) of a vector dtype, aligned to N elements.
template <int N, class Compute>
MIXPREC_DEVICE void load_elements(const void* data, DType dtype, int64_t index, Compute (&out)[N]) {
  by_vector_storage<Compute>(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    constexpr int kPack = sizeof(T) * N <= 16 ? N : static_cast<int>(16 / sizeof(T));
    const T* from = static_cast<const T*>(data) + index;
    Pack<T, kPack> packs[N / kPack];
    MIXPREC_UNROLL
    for (int p = 0; p < N / kPack; ++p) packs[p] = ptx::ld_pack<kPack>(from + p * kPack);
    MIXPREC_UNROLL
    for (int i = 0; i < N; ++i) out[i] = widened<Compute>(packs[i / kPack][i % kPack]);
  });
}

template <int N, class Compute>
MIXPREC_DEVICE void store_elements(void* data, DType dtype, int64_t index,
                                   const Compute (&values)[N]) {
  by_vector_storage<Compute>(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    constexpr int kPack = sizeof(T) * N <= 16 ? N : static_cast<int>(16 / sizeof(T));
    T* to = static_cast<T*>(data) + index;
    MIXPREC_UNROLL
    for (int p = 0; p < N / kPack; ++p) {
      Pack<T, kPack> pack;
      MIXPREC_UNROLL
      for (int i = 0; i < kPack; ++i) pack[i] = stored<T>(values[p * kPack + i]);
      ptx::st_pack<kPack>(to + p * kPack, pack);
    }
  });
}

}  // namespace mixprec::cuda
