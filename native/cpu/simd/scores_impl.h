// The score kernels, written once as loops that the compiler vectorizes and compiled for each
// instruction set by scores_*.cc.
#pragma once

#include "scores.h"

// Everything here is internal to the unit that includes it, so that no code for one instruction set
// is ever linked in place of another's.
namespace mixprec::cpu {
namespace {

constexpr int64_t kLanes = 16;

template <class T>
constexpr T kMinusInfinity = static_cast<T>(-__builtin_inf());

template <class T>
void hide(T* scores, const uint8_t* visible, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const T score = scores[i];
    scores[i] = visible[i] != 0 ? score : kMinusInfinity<T>;
  }
}

template <class T>
T row_max(const T* x, int64_t n) {
  T lanes[kLanes];
  for (int64_t j = 0; j < kLanes; ++j) lanes[j] = kMinusInfinity<T>;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
  }
  T result = kMinusInfinity<T>;
  for (; i < n; ++i) result = x[i] > result ? x[i] : result;
  for (int64_t j = 0; j < kLanes; ++j) result = lanes[j] > result ? lanes[j] : result;
  return result;
}

// The sum of what `term` makes of 0 to n - 1.
template <class T, class Term>
inline __attribute__((always_inline)) T row_sum(int64_t n, const Term& term) {
  T lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) lanes[j] += term(i + j);
  }
  T tail = 0;
  for (; i < n; ++i) tail += term(i);
  for (int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (int64_t j = 0; j < width; ++j) lanes[j] += lanes[j + width];
  }
  return lanes[0] + tail;
}

template <class T>
void shift_row(T* row, T by, int64_t n) {
  const T shift = by == kMinusInfinity<T> ? T{0} : by;
  for (int64_t j = 0; j < n; ++j) row[j] -= shift;
}

template <class T>
void shift_by_max(T* scores, T* maxima, int64_t rows, int64_t cols) {
  for (int64_t i = 0; i < rows; ++i) {
    maxima[i] = row_max(scores + i * cols, cols);
    shift_row(scores + i * cols, maxima[i], cols);
  }
}

template <class T>
void shift(T* scores, const T* shifts, int64_t rows, int64_t cols) {
  for (int64_t i = 0; i < rows; ++i) shift_row(scores + i * cols, shifts[i], cols);
}

template <class T>
void normalize(T* weights, T* totals, int64_t rows, int64_t cols) {
  for (int64_t i = 0; i < rows; ++i) {
    T* row = weights + i * cols;
    const T total = row_sum<T>(
        cols, [=](int64_t j) __attribute__((always_inline)) { return row[j]; });
    // A sum that is not a number is passed on.
    const T factor = total > 0 || total != total ? T{1} / total : T{0};
    for (int64_t j = 0; j < cols; ++j) row[j] *= factor;
    totals[i] = total;
  }
}

template <class T>
void drop(T* weights, const uint8_t* kept, T factor, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) weights[i] *= static_cast<T>(kept[i]) * factor;
}

template <class T>
void drop_grads(T* grads, const T* weights, const uint8_t* kept, T factor, T* dropped, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const T own = static_cast<T>(kept[i]) * factor;
    grads[i] *= own;
    dropped[i] = own * weights[i];
  }
}

template <class T>
void score_grads(T* grads, const T* weights, int64_t rows, int64_t cols) {
  for (int64_t i = 0; i < rows; ++i) {
    T* grad = grads + i * cols;
    const T* weight = weights + i * cols;
    const T delta = row_sum<T>(
        cols, [=](int64_t j) __attribute__((always_inline)) { return weight[j] * grad[j]; });
#pragma GCC ivdep
    for (int64_t j = 0; j < cols; ++j) grad[j] = weight[j] * (grad[j] - delta);
  }
}

template <class T>
constexpr ScoreTable<T> kScoreTable = {
    hide<T>, shift_by_max<T>, shift<T>, normalize<T>, drop<T>, drop_grads<T>, score_grads<T>,
};

constexpr ScoreKernels kScoreKernels = {kScoreTable<float>, kScoreTable<double>};

}  // namespace
}  // namespace mixprec::cpu
