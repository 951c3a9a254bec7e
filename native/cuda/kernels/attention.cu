// Scaled dot-product attention out of products and kernels over rows of scores, all heads at once:
// scores exist for a block of rows only, and backward makes them again from the saved logsumexp.

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/philox.h"
#include "cuda/gemm/gemm.h"
#include "cuda/runtime/error.h"
#include "cuda/tensors.h"
#include "elementwise.h"
#include "math.h"
#include "reduce_block.h"

namespace mixprec::cuda {
namespace {

// Threads of a row of scores: a warp for most, which needs no barriers, and more for long rows.
constexpr int kShortRow = 32;
constexpr int kLongRow = 256;
constexpr int64_t kShortRowLength = 2048;

struct Problem {
  int64_t B, H, L, S, D;
  double scale;
  bool causal;
  double dropout;
  uint64_t seed;
  uint64_t offset;
  MatmulPrecision precision;
};

Problem problem(const OpCall& call, const Tensor& q, const Tensor& k) {
  check(q.rank == 4 && k.rank == 4, "attention takes [B, H, L, D]");
  return {q.shape[0],
          q.shape[1],
          q.shape[2],
          k.shape[2],
          q.shape[3],
          call.attr(0),
          call.flag(1),
          call.attr(2),
          static_cast<uint64_t>(call.int_attr(3)),
          static_cast<uint64_t>(call.int_attr(4)),
          static_cast<MatmulPrecision>(call.int_attr(6))};
}

// ---- Rows of scores ----

struct RowsArgs {
  void* scores;      // [B * H, rows, S], multiplied with the scale; becomes what comes out
  void* grads;       // backward: likewise, of the weights; becomes that of the scores
  void* logsumexp;   // [B, H, L]
  const void* mask;  // null for none
  DType mask_dtype;
  int64_t mask_strides[4];
  int64_t H, L, S;
  int64_t first;  // row of the block
  int64_t rows;   // of the block
  bool causal;
  bool drops;
  uint64_t threshold;  // of the words that dropout keeps
  double keep;         // their factor
  uint64_t seed;
  uint64_t offset;
};

// One row of scores, which a block of kThreads works on.
template <class T, int kThreads>
class ScoreRow {
 public:
  MIXPREC_DEVICE ScoreRow(const RowsArgs& args) : args_(args) {
    const int64_t head = blockIdx.x / args.rows;  // b * H + h
    row_ = args.first + blockIdx.x - head * args.rows;
    const int64_t b = head / args.H;
    index_ = head * args.L + row_;
    mask_at_ = b * args.mask_strides[0] + (head - b * args.H) * args.mask_strides[1] +
               row_ * args.mask_strides[2];
    begin_ = blockIdx.x * args.S;
  }

  MIXPREC_DEVICE T* scores() const { return static_cast<T*>(args_.scores) + begin_; }
  MIXPREC_DEVICE T* grads() const { return static_cast<T*>(args_.grads) + begin_; }
  MIXPREC_DEVICE T* logsumexp() const { return static_cast<T*>(args_.logsumexp) + index_; }

  // The score of column j after masking.
  MIXPREC_DEVICE T masked(int64_t j) const {
    constexpr T kOut = -std::numeric_limits<T>::infinity();
    if (args_.causal && j > row_) return kOut;
    const T score = ptx::ld(scores() + j);
    if (args_.mask == nullptr) return score;
    const int64_t at = mask_at_ + j * args_.mask_strides[3];
    if (args_.mask_dtype == DType::kBool) {
      return ptx::ld(static_cast<const uint8_t*>(args_.mask) + at) != 0 ? score : kOut;
    }
    return score + load_element<T>(args_.mask, args_.mask_dtype, at);
  }

  // Calls body(j, factor) for this thread's columns, with the factor of dropout: 0, or
  // 1 / (1 - p).
  template <class Body>
  MIXPREC_DEVICE void for_each_factor(const Body& body) const {
    if (!args_.drops) {
      for (int64_t j = threadIdx.x; j < args_.S; j += kThreads) body(j, T(1));
      return;
    }
    // A draw gives four words, for the elements of its quad of all scores.
    const int64_t first = index_ * args_.S;
    const int64_t last_quad = (first + args_.S - 1) / 4;
    for (int64_t quad = first / 4 + threadIdx.x; quad <= last_quad; quad += kThreads) {
      const PhiloxBlock draw = philox(args_.seed, args_.offset + static_cast<uint64_t>(quad));
      MIXPREC_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int64_t j = quad * 4 + i - first;
        if (j < 0 || j >= args_.S) continue;
        body(j, draw.words[i] >= args_.threshold ? static_cast<T>(args_.keep) : T(0));
      }
    }
  }

