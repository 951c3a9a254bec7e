// What is reduced to what: each op has a state that elements are taken into, in any order, and
// states are merged. Elements come as numbers of the computed type, with their position among those
// of the output.
#pragma once

#include <limits>
#include <type_traits>

#include "element.h"
#include "exp_sum.h"

namespace mixprec::cuda {

template <class T>
struct SumReduction {
  using Number = T;
  using State = T;
  double factor = 1;

  MIXPREC_DEVICE void begin(int64_t) {}
  MIXPREC_DEVICE State empty() const { return T(0); }
  MIXPREC_DEVICE void take(State& state, T x, int64_t) const { state = plus(state, x); }
  MIXPREC_DEVICE State operator()(State a, State b) const { return plus(a, b); }
  MIXPREC_DEVICE void finish(State state, void* out, DType dtype, int64_t at) const {
    if (factor != 1) state = static_cast<T>(static_cast<double>(state) * factor);
    store_element(out, dtype, at, state);
  }

 private:
  static MIXPREC_DEVICE T plus(T a, T b) {
    if constexpr (std::is_integral_v<T>) {  // wraps around
      return static_cast<T>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
    } else {
      return a + b;
    }
  }
};

// The largest or smallest element, or where it is: the first of equal ones, and NaN before all.
template <class T>
struct ExtremumReduction {
  using Number = T;
  struct State {
    T value;
    int64_t position;
  };
  bool largest = true;
  bool wants_position = false;

  MIXPREC_DEVICE void begin(int64_t) {}
  MIXPREC_DEVICE State empty() const {
    if constexpr (std::is_integral_v<T>) {
      constexpr T kMost = static_cast<T>(~(uint64_t{1} << 63));
      return {largest ? -kMost - 1 : kMost, kNowhere};
    } else {
      const T infinity = static_cast<T>(INFINITY);
      return {largest ? -infinity : infinity, kNowhere};
    }
  }
  MIXPREC_DEVICE void take(State& state, T x, int64_t position) const {
    const State other{x, position};
    if (better(other, state)) state = other;
  }
  MIXPREC_DEVICE State operator()(const State& a, const State& b) const {
    return better(b, a) ? b : a;
  }
  MIXPREC_DEVICE void finish(const State& state, void* out, DType dtype, int64_t at) const {
    if (wants_position) {
      ptx::st(static_cast<int64_t*>(out) + at, state.position);
    } else {
      store_element(out, dtype, at, state.value);
    }
  }

 private:
  static constexpr int64_t kNowhere = static_cast<int64_t>(~(uint64_t{1} << 63));

  MIXPREC_DEVICE bool better(const State& a, const State& b) const {
    const bool a_is_nan = a.value != a.value;
    const bool b_is_nan = b.value != b.value;
    if (a_is_nan != b_is_nan) return a_is_nan;
    if (!a_is_nan && a.value != b.value) {
      return largest ? a.value > b.value : a.value < b.value;
    }
    return a.position < b.position;
  }
};

// The sum of squared distances from the mean of each output, which was computed before: in one
// pass, what the mean is rounded to would cost digits.
template <class T>
struct VarianceReduction {
  using Number = T;
  using State = T;
  const T* means = nullptr;
  double divisor = 1;
  T mean = 0;

  MIXPREC_DEVICE void begin(int64_t result) { mean = ptx::ld(means + result); }
  MIXPREC_DEVICE State empty() const { return T(0); }
  MIXPREC_DEVICE void take(State& state, T x, int64_t) const { state += (x - mean) * (x - mean); }
  MIXPREC_DEVICE State operator()(State a, State b) const { return a + b; }
  MIXPREC_DEVICE void finish(State state, void* out, DType dtype, int64_t at) const {
    store_element(out, dtype, at, static_cast<T>(static_cast<double>(state) / divisor));
  }
};

template <class T>
struct LogSumExpReduction {
  using Number = T;
  using State = ExpSum<T>;

  MIXPREC_DEVICE void begin(int64_t) {}
  MIXPREC_DEVICE State empty() const { return State::empty(); }
  MIXPREC_DEVICE void take(State& state, T x, int64_t) const {
    const T values[1] = {x};
    state.take(values);
  }
  MIXPREC_DEVICE State operator()(const State& a, const State& b) const {
    return ExpSumCombine()(a, b);
  }
  MIXPREC_DEVICE void finish(const State& state, void* out, DType dtype, int64_t at) const {
    store_element(out, dtype, at, DeviceMath::log(state.sum) + state.shift());
  }
};

}  // namespace mixprec::cuda
