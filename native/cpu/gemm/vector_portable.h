// Vectors of 16 bytes in the compiler's own terms, for any processor. A product and a sum are
// rounded one after the other. Included by one source file only.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/dtype.h"

namespace mixprec::cpu {
namespace {

template <class T, int Width>
struct PortableVector {
  using Scalar = T;
  typedef T Reg __attribute__((vector_size(Width * sizeof(T))));
  static constexpr int kWidth = Width;
  static constexpr int kTileRows = 6;
  static constexpr int kTileVectors = 2;

  static Reg zero() { return Reg{}; }
  static Reg broadcast(T value) { return Reg{} + value; }
  static Reg load(const T* p) {
    Reg r;
    std::memcpy(&r, p, sizeof(r));
    return r;
  }
  static void store(T* p, Reg r) { std::memcpy(p, &r, sizeof(r)); }
  static Reg load_first(const T* p, int count) {
    Reg r{};
    for (int i = 0; i < count; ++i) r[i] = p[i];
    return r;
  }
  static void store_first(T* p, Reg r, int count) {
    for (int i = 0; i < count; ++i) p[i] = r[i];
  }
  static Reg fma(Reg a, Reg b, Reg c) { return a * b + c; }
  static Reg add(Reg a, Reg b) { return a + b; }
  static Reg mul(Reg a, Reg b) { return a * b; }
  static T sum(Reg r) {
    T total = r[0];
    for (int i = 1; i < Width; ++i) total += r[i];
    return total;
  }
  static void transpose(Reg (&r)[Width]) {
    for (int i = 0; i < Width; ++i) {
      for (int j = i + 1; j < Width; ++j) {
        const T value = r[i][j];
        r[i][j] = r[j][i];
        r[j][i] = value;
      }
    }
  }
};

using VectorF32 = PortableVector<float, 4>;
using VectorF64 = PortableVector<double, 2>;

// Reads and writes one by one, by `Convert`'s functions.
template <class Vector, class Convert>
struct PortableElement : Convert {
  using Storage = typename Convert::Storage;
  static typename Vector::Reg load(const Storage* p) { return load_first(p, Vector::kWidth); }
  static typename Vector::Reg load_first(const Storage* p, int count) {
    typename Vector::Reg r{};
    for (int i = 0; i < count; ++i) r[i] = Convert::read(p[i]);
    return r;
  }
  static void store(Storage* p, typename Vector::Reg r) { store_first(p, r, Vector::kWidth); }
  static void store_first(Storage* p, typename Vector::Reg r, int count) {
    for (int i = 0; i < count; ++i) p[i] = Convert::write(r[i]);
  }
};

template <class T>
struct Unchanged {
  using Storage = T;
  static T read(T value) { return value; }
  static T write(T value) { return value; }
};
struct HalfBits {
  using Storage = uint16_t;
  static float read(uint16_t bits) { return to_float(Float16{bits}); }
  static uint16_t write(float value) { return to_float16(value).bits; }
};
struct BFloat16Bits {
  using Storage = uint16_t;
  static float read(uint16_t bits) { return to_float(BFloat16{bits}); }
  static uint16_t write(float value) { return to_bfloat16(value).bits; }
};
struct RoundedToBFloat16 : Unchanged<float> {
  static float read(float value) { return to_float(to_bfloat16(value)); }
};
struct RoundedToTf32 : Unchanged<float> {
  static float read(float value) { return round_to_tf32(value); }
};

using ElementF64 = PortableElement<VectorF64, Unchanged<double>>;
using ElementF32 = PortableElement<VectorF32, Unchanged<float>>;
using ElementF16 = PortableElement<VectorF32, HalfBits>;
using ElementBF16 = PortableElement<VectorF32, BFloat16Bits>;
using ElementF32AsBF16 = PortableElement<VectorF32, RoundedToBFloat16>;
using ElementF32AsTf32 = PortableElement<VectorF32, RoundedToTf32>;

}  // namespace
}  // namespace mixprec::cpu