 private:
  const RowsArgs& args_;
  int64_t row_;
  int64_t index_;  // of all rows
  int64_t mask_at_;
  int64_t begin_;
};

// What is taken from the scores before they are exponentiated: a row where all is masked gives
// zeros.
template <class T>
MIXPREC_DEVICE T shift_of(T value) {
  return value == -std::numeric_limits<T>::infinity() ? T(0) : value;
}

// Scores to weights that add up to 1, then dropout; and logsumexp.
template <class T, int kThreads>
__global__ void __launch_bounds__(kThreads) weigh_rows(MIXPREC_GRID_CONSTANT(RowsArgs) args) {
  const ScoreRow<T, kThreads> row(args);
  T* const scores = row.scores();
  T largest = -std::numeric_limits<T>::infinity();
  for (int64_t j = threadIdx.x; j < args.S; j += kThreads) {
    const T score = row.masked(j);
    ptx::st(scores + j, score);
    largest = score > largest ? score : largest;
  }
  largest = block_reduce<kThreads>(largest, -std::numeric_limits<T>::infinity(), MaxCombine());
  const T shift = shift_of(largest);
  T total = 0;
  for (int64_t j = threadIdx.x; j < args.S; j += kThreads) {
    const T weight = DeviceMath::exp(ptx::ld(scores + j) - shift);
    ptx::st(scores + j, weight);
    total += weight;
  }
  total = block_reduce<kThreads>(total, T(0), AddCombine());
  // With dropout, columns are shared out in another way from here on.
  if (args.drops) ptx::sync_threads();
  const T factor = total > 0 || total != total ? T(1) / total : T(0);
  row.for_each_factor([&](int64_t j, T kept) {
    const T weight = ptx::ld(scores + j) * factor;
    ptx::st(scores + j, args.drops ? weight * kept : weight);
  });
  if (threadIdx.x == 0) ptx::st(row.logsumexp(), largest + DeviceMath::log(total));
}

// Scores become the weights after dropout, the gradient of those that of the scores.
template <class T, int kThreads>
__global__ void __launch_bounds__(kThreads) unweigh_rows(MIXPREC_GRID_CONSTANT(RowsArgs) args) {
  const ScoreRow<T, kThreads> row(args);
  T* const scores = row.scores();
  T* const grads = row.grads();
  const T shift = shift_of(ptx::ld(row.logsumexp()));
  T delta = 0;
  // Weights that dropout takes away are kept with a minus sign.
  row.for_each_factor([&](int64_t j, T kept) {
    const T weight = DeviceMath::exp(row.masked(j) - shift);
    const T grad = ptx::ld(grads + j) * kept;
    ptx::st(scores + j, kept == T(0) ? -weight : weight);
    ptx::st(grads + j, grad);
    delta += weight * grad;
  });
  // Also the sum of gradOutput times out, but that one was rounded to 16 bits.
  delta = block_reduce<kThreads>(delta, T(0), AddCombine());
  if (args.drops) ptx::sync_threads();
  const T keep = args.drops ? static_cast<T>(args.keep) : T(1);
  for (int64_t j = threadIdx.x; j < args.S; j += kThreads) {
    const T marked = ptx::ld(scores + j);
    const T weight = DeviceMath::abs(marked);
    ptx::st(grads + j, weight * (ptx::ld(grads + j) - delta));
    ptx::st(scores + j, marked == weight ? weight * keep : (weight == weight ? T(0) : weight));
  }
}

// ---- Products of all heads ----

// Rows of [B, H, rows, D] from `row` on.
GemmOperand heads(const Tensor& tensor, int64_t row, bool transposed) {
  GemmOperand operand;
  operand.data = tensor.as<const char>() +
                 row * tensor.strides[2] * static_cast<int64_t>(item_size(tensor.dtype));
  operand.dtype = tensor.dtype;
  operand.row_stride = tensor.strides[2];
  operand.col_stride = tensor.strides[3];
  if (transposed) std::swap(operand.row_stride, operand.col_stride);
  operand.batch_stride = tensor.strides[1];
  operand.outer_stride = tensor.strides[0];
  return operand;
}

// Scratch memory [B, H, rows, cols].
GemmOperand dense_heads(const void* data, DType dtype, int64_t heads, int64_t rows, int64_t cols,
                        bool transposed) {
  GemmOperand operand;
  operand.data = data;
  operand.dtype = dtype;
  operand.row_stride = transposed ? 1 : cols;
  operand.col_stride = transposed ? cols : 1;
  operand.batch_stride = rows * cols;
  operand.outer_stride = heads * rows * cols;
  return operand;
}

class Products {
 public:
  Products(CudaBackend& backend, const Problem& problem) : backend_(backend), p_(problem) {}

