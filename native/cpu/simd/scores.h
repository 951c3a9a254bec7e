// Kernels over rows of attention scores in float32 or float64, compiled once per instruction set.
// Sums use a fixed number of lanes and add them in a fixed order, so that results are the same at
// every instruction set.
#pragma once

#include <cstdint>
#include <type_traits>

namespace mixprec::cpu {

// Rows are dense, `cols` long.
template <class T>
struct ScoreTable {
  // Scores that are not visible become -infinity.
  void (*hide)(T* scores, const uint8_t* visible, int64_t n);
  // scores -= the largest of the row, which goes to `maxima`; where that is -infinity, 0 instead.
  void (*shift_by_max)(T* scores, T* maxima, int64_t rows, int64_t cols);
  // scores -= shifts, one a row; where that is -infinity, 0 instead.
  void (*shift)(T* scores, const T* shifts, int64_t rows, int64_t cols);
  // Divides rows by their sums, which go to `totals`; a row of zeros stays so.
  void (*normalize)(T* weights, T* totals, int64_t rows, int64_t cols);
  // Dropout: weights *= kept ? factor : 0.
  void (*drop)(T* weights, const uint8_t* kept, T factor, int64_t n);
  // The same to `grads`, and to the weights that go to `dropped`.
  void (*drop_grads)(T* grads, const T* weights, const uint8_t* kept, T factor, T* dropped,
                     int64_t n);
  // Gradients of weights to gradients of scores: weight * (grad - sum of weight * grad).
  void (*score_grads)(T* grads, const T* weights, int64_t rows, int64_t cols);
};

struct ScoreKernels {
  ScoreTable<float> f32;
  ScoreTable<double> f64;

  template <class T>
  const ScoreTable<T>& table() const {
    if constexpr (std::is_same_v<T, float>) {
      return f32;
    } else {
      return f64;
    }
  }
};

const ScoreKernels& scores_portable();
const ScoreKernels& scores_avx2();    // x86-64 only
const ScoreKernels& scores_avx512();  // x86-64 only

// The kernels for isa().
const ScoreKernels& scores();

}  // namespace mixprec::cpu
