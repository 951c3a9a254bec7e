// Scaled dot-product attention, one head of one batch entry at a time: scores exist for a block of
// rows only, and backward makes them again from the saved logsumexp.

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/attention.h"
#include "core/philox.h"
#include "cpu_backend.h"
#include "gemm/gemm.h"
#include "simd/kernels.h"
#include "simd/scores.h"
#include "strided.h"
#include "thread_pool.h"

namespace mixprec::cpu {
namespace {

// Scores of a block of rows: 256 KiB of float32, so that they stay in the cache of one core.
constexpr int64_t kScoresPerBlock = 1 << 16;
constexpr int64_t kMaskChunk = 512;  // elements of a mask at once

// The matrix of one head: rows of [B, H, rows, D] from `row` on.
GemmOperand head(const Tensor& tensor, int64_t b, int64_t h, int64_t row, bool transposed) {
  GemmOperand operand;
  const int64_t at = b * tensor.strides[0] + h * tensor.strides[1] + row * tensor.strides[2];
  operand.data = tensor.as<char>() + at * static_cast<int64_t>(item_size(tensor.dtype));
  operand.dtype = tensor.dtype;
  operand.row_stride = tensor.strides[2];
  operand.col_stride = tensor.strides[3];
  if (transposed) std::swap(operand.row_stride, operand.col_stride);
  return operand;
}

GemmOperand dense(const void* data, DType dtype, int64_t cols, bool transposed) {
  GemmOperand operand;
  operand.data = data;
  operand.dtype = dtype;
  operand.row_stride = transposed ? 1 : cols;
  operand.col_stride = transposed ? cols : 1;
  return operand;
}

// An output [B, rows, H, D] as the matrix of one head.
char* out_head(const Tensor& out, int64_t b, int64_t h, int64_t row) {
  const int64_t at = ((b * out.shape[1] + row) * out.shape[2] + h) * out.shape[3];
  return out.as<char>() + at * static_cast<int64_t>(item_size(out.dtype));
}

struct Product {
  int64_t M, N, K;
  double alpha = 1.0;
  double beta = 0.0;
};

void multiply(const Product& product, const GemmOperand& lhs, const GemmOperand& rhs, void* out,
              DType out_dtype, int64_t out_row_stride, MatmulPrecision precision) {
  GemmDesc desc;
  desc.M = product.M;
  desc.N = product.N;
  desc.K = product.K;
  desc.lhs = lhs;
  desc.rhs = rhs;
  desc.out = out;
  desc.out_dtype = out_dtype;
  desc.out_row_stride = out_row_stride;
  desc.alpha = product.alpha;
  desc.beta = product.beta;
  desc.precision = precision;
  gemm(desc);
}

template <class T>
constexpr DType kAccDType = sizeof(T) == 8 ? DType::kFloat64 : DType::kFloat32;

// What is done to the scores of a block before they are exponentiated, and to the weights after.
template <class T>
class Scores {
 public:
  Scores(const AttentionProblem& p, const Tensor* mask)
      : p_(p),
        kernels_(scores().table<T>()),
        range_(mask == nullptr ? StridedRange(Tensor{}) : mask_range(p, *mask)),
        has_mask_(mask != nullptr),
        same_for_rows_(has_mask_ && (mask->rank < 2 || mask->shape[mask->rank - 2] == 1 ||
                                     mask->strides[mask->rank - 2] == 0)) {}

  // Rows [row, row + count) of head (b, h), already multiplied with the scale.
  void mask(T* scores, int64_t b, int64_t h, int64_t row, int64_t count, T* scratch) const {
    if (has_mask_) add_mask(scores, index(b, h, row), count, scratch);
    if (!p_.causal) return;
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t j = row + i + 1; j < p_.S; ++j) {
        scores[i * p_.S + j] = -std::numeric_limits<T>::infinity();
      }
    }
  }

  // Which weights of the same rows dropout keeps: 1, or 0.
  void keep(uint8_t* kept, int64_t b, int64_t h, int64_t row, int64_t count) const {
    simd().dropout_mask(p_.seed, p_.offset, index(b, h, row), p_.dropout, kept, count * p_.S);
  }
  // What the weights that are kept are multiplied with.
  T keep_factor() const {
    return p_.dropout < 1.0 ? static_cast<T>(1.0 / (1.0 - p_.dropout)) : T{0};
  }

