// Random numbers and dropout, as functions of seed, offset and the element's index (core/philox.h):
// the same bit by bit as the CPU's, so that nothing here may be fused or come from a library of
// functions. A thread takes the four words of a counter.

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/box_muller.h"
#include "core/philox.h"
#include "cuda/tensors.h"
#include "elementwise.h"
#include "math.h"
#include "rounded.h"

namespace mixprec::cuda {
namespace {

constexpr int kThreads = 256;

struct RandomArgs {
  uint64_t seed = 0;
  uint64_t offset = 0;
  void* out = nullptr;
  DType dtype = DType::kFloat32;
  int64_t count = 0;

  explicit RandomArgs(const OpCall& call)
      : seed(static_cast<uint64_t>(call.int_attr(0))),
        offset(static_cast<uint64_t>(call.int_attr(1))),
        out(call.out().data),
        dtype(call.out().dtype),
        count(call.out().numel()) {}

  MIXPREC_DEVICE PhiloxBlock words(int64_t counter) const {
    return philox(seed, offset + static_cast<uint64_t>(counter));
  }
};

// Calls body(counter) for the counters of `per_counter` elements each.
template <class Body>
MIXPREC_DEVICE void for_counters(int64_t count, int per_counter, const Body& body) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t counter = int64_t{blockIdx.x} * kThreads + threadIdx.x;
       counter * per_counter < count; counter += step) {
    body(counter);
  }
}

// Stores four elements of a 16-bit dtype or float32 at 4 * counter, or fewer at the end.
MIXPREC_DEVICE void store_four(const RandomArgs& args, int64_t counter, const float (&values)[4]) {
  const int64_t at = 4 * counter;
  if (at + 4 <= args.count) return store_elements<4>(args.out, args.dtype, at, values);
  MIXPREC_UNROLL
  for (int i = 0; i < 4; ++i) {
    if (at + i < args.count) store_vector_element(args.out, args.dtype, at + i, values[i]);
  }
}
MIXPREC_DEVICE void store_two(const RandomArgs& args, int64_t counter, double first,
                              double second) {
  double* const out = static_cast<double*>(args.out) + 2 * counter;
  ptx::st(out, first);
  if (2 * counter + 1 < args.count) ptx::st(out + 1, second);
}

// ---- Uniform ----

// The numbers of a dtype in [low, high): rounding must not leave the interval.
struct Interval {
  double low = 0, high = 0;
  double least = 0, most = 0;

  MIXPREC_DEVICE double at(double unit) const {
    const double value = ptx::add_rn(low, ptx::mul_rn(unit, ptx::add_rn(high, -low)));
    const double above = value < least ? least : value;
    return most < above ? most : above;
  }
};

__global__ void __launch_bounds__(kThreads)
    uniform_kernel(const RandomArgs args, const Interval interval) {
  if (args.dtype == DType::kFloat64) {
    for_counters(args.count, 2, [&](int64_t counter) {
      const PhiloxBlock block = args.words(counter);
      store_two(args, counter, interval.at(uniform53(block.words[0], block.words[1])),
                interval.at(uniform53(block.words[2], block.words[3])));
    });
    return;
  }
  for_counters(args.count, 4, [&](int64_t counter) {
    const PhiloxBlock block = args.words(counter);
    float values[4];
    MIXPREC_UNROLL
    for (int i = 0; i < 4; ++i) {
      const double unit = static_cast<double>(uniform24(block.words[i]));
      values[i] = static_cast<float>(interval.at(unit));
    }
    store_four(args, counter, values);
  });
}

double rounded(double value, DType dtype) {
  if (dtype == DType::kFloat64) return value;
  const auto narrow = static_cast<float>(value);
  if (dtype == DType::kFloat16) return to_float(to_float16(narrow));
  if (dtype == DType::kBFloat16) return to_float(to_bfloat16(narrow));
  return narrow;
}

// The number of `dtype` next to `value`, one of them, towards -infinity or +infinity.
double neighbour(double value, DType dtype, bool upwards) {
  const double towards =
      upwards ? std::numeric_limits<double>::infinity() : -std::numeric_limits<double>::infinity();
  if (dtype == DType::kFloat64) return std::nextafter(value, towards);
  const auto narrow = static_cast<float>(value);
  if (dtype == DType::kFloat32) return std::nextafter(narrow, static_cast<float>(towards));
  // 16-bit floats in order: the sign and magnitude of their bits.
  const bool is_half = dtype == DType::kFloat16;
  const uint16_t bits = is_half ? to_float16(narrow).bits : to_bfloat16(narrow).bits;
  const bool negative = (bits & 0x8000u) != 0;
  const int magnitude = bits & 0x7fff;
  uint16_t next;
  if (magnitude == 0) {
    next = static_cast<uint16_t>(upwards ? 0x0001 : 0x8001);
  } else {
    next = static_cast<uint16_t>((negative ? 0x8000 : 0) |
                                 (magnitude + (negative == upwards ? -1 : 1)));
  }
  return is_half ? to_float(Float16{next}) : to_float(BFloat16{next});
}

