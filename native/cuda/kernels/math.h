// The elementary functions of the device under the names that core/pointwise.h asks for.
#pragma once

#include <cmath>

#include "core/host_device.h"

namespace mixprec::cuda {

struct DeviceMath {
#define MIXPREC_DEVICE_FUNCTION(name)                            \
  MIXPREC_HD static float name(float x) { return ::name##f(x); } \
  MIXPREC_HD static double name(double x) { return ::name(x); }
  MIXPREC_DEVICE_FUNCTION(exp)
  MIXPREC_DEVICE_FUNCTION(log)
  MIXPREC_DEVICE_FUNCTION(sqrt)
  MIXPREC_DEVICE_FUNCTION(tanh)
  MIXPREC_DEVICE_FUNCTION(erf)
  MIXPREC_DEVICE_FUNCTION(sin)
  MIXPREC_DEVICE_FUNCTION(cos)
  MIXPREC_DEVICE_FUNCTION(floor)
  MIXPREC_DEVICE_FUNCTION(log1p)
  MIXPREC_DEVICE_FUNCTION(expm1)
#undef MIXPREC_DEVICE_FUNCTION

  MIXPREC_HD static float abs(float x) { return ::fabsf(x); }
  MIXPREC_HD static double abs(double x) { return ::fabs(x); }
  MIXPREC_HD static float pow(float x, float y) { return ::powf(x, y); }
  MIXPREC_HD static double pow(double x, double y) { return ::pow(x, y); }

  // From the exponential that cannot overflow.
  MIXPREC_HD static float sigmoid(float x) {
    const float e = ::expf(-::fabsf(x));
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
  }
  MIXPREC_HD static double sigmoid(double x) {
    const double e = ::exp(-::fabs(x));
    return (x < 0.0 ? e : 1.0) / (1.0 + e);
  }
  // The standard normal distribution function.
  MIXPREC_HD static float normal_cdf(float x) {
#if defined(__CUDA_ARCH__)
    return ::normcdff(x);
#else
    return 0.5f * ::erfcf(x * -0.70710678118654752f);
#endif
  }
  MIXPREC_HD static double normal_cdf(double x) {
#if defined(__CUDA_ARCH__)
    return ::normcdf(x);
#else
    return 0.5 * ::erfc(x * -0.70710678118654752440);
#endif
  }
};

}  // namespace mixprec::cuda