 private:
  static StridedRange mask_range(const AttentionProblem& p, const Tensor& mask) {
    const int64_t shape[] = {p.B, p.H, p.L, p.S};
    return StridedRange(mask, shape, 4);
  }
  int64_t index(int64_t b, int64_t h, int64_t row) const {
    return ((b * p_.H + h) * p_.L + row) * p_.S;
  }
  void add_mask(T* scores, int64_t first, int64_t rows, T* scratch) const {
    const bool is_bool = range_.dtype() == DType::kBool;
    char raw[kMaskChunk * 8];
    for (int64_t at = 0; at < p_.S; at += kMaskChunk) {
      const int64_t n = std::min(kMaskChunk, p_.S - at);
      for (int64_t i = 0; i < rows; ++i) {
        if (i == 0 || !same_for_rows_) {
          range_.read(first + i * p_.S + at, n, raw);
          if (!is_bool) simd().convert(raw, range_.dtype(), scratch, kAccDType<T>, n);
        }
        T* to = scores + i * p_.S + at;
        if (is_bool) {
          kernels_.hide(to, reinterpret_cast<const uint8_t*>(raw), n);
        } else {
          simd().binary(BinaryOp::add, kAccDType<T>, to, false, scratch, false, to, n);
        }
      }
    }
  }

  const AttentionProblem& p_;
  const ScoreTable<T>& kernels_;
  StridedRange range_;
  bool has_mask_;
  bool same_for_rows_;  // of one head
};

int64_t rows_per_block(const AttentionProblem& p) {
  return std::clamp<int64_t>(kScoresPerBlock / std::max<int64_t>(p.S, 1), 1,
                             std::max<int64_t>(p.L, 1));
}

template <class T>
struct Scratch {
  std::vector<T> values;
  std::vector<uint8_t> kept;

  T* get(int64_t count) {
    if (static_cast<int64_t>(values.size()) < count) values.resize(static_cast<size_t>(count));
    return values.data();
  }
  uint8_t* get_kept(int64_t count) {
    if (static_cast<int64_t>(kept.size()) < count) kept.resize(static_cast<size_t>(count));
    return kept.data();
  }
};

template <class T>
void exponentiate(T* scores, int64_t n) {
  simd().unary(UnaryOp::exp, kAccDType<T>, scores, scores, n);
}

template <class T>
void forward(const OpCall& call) {
  constexpr DType kAcc = kAccDType<T>;
  const Tensor &q = call.in(0), &k = call.in(1), &v = call.in(2);
  const AttentionProblem p(call, q, k);
  const Tensor* mask = call.flag(5) ? &call.in(3) : nullptr;
  const Tensor& out = call.out(0);
  T* logsumexp = call.out(1).as<T>();
  const Scores<T> rules(p, mask);
  const ScoreTable<T>& kernels = scores().table<T>();
  const int64_t block = rows_per_block(p);
  const int64_t blocks = (p.L + block - 1) / block;
  parallel_for(p.B * p.H * blocks, 1, [&](int64_t begin, int64_t end) {
    thread_local Scratch<T> scratch;
    T* weights = scratch.get(block * p.S + 2 * block + kMaskChunk);
    T* maxima = weights + block * p.S;
    T* totals = maxima + block;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t b = task / blocks / p.H;
      const int64_t h = task / blocks % p.H;
      const int64_t row = task % blocks * block;
      const int64_t rows = std::min(block, p.L - row);
      multiply({rows, p.S, p.D, p.scale}, head(q, b, h, row, false), head(k, b, h, 0, true),
               weights, kAcc, p.S, p.precision);
      rules.mask(weights, b, h, row, rows, totals + block);
      kernels.shift_by_max(weights, maxima, rows, p.S);
      exponentiate(weights, rows * p.S);
      kernels.normalize(weights, totals, rows, p.S);
      for (int64_t i = 0; i < rows; ++i) {
        logsumexp[(b * p.H + h) * p.L + row + i] = maxima[i] + std::log(totals[i]);
      }
      if (p.dropout > 0) {
        uint8_t* kept = scratch.get_kept(rows * p.S);
        rules.keep(kept, b, h, row, rows);
        kernels.drop(weights, kept, rules.keep_factor(), rows * p.S);
      }
      multiply({rows, v.shape[3], p.S}, dense(weights, kAcc, p.S, false), head(v, b, h, 0, false),
               out_head(out, b, h, row), out.dtype, p.H * v.shape[3], p.precision);
    }
  });
}

// Where the gradient of k or v of one head is summed over blocks of rows: in the output itself
// where there is one block, else in memory of the arithmetic's dtype, which store_head rounds.
struct HeadSum {
  void* data;
  DType dtype;
  int64_t row_stride;
};

template <class T>
HeadSum head_sum(const Tensor& out, int64_t b, int64_t h, bool single_block, T* values) {
  if (single_block) return {out_head(out, b, h, 0), out.dtype, out.shape[2] * out.shape[3]};
  return {values, kAccDType<T>, out.shape[3]};
}