  // lhs [B, H, M, K] x rhs [B, H, K, N] -> scratch [B, H, M, N].
  void into_scratch(int64_t M, int64_t N, int64_t K, double alpha, const GemmOperand& lhs,
                    const GemmOperand& rhs, void* out, DType dtype) const {
    GemmDesc desc = description(M, N, K, alpha, lhs, rhs);
    desc.out = out;
    desc.out_dtype = dtype;
    desc.out_row_stride = N;
    desc.out_batch_stride = M * N;
    desc.out_outer_stride = p_.H * M * N;
    gemm(backend_, desc);
  }

  // -> rows [row, row + M) of out [B, rows, H, N], added to where beta is 1.
  void into_rows(int64_t M, int64_t K, double alpha, double beta, const GemmOperand& lhs,
                 const GemmOperand& rhs, const Tensor& out, int64_t row) const {
    const int64_t N = out.shape[3];
    GemmDesc desc = description(M, N, K, alpha, lhs, rhs);
    desc.out_row_stride = p_.H * N;
    desc.out_batch_stride = N;
    desc.out_outer_stride = out.shape[1] * p_.H * N;
    desc.out =
        out.as<char>() + row * desc.out_row_stride * static_cast<int64_t>(item_size(out.dtype));
    desc.out_dtype = out.dtype;
    desc.beta = beta;
    gemm(backend_, desc);
  }

 private:
  GemmDesc description(int64_t M, int64_t N, int64_t K, double alpha, const GemmOperand& lhs,
                       const GemmOperand& rhs) const {
    GemmDesc desc;
    desc.M = M;
    desc.N = N;
    desc.K = K;
    desc.batch = p_.H;
    desc.outer = p_.B;
    desc.lhs = lhs;
    desc.rhs = rhs;
    desc.alpha = alpha;
    desc.precision = p_.precision;
    return desc;
  }