Interval interval_of(double low, double high, DType dtype) {
  Interval interval{low, high, rounded(low, dtype), rounded(low, dtype)};
  if (!(low < high)) return interval;
  const double nearest = interval.least;
  if (interval.least < low) interval.least = neighbour(interval.least, dtype, true);
  interval.most = rounded(high, dtype);
  if (interval.most >= high) interval.most = neighbour(interval.most, dtype, false);
  // No number of this dtype lies in between: the one nearest to low stands for all.
  if (interval.most < interval.least) interval.least = interval.most = nearest;
  return interval;
}

// ---- Normal ----

// The twins of log_f32 and cos_sin_turns in cpu/simd/math.h, for the arguments that occur here.
using R = Rounded<float>;

// Of a normal number from 0 to 1.
MIXPREC_DEVICE R log_of(float x) {
  const uint32_t bits = float_bits(x);
  const int32_t e = static_cast<int32_t>(bits - 0x3f3504f3u) >> 23;
  const R f(float_from_bits(bits - (static_cast<uint32_t>(e) << 23)) - 1.0f);
  const R exponent(static_cast<float>(e));
  const R z = f * f;
  R p = R(7.0376836292e-2f) * f - R(1.1514610310e-1f);
  p = p * f + R(1.1676998740e-1f);
  p = p * f - R(1.2420140846e-1f);
  p = p * f + R(1.4249322787e-1f);
  p = p * f - R(1.6668057665e-1f);
  p = p * f + R(2.0000714765e-1f);
  p = p * f - R(2.4999993993e-1f);
  p = p * f + R(3.3333331174e-1f);
  R y = f * z * p;
  y = y + exponent * R(-2.12194440e-4f);
  y = y - R(0.5f) * z;
  return (f + y) + exponent * R(0.693359375f);
}

MIXPREC_DEVICE NormalPair<R> cos_sin_of(float turns) {
  const auto quarter = static_cast<int32_t>(turns * 4.0f + 0.5f);
  const R angle = R(turns - static_cast<float>(quarter) * 0.25f) * R(6.28318530717958648f);
  const R z = angle * angle;
  const R s =
      ((R(-1.9515295891e-4f) * z + R(8.3321608736e-3f)) * z - R(1.6666654611e-1f)) * z * angle +
      angle;
  const R c =
      ((R(2.443315711809948e-5f) * z - R(1.388731625493765e-3f)) * z + R(4.166664568298827e-2f)) *
          (z * z) -
      R(0.5f) * z + R(1.0f);
  const bool swap = (quarter & 1) != 0;
  const uint32_t x = float_bits(swap ? s.value : c.value);
  const uint32_t y = float_bits(swap ? c.value : s.value);
  return {R(float_from_bits(x ^ (static_cast<uint32_t>((quarter + 1) & 2) << 30))),
          R(float_from_bits(y ^ (static_cast<uint32_t>(quarter & 2) << 30)))};
}

MIXPREC_DEVICE NormalPair<R> narrow_pair(uint32_t first, uint32_t second) {
  constexpr float kUnit = 5.9604644775390625e-8f;
  const auto above_zero = static_cast<float>(static_cast<int32_t>(first >> 8) + 1);
  const auto turns = static_cast<float>(static_cast<int32_t>(second >> 8));
  const R radius(DeviceMath::sqrt((R(-2.0f) * log_of(above_zero * kUnit)).value));
  const NormalPair<R> direction = cos_sin_of(turns * kUnit);
  return {radius * direction.first, radius * direction.second};
}

__global__ void __launch_bounds__(kThreads)
    normal_kernel(const RandomArgs args, const double mean, const double deviation) {
  if (args.dtype == DType::kFloat64) {
    using D = Rounded<double>;
    for_counters(args.count, 2, [&](int64_t counter) {
      const PhiloxBlock block = args.words(counter);
      const NormalPair<D> normal = box_muller<D>(uniform53(block.words[0], block.words[1]),
                                                 uniform53(block.words[2], block.words[3]),
                                                 [](D x) { return D(DeviceMath::sqrt(x.value)); });
      store_two(args, counter, (D(mean) + D(deviation) * normal.first).value,
                (D(mean) + D(deviation) * normal.second).value);
    });
    return;
  }
  const R center(static_cast<float>(mean));
  const R scale(static_cast<float>(deviation));
  for_counters(args.count, 4, [&](int64_t counter) {
    const PhiloxBlock block = args.words(counter);
    float values[4];
    MIXPREC_UNROLL
    for (int i = 0; i < 4; i += 2) {
      const NormalPair<R> normal = narrow_pair(block.words[i], block.words[i + 1]);
      values[i] = (center + scale * normal.first).value;
      values[i + 1] = (center + scale * normal.second).value;
    }
    store_four(args, counter, values);
  });
}

// ---- Whole numbers ----