template <class T>
void store_head(const Tensor& out, int64_t b, int64_t h, const T* values, int64_t rows) {
  const int64_t width = out.shape[3];
  for (int64_t i = 0; i < rows; ++i) {
    simd().convert(values + i * width, kAccDType<T>, out_head(out, b, h, i), out.dtype, width);
  }
}

template <class T>
void backward(const OpCall& call) {
  constexpr DType kAcc = kAccDType<T>;
  const Tensor &g = call.in(0), &q = call.in(1), &k = call.in(2), &v = call.in(3);
  const AttentionProblem p(call, q, k);
  const int64_t DV = v.shape[3];
  check(call.in(5).is_contiguous(), "attention_grad needs a dense logsumexp");
  const T* logsumexp = call.in(5).as<T>();
  const Tensor* mask = call.flag(5) ? &call.in(6) : nullptr;
  const Scores<T> rules(p, mask);
  const ScoreTable<T>& kernels = scores().table<T>();
  const int64_t block = rows_per_block(p);
  const bool single_block = p.L > 0 && p.L <= block;
  parallel_for(p.B * p.H, 1, [&](int64_t begin, int64_t end) {
    thread_local Scratch<T> scratch;
    T* weights = scratch.get(3 * block * p.S + p.S * (p.D + DV) + kMaskChunk);
    T* grads = weights + block * p.S;
    T* dropped = grads + block * p.S;
    T* grad_k = dropped + block * p.S;
    T* grad_v = grad_k + p.S * p.D;
    T* mask_row = grad_v + p.S * DV;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t b = task / p.H;
      const int64_t h = task % p.H;
      const HeadSum sum_k = head_sum(call.out(1), b, h, single_block, grad_k);
      const HeadSum sum_v = head_sum(call.out(2), b, h, single_block, grad_v);
      for (int64_t row = 0; row < p.L; row += block) {
        const int64_t rows = std::min(block, p.L - row);
        const double beta = row == 0 ? 0.0 : 1.0;
        const GemmOperand q_rows = head(q, b, h, row, false);
        const GemmOperand grad_rows = head(g, b, h, row, false);
        multiply({rows, p.S, p.D, p.scale}, q_rows, head(k, b, h, 0, true), weights, kAcc, p.S,
                 p.precision);
        rules.mask(weights, b, h, row, rows, mask_row);
        kernels.shift(weights, logsumexp + (b * p.H + h) * p.L + row, rows, p.S);
        exponentiate(weights, rows * p.S);
        multiply({rows, p.S, DV}, grad_rows, head(v, b, h, 0, true), grads, kAcc, p.S, p.precision);
        if (p.dropout > 0) {
          uint8_t* kept = scratch.get_kept(rows * p.S);
          rules.keep(kept, b, h, row, rows);
          kernels.drop_grads(grads, weights, kept, rules.keep_factor(), dropped, rows * p.S);
        }
        const T* used = p.dropout > 0 ? dropped : weights;
        multiply({p.S, DV, rows, 1.0, beta}, dense(used, kAcc, p.S, true), grad_rows, sum_v.data,
                 sum_v.dtype, sum_v.row_stride, p.precision);
        // The sum is also that of gradOutput times out, but that one was rounded to 16 bits.
        kernels.score_grads(grads, weights, rows, p.S);
        const GemmOperand grad_scores = dense(grads, kAcc, p.S, false);
        multiply({rows, p.D, p.S, p.scale}, grad_scores, head(k, b, h, 0, false),
                 out_head(call.out(0), b, h, row), call.out(0).dtype, p.H * p.D, p.precision);
        multiply({p.S, p.D, rows, p.scale, beta}, dense(grads, kAcc, p.S, true), q_rows, sum_k.data,
                 sum_k.dtype, sum_k.row_stride, p.precision);
      }
      if (single_block) continue;
      if (p.L == 0) std::fill_n(grad_k, p.S * (p.D + DV), T{0});
      store_head(call.out(1), b, h, grad_k, p.S);
      store_head(call.out(2), b, h, grad_v, p.S);
    }
  });
}

}  // namespace

void CpuBackend::attention(const OpCall& call) {
  if (call.out(1).dtype == DType::kFloat64) {
    forward<double>(call);
  } else {
    forward<float>(call);
  }
}

void CpuBackend::attention_grad(const OpCall& call) {
  if (call.in(5).dtype == DType::kFloat64) {
    backward<double>(call);
  } else {
    backward<float>(call);
  }
}

}  // namespace mixprec::cpu