  CudaBackend& backend_;
  const Problem& p_;
};

// Rows of all heads at a time whose scores, in `buffers` arrays, stay in the second-level cache.
int64_t rows_per_block(const CudaBackend& backend, const Problem& p, DType dtype, int buffers) {
  const int64_t row_bytes = p.B * p.H * p.S * static_cast<int64_t>(item_size(dtype)) * buffers;
  const auto budget = static_cast<int64_t>(backend.properties().l2_bytes / 2);
  int64_t rows = budget / std::max<int64_t>(row_bytes, 1);
  if (rows > 64) rows -= rows % 64;  // whole tiles of the products
  return std::clamp<int64_t>(rows, 1, std::max<int64_t>(p.L, 1));
}

RowsArgs rows_args(const Problem& p, const Tensor* mask, void* logsumexp) {
  RowsArgs args{};
  args.logsumexp = logsumexp;
  if (mask != nullptr) {
    args.mask = mask->data;
    args.mask_dtype = mask->dtype;
    const int64_t shape[] = {p.B, p.H, p.L, p.S};
    const int32_t lead = 4 - mask->rank;
    check(lead >= 0, "a mask of more than four dimensions");
    for (int32_t dim = lead; dim < 4; ++dim) {
      const int64_t own = mask->shape[dim - lead];
      check(own == shape[dim] || own == 1, "a mask does not broadcast to the scores");
      args.mask_strides[dim] = own == 1 ? 0 : mask->strides[dim - lead];
    }
  }
  args.H = p.H;
  args.L = p.L;
  args.S = p.S;
  args.causal = p.causal;
  args.drops = p.dropout > 0;
  args.threshold = dropout_threshold(p.dropout);
  args.keep = p.dropout < 1.0 ? 1.0 / (1.0 - p.dropout) : 0.0;
  args.seed = p.seed;
  args.offset = p.offset;
  return args;
}

// The kernel for short rows, or that for long ones.
template <auto short_rows, auto long_rows>
void launch_rows(const CudaBackend& backend, const Problem& p, RowsArgs& args, int64_t first,
                 int64_t rows) {
  args.first = first;
  args.rows = rows;
  const auto blocks = static_cast<uint32_t>(p.B * p.H * rows);
  if (p.S <= kShortRowLength) {
    launch<short_rows>(backend.grid(blocks, kShortRow), args);
  } else {
    launch<long_rows>(backend.grid(blocks, kLongRow), args);
  }
}

template <class T>
constexpr DType kAccDType = sizeof(T) == 8 ? DType::kFloat64 : DType::kFloat32;

template <class T>
void forward(CudaBackend& backend, const OpCall& call) {
  constexpr DType kAcc = kAccDType<T>;
  const Tensor &q = call.in(0), &k = call.in(1), &v = call.in(2);
  const Problem p = problem(call, q, k);
  const Products products(backend, p);
  if (p.B * p.H * p.L == 0) return;
  RowsArgs args = rows_args(p, call.flag(5) ? &call.in(3) : nullptr, call.out(1).data);
  const int64_t block = rows_per_block(backend, p, kAcc, 1);
  const Scratch scores(backend, static_cast<size_t>(p.B * p.H * block * p.S) * sizeof(T));
  args.scores = scores.data();
  for (int64_t row = 0; row < p.L; row += block) {
    const int64_t rows = std::min(block, p.L - row);
    products.into_scratch(rows, p.S, p.D, p.scale, heads(q, row, false), heads(k, 0, true),
                          scores.data(), kAcc);
    launch_rows<weigh_rows<T, kShortRow>, weigh_rows<T, kLongRow>>(backend, p, args, row, rows);
    products.into_rows(rows, p.S, 1.0, 0.0, dense_heads(scores.data(), kAcc, p.H, rows, p.S, false),
                       heads(v, 0, false), call.out(0), row);
  }
}

void fill_zeros(CudaBackend& backend, const Tensor& tensor) {
  const size_t bytes = static_cast<size_t>(tensor.numel()) * item_size(tensor.dtype);
  if (bytes > 0) require(api::set_bytes(tensor.data, 0, bytes, backend.stream()), "a fill");
}

template <class T>
void backward(CudaBackend& backend, const OpCall& call) {
  constexpr DType kAcc = kAccDType<T>;
  const Tensor &g = call.in(0), &q = call.in(1), &k = call.in(2), &v = call.in(3);
  const Problem p = problem(call, q, k);
  const Products products(backend, p);
  const Tensor &grad_q = call.out(0), &grad_k = call.out(1), &grad_v = call.out(2);
  check(call.in(5).is_contiguous(), "attention_grad needs a dense logsumexp");
  if (p.B * p.H * p.L == 0) {
    fill_zeros(backend, grad_k);
    fill_zeros(backend, grad_v);
    return;
  }
  RowsArgs args = rows_args(p, call.flag(5) ? &call.in(6) : nullptr, call.in(5).data);
  const int64_t block = rows_per_block(backend, p, kAcc, 2);
  const size_t bytes = static_cast<size_t>(p.B * p.H * block * p.S) * sizeof(T);
  const Scratch scores(backend, bytes);
  const Scratch grads(backend, bytes);
  args.scores = scores.data();
  args.grads = grads.data();
  // What several blocks add to is rounded once, at the end.
  const bool direct = block >= p.L || grad_k.dtype == kAcc;
  const Tensor sum_k = direct ? grad_k : allocate_tensor(backend, kAcc, grad_k.shape, 4);
  const Tensor sum_v = direct ? grad_v : allocate_tensor(backend, kAcc, grad_v.shape, 4);
  for (int64_t row = 0; row < p.L; row += block) {
    const int64_t rows = std::min(block, p.L - row);
    const double beta = row == 0 ? 0.0 : 1.0;
    const GemmOperand q_rows = heads(q, row, false);
    const GemmOperand g_rows = heads(g, row, false);
    products.into_scratch(rows, p.S, p.D, p.scale, q_rows, heads(k, 0, true), scores.data(), kAcc);
    products.into_scratch(rows, p.S, v.shape[3], 1.0, g_rows, heads(v, 0, true), grads.data(),
                          kAcc);
    launch_rows<unweigh_rows<T, kShortRow>, unweigh_rows<T, kLongRow>>(backend, p, args, row, rows);
    const auto dense = [&](const Scratch& memory, bool transposed) {
      return dense_heads(memory.data(), kAcc, p.H, rows, p.S, transposed);
    };
    products.into_rows(p.S, rows, 1.0, beta, dense(scores, true), g_rows, sum_v, 0);
    products.into_rows(rows, p.S, p.scale, 0.0, dense(grads, false), heads(k, 0, false), grad_q,
                       row);
    products.into_rows(p.S, rows, p.scale, beta, dense(grads, true), q_rows, sum_k, 0);
  }
  if (!direct) {
    copy_elements(backend, grad_k, sum_k);
    copy_elements(backend, grad_v, sum_v);
  }
}

}  // namespace

void CudaBackend::attention(const OpCall& call) {
  if (call.out(1).dtype == DType::kFloat64) {
    forward<double>(*this, call);
  } else {
    forward<float>(*this, call);
  }
}

void CudaBackend::attention_grad(const OpCall& call) {
  if (call.in(5).dtype == DType::kFloat64) {
    backward<double>(*this, call);
  } else {
    backward<float>(*this, call);
  }
}

}  // namespace mixprec::cuda