__global__ void __launch_bounds__(kThreads)
    int_kernel(const RandomArgs args, const int64_t low, const uint64_t range) {
  for_counters(args.count, 2, [&](int64_t counter) {
    const PhiloxBlock block = args.words(counter);
    MIXPREC_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int64_t at = 2 * counter + i;
      if (at >= args.count) break;
      // The upper half of a 128-bit product: 64 random bits as a fraction of the range.
      const uint64_t word = (uint64_t{block.words[2 * i + 1]} << 32) | block.words[2 * i];
      const auto scaled =
          static_cast<uint64_t>((static_cast<unsigned __int128>(word) * range) >> 64);
      store_element(args.out, args.dtype, at,
                    static_cast<int64_t>(static_cast<uint64_t>(low) + scaled));
    }
  });
}

// ---- Dropout ----

template <class T>
struct DropoutArgs {
  RandomArgs random;
  const void* x = nullptr;
  uint8_t* mask = nullptr;
  uint64_t threshold = 0;
  T scale = 0;
  bool aligned = false;  // x
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    dropout_kernel(MIXPREC_GRID_CONSTANT(DropoutArgs<T>) args) {
  constexpr int kWidth = kVectorWidth<T> < 4 ? 4 : kVectorWidth<T>;
  const RandomArgs& random = args.random;
  for_counters(random.count, kWidth, [&](int64_t piece) {
    const int64_t at = piece * kWidth;
    const bool whole = at + kWidth <= random.count;
    T x[kWidth] = {};
    if (whole && args.aligned) {
      load_elements<kWidth>(args.x, random.dtype, at, x);
    } else {
      MIXPREC_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        if (at + i < random.count) x[i] = load_vector_element<T>(args.x, random.dtype, at + i);
      }
    }
    Pack<uint8_t, kWidth> kept;
    MIXPREC_UNROLL
    for (int i = 0; i < kWidth; i += 4) {
      const PhiloxBlock block = random.words((at + i) / 4);
      MIXPREC_UNROLL
      for (int k = 0; k < 4; ++k) {
        const bool keeps = block.words[k] >= args.threshold;
        kept[i + k] = keeps ? 1 : 0;
        x[i + k] = keeps ? x[i + k] * args.scale : T(0);
      }
    }
    if (whole) {
      ptx::st_pack<kWidth>(args.mask + at, kept);
      store_elements<kWidth>(random.out, random.dtype, at, x);
      return;
    }
    MIXPREC_UNROLL
    for (int i = 0; i < kWidth; ++i) {
      if (at + i >= random.count) break;
      ptx::st(args.mask + at + i, kept[i]);
      store_vector_element(random.out, random.dtype, at + i, x[i]);
    }
  });
}

template <class T>
void run_dropout(CudaBackend& backend, const OpCall& call) {
  constexpr int kWidth = kVectorWidth<T>;
  const Tensor& out = call.out(0);
  const double p = call.attr(2);
  const Tensor x = contiguous_as(backend, call.in(0), out.dtype);
  check(x.numel() == out.numel(), "dropout got two sizes");
  if (out.numel() == 0) return;
  DropoutArgs<T> args{RandomArgs(call)};
  args.x = x.data;
  args.mask = call.out(1).as<uint8_t>();
  args.threshold = dropout_threshold(p);
  args.scale = static_cast<T>(p < 1.0 ? 1.0 / (1.0 - p) : 0.0);
  args.aligned = reinterpret_cast<uintptr_t>(x.data) % 16 == 0;
  launch<dropout_kernel<T>>(backend.config((out.numel() + kWidth - 1) / kWidth, kThreads), args);
}

}  // namespace

void CudaBackend::random_uniform(const OpCall& call) {
  const RandomArgs args(call);
  check(is_floating(args.dtype), "random_uniform gives floating point");
  if (args.count == 0) return;
  launch<uniform_kernel>(config((args.count + 1) / 2, kThreads), args,
                         interval_of(call.attr(2), call.attr(3), args.dtype));
}

void CudaBackend::random_normal(const OpCall& call) {
  const RandomArgs args(call);
  check(is_floating(args.dtype), "random_normal gives floating point");
  if (args.count == 0) return;
  launch<normal_kernel>(config((args.count + 1) / 2, kThreads), args, call.attr(2), call.attr(3));
}

void CudaBackend::random_int(const OpCall& call) {
  const RandomArgs args(call);
  const int64_t low = call.int_attr(2);
  const int64_t high = call.int_attr(3);
  check(low < high, "random_int needs low < high");
  if (args.count == 0) return;
  const uint64_t range = static_cast<uint64_t>(high) - static_cast<uint64_t>(low);
  launch<int_kernel>(config((args.count + 1) / 2, kThreads), args, low, range);
}

void CudaBackend::dropout(const OpCall& call) {
  const Tensor& out = call.out(0);
  const Tensor& mask = call.out(1);
  check(call.attr(2) >= 0.0 && call.attr(2) <= 1.0, "dropout needs a probability");
  check(is_floating(out.dtype), "dropout gives floating point");
  check(mask.dtype == DType::kBool && mask.numel() == out.numel(), "dropout needs a bool mask");
  if (out.dtype == DType::kFloat64) {
    run_dropout<double>(*this, call);
  } else {
    run_dropout<float>(*this, call);
  }
}

}  // namespace mixprec::cuda
