// Normal numbers in pairs out of random words (Box and Muller, "A Note on the Generation of Random
// Normal Deviates", 1958), the same bit by bit on every device: of sums, products, quotients and
// roots alone, in an order that is fixed here. `N` is double, or what stands for it where the
// compiler would fuse a product and a sum. The polynomials are those of fdlibm. For float32 see
// cpu/simd/math.h.
#pragma once

#include <cmath>
#include <cstdint>

#include "host_device.h"

namespace mixprec {

template <class N>
struct NormalPair {
  N first;
  N second;
};

// log(x) for normal x > 0; `bits` are those of x.
template <class N>
MIXPREC_HD inline N log_of_normal(uint64_t bits) {
  // x = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)).
  const auto k = static_cast<int32_t>(static_cast<int64_t>(bits - 0x3fe6a09e667f3bcdu) >> 52);
  const uint64_t reduced = bits - (static_cast<uint64_t>(static_cast<int64_t>(k)) << 52);
  double mantissa;
  __builtin_memcpy(&mantissa, &reduced, 8);
  const N f(mantissa - 1.0);
  const N s = f / (N(2.0) + f);
  const N z = s * s;
  const N w = z * z;
  const N even = w * (N(3.999999999940941908e-01) +
                      w * (N(2.222219843214978396e-01) + w * N(1.531383769920937332e-01)));
  const N odd = z * (N(6.666666666666735130e-01) +
                     w * (N(2.857142874366239149e-01) +
                          w * (N(1.818357216161805012e-01) + w * N(1.479819860511658591e-01))));
  const N half_square = N(0.5) * f * f;
  const N exponent(static_cast<double>(k));
  return exponent * N(6.93147180369123816490e-01) -
         ((half_square -
           (s * (half_square + (even + odd)) + exponent * N(1.90821492927058770002e-10))) -
          f);
}

// Cosine and sine of `turns` full turns, for turns in [0, 1).
template <class N>
MIXPREC_HD inline NormalPair<N> cos_sin_of_turns(double turns) {
  const auto quarter = static_cast<int32_t>(turns * 4.0 + 0.5);
  const N x = N(turns - static_cast<double>(quarter) * 0.25) * N(6.283185307179586476925);
  const N z = x * x;
  const N s = x + z * x *
                      (N(-1.66666666666666324348e-01) +
                       z * (N(8.33333333332248946124e-03) +
                            z * (N(-1.98412698298579493134e-04) +
                                 z * (N(2.75573137070700676789e-06) +
                                      z * (N(-2.50507602534068634195e-08) +
                                           z * N(1.58969099521155010221e-10))))));
  const N c =
      N(1.0) - (N(0.5) * z - z * z *
                                 (N(4.16666666666666019037e-02) +
                                  z * (N(-1.38888888888741095749e-03) +
                                       z * (N(2.48015872894767294178e-05) +
                                            z * (N(-2.75573143513906633035e-07) +
                                                 z * (N(2.08757232129817482790e-09) +
                                                      z * N(-1.13596475577881948265e-11)))))));
  switch (quarter & 3) {
    case 0:
      return {c, s};
    case 1:
      return {N(0.0) - s, c};
    case 2:
      return {N(0.0) - c, N(0.0) - s};
    default:
      return {s, N(0.0) - c};
  }
}

// Two standard normal numbers out of two uniform ones on [0, 1), multiples of 2^-53.
template <class N, class Sqrt>
MIXPREC_HD inline NormalPair<N> box_muller(double radius_unit, double turns, const Sqrt& root) {
  const double above_zero = 1.0 - radius_unit;  // exact
  uint64_t bits;
  __builtin_memcpy(&bits, &above_zero, 8);
  const N radius = root(N(-2.0) * log_of_normal<N>(bits));
  const NormalPair<N> direction = cos_sin_of_turns<N>(turns);
  return {radius * direction.first, radius * direction.second};
}

}  // namespace mixprec
