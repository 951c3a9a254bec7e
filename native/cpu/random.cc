// Random numbers and dropout, as functions of seed, offset and the element's index (core/philox.h):
// the result depends on no thread.

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/box_muller.h"
#include "core/philox.h"
#include "cpu_backend.h"
#include "simd/kernels.h"
#include "strided.h"
#include "thread_pool.h"

namespace mixprec::cpu {
namespace {

constexpr int64_t kGrain = 1 << 14;
constexpr int64_t kBlock = 512;

struct Sequence {
  explicit Sequence(const OpCall& call, int32_t at = 0)
      : seed(static_cast<uint64_t>(call.int_attr(at))),
        offset(static_cast<uint64_t>(call.int_attr(at + 1))) {}
  uint64_t seed;
  uint64_t offset;
};

char* address(const Tensor& out, int64_t at) {
  return out.as<char>() + at * static_cast<int64_t>(item_size(out.dtype));
}

double rounded(double value, DType dtype) {
  alignas(8) char element[8];
  simd().convert(&value, DType::kFloat64, element, dtype, 1);
  simd().convert(element, dtype, &value, DType::kFloat64, 1);
  return value;
}

// The number of `dtype` next to `value`, one of them, towards -infinity or +infinity.
double neighbour(double value, DType dtype, bool upwards) {
  const double towards =
      upwards ? std::numeric_limits<double>::infinity() : -std::numeric_limits<double>::infinity();
  if (dtype == DType::kFloat64) return std::nextafter(value, towards);
  if (dtype == DType::kFloat32) {
    return std::nextafter(static_cast<float>(value), static_cast<float>(towards));
  }
  // 16-bit floats in order: the sign and magnitude of their bits.
  uint16_t bits;
  simd().convert(&value, DType::kFloat64, &bits, dtype, 1);
  const bool negative = (bits & 0x8000u) != 0;
  int magnitude = bits & 0x7fff;
  if (magnitude == 0) {
    bits = static_cast<uint16_t>(upwards ? 0x0001 : 0x8001);
  } else {
    magnitude += negative == upwards ? -1 : 1;
    bits = static_cast<uint16_t>((negative ? 0x8000 : 0) | magnitude);
  }
  simd().convert(&bits, dtype, &value, DType::kFloat64, 1);
  return value;
}

// The numbers of `dtype` in [low, high): rounding must not leave the interval.
struct Interval {
  Interval(double low, double high, DType dtype) : least(rounded(low, dtype)), most(least) {
    if (!(low < high)) return;
    const double low_rounded = least;
    if (least < low) least = neighbour(least, dtype, true);
    most = rounded(high, dtype);
    if (most >= high) most = neighbour(most, dtype, false);
    // No number of this dtype lies in between: the one nearest to low stands for all.
    if (most < least) least = most = low_rounded;
  }
  double least;
  double most;
};

int64_t to_whole(double value) { return static_cast<int64_t>(value); }

}  // namespace

void CpuBackend::random_uniform(const OpCall& call) {
  const Tensor& out = call.out();
  check(is_floating(out.dtype), "random_uniform gives floating point");
  const Sequence sequence(call);
  const double low = call.attr(2);
  const double high = call.attr(3);
  const Interval interval(low, high, out.dtype);
  const bool wide = out.dtype == DType::kFloat64;
  parallel_for(out.numel(), kGrain, [&](int64_t begin, int64_t end) {
    uint32_t words[2 * kBlock];
    double values[kBlock];
    for (int64_t at = begin; at < end; at += kBlock) {
      const int64_t count = std::min(kBlock, end - at);
      const int64_t per_element = wide ? 2 : 1;
      simd().random_words(sequence.seed, sequence.offset, at * per_element, words,
                          count * per_element);
      for (int64_t i = 0; i < count; ++i) {
        const double unit = wide ? uniform53(words[2 * i], words[2 * i + 1])
                                 : static_cast<double>(uniform24(words[i]));
        const double value = low + unit * (high - low);
        values[i] = std::min(std::max(value, interval.least), interval.most);
      }
      simd().convert(values, DType::kFloat64, address(out, at), out.dtype, count);
    }
  });
}

void CpuBackend::random_normal(const OpCall& call) {
  const Tensor& out = call.out();
  check(is_floating(out.dtype), "random_normal gives floating point");
  const Sequence sequence(call);
  const double mean = call.attr(2);
  const double deviation = call.attr(3);
  // Over pairs, so that every range begins with a whole one.
  const int64_t pairs = (out.numel() + 1) / 2;
  parallel_for(pairs, kGrain / 2, [&](int64_t begin_pair, int64_t end_pair) {
    const int64_t end = std::min(2 * end_pair, out.numel());
    uint32_t words[2 * kBlock];
    double wide[kBlock];
    float narrow[kBlock];
    for (int64_t at = 2 * begin_pair; at < end; at += kBlock) {
      const int64_t count = std::min(kBlock, end - at);
      if (out.dtype != DType::kFloat64) {
        simd().random_normal(sequence.seed, sequence.offset, at, narrow, count);
        const auto center = static_cast<float>(mean);
        const auto scale = static_cast<float>(deviation);
        for (int64_t i = 0; i < count; ++i) narrow[i] = center + scale * narrow[i];
        simd().convert(narrow, DType::kFloat32, address(out, at), out.dtype, count);
        continue;
      }
      const int64_t whole = (count + 1) / 2;
      simd().random_words(sequence.seed, sequence.offset, 2 * at, words, 4 * whole);
      for (int64_t j = 0; j < whole; ++j) {
        const uint32_t* own = words + 4 * j;
        const auto normal = box_muller<double>(uniform53(own[0], own[1]), uniform53(own[2], own[3]),
                                               [](double x) { return std::sqrt(x); });
        wide[2 * j] = mean + deviation * normal.first;
        wide[2 * j + 1] = mean + deviation * normal.second;
      }
      std::copy_n(wide, count, out.as<double>() + at);
    }
  });
}

void CpuBackend::random_int(const OpCall& call) {
  const Tensor& out = call.out();
  const Sequence sequence(call);
  const int64_t low = to_whole(call.attr(2));
  const int64_t high = to_whole(call.attr(3));
  check(low < high, "random_int needs low < high");
  const uint64_t range = static_cast<uint64_t>(high) - static_cast<uint64_t>(low);
  parallel_for(out.numel(), kGrain, [&](int64_t begin, int64_t end) {
    uint32_t words[2 * kBlock];
    int64_t values[kBlock];
    for (int64_t at = begin; at < end; at += kBlock) {
      const int64_t count = std::min(kBlock, end - at);
      simd().random_words(sequence.seed, sequence.offset, 2 * at, words, 2 * count);
      for (int64_t i = 0; i < count; ++i) {
        // The upper half of a 128-bit product: 64 random bits as a fraction of the range.
        const uint64_t word = (static_cast<uint64_t>(words[2 * i + 1]) << 32) | words[2 * i];
        const auto scaled =
            static_cast<uint64_t>((static_cast<unsigned __int128>(word) * range) >> 64);
        values[i] = static_cast<int64_t>(static_cast<uint64_t>(low) + scaled);
      }
      simd().convert(values, DType::kInt64, address(out, at), out.dtype, count);
    }
  });
}

void CpuBackend::dropout(const OpCall& call) {
  const Tensor& out = call.out(0);
  const Tensor& mask = call.out(1);
  const Sequence sequence(call);
  const double p = call.attr(2);
  check(p >= 0.0 && p <= 1.0, "dropout needs a probability");
  check(is_floating(out.dtype), "dropout gives floating point");
  check(mask.dtype == DType::kBool && mask.numel() == out.numel(), "dropout needs a bool mask");
  const Tensor x = contiguous_as(*this, call.in(0), out.dtype);
  check(x.numel() == out.numel(), "dropout got two sizes");
  const double scale = p < 1.0 ? 1.0 / (1.0 - p) : 0.0;
  parallel_for(out.numel(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += kBlock) {
      const int64_t count = std::min(kBlock, end - at);
      uint8_t* kept = mask.as<uint8_t>() + at;
      simd().dropout_mask(sequence.seed, sequence.offset, at, p, kept, count);
      simd().apply_mask(out.dtype, address(x, at), kept, scale, address(out, at), count);
    }
  });
}

}  // namespace mixprec::cpu
