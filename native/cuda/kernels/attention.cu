// Scaled dot-product attention out of products and kernels over rows of scores, all heads at once:
// scores exist for a block of rows only, and backward makes them again from the saved logsumexp.

#include <algorithm>
#include <utility>

#include "attention_rows.h"
#include "core/attention.h"
#include "core/philox.h"
#include "cuda/gemm/gemm.h"
#include "cuda/runtime/error.h"
#include "cuda/tensors.h"

namespace mixprec::cuda {
namespace {

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
  Products(CudaBackend& backend, const AttentionProblem& problem)
      : backend_(backend), p_(problem) {}

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
  const AttentionProblem& p_;
};

// Rows of all heads at a time whose scores, in `buffers` arrays, stay in the second-level cache.
int64_t rows_per_block(const CudaBackend& backend, const AttentionProblem& p, DType dtype,
                       int buffers) {
  const int64_t row_bytes = p.B * p.H * p.S * static_cast<int64_t>(item_size(dtype)) * buffers;
  const auto budget = static_cast<int64_t>(backend.properties().l2_bytes / 2);
  int64_t rows = budget / std::max<int64_t>(row_bytes, 1);
  if (rows > 64) rows -= rows % 64;  // whole tiles of the products
  return std::clamp<int64_t>(rows, 1, std::max<int64_t>(p.L, 1));
}

RowsArgs rows_args(const AttentionProblem& p, const Tensor* mask, void* logsumexp) {
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

void forward(CudaBackend& backend, const OpCall& call) {
  const DType acc = call.out(1).dtype;  // of scores and sums
  const Tensor &q = call.in(0), &k = call.in(1), &v = call.in(2);
  const AttentionProblem p(call, q, k);
  const Products products(backend, p);
  if (p.B * p.H * p.L == 0) return;
  RowsArgs args = rows_args(p, call.flag(5) ? &call.in(3) : nullptr, call.out(1).data);
  const int64_t block = rows_per_block(backend, p, acc, 1);
  const Scratch scores(backend, static_cast<size_t>(p.B * p.H * block * p.S) * item_size(acc));
  args.scores = scores.data();
  for (int64_t row = 0; row < p.L; row += block) {
    const int64_t rows = std::min(block, p.L - row);
    products.into_scratch(rows, p.S, p.D, p.scale, heads(q, row, false), heads(k, 0, true),
                          scores.data(), acc);
    args.first = row;
    args.rows = rows;
    weigh_rows(backend, args, p.B * p.H, acc == DType::kFloat64);
    products.into_rows(rows, p.S, 1.0, 0.0, dense_heads(scores.data(), acc, p.H, rows, p.S, false),
                       heads(v, 0, false), call.out(0), row);
  }
}

void fill_zeros(CudaBackend& backend, const Tensor& tensor) {
  const size_t bytes = static_cast<size_t>(tensor.numel()) * item_size(tensor.dtype);
  if (bytes > 0) require(api::set_bytes(tensor.data, 0, bytes, backend.stream()), "a fill");
}

void backward(CudaBackend& backend, const OpCall& call) {
  const DType acc = call.in(5).dtype;
  const Tensor &g = call.in(0), &q = call.in(1), &k = call.in(2), &v = call.in(3);
  const AttentionProblem p(call, q, k);
  const Products products(backend, p);
  const Tensor &grad_q = call.out(0), &grad_k = call.out(1), &grad_v = call.out(2);
  check(call.in(5).is_contiguous(), "attention_grad needs a dense logsumexp");
  if (p.B * p.H * p.L == 0) {
    fill_zeros(backend, grad_k);
    fill_zeros(backend, grad_v);
    return;
  }
  RowsArgs args = rows_args(p, call.flag(5) ? &call.in(6) : nullptr, call.in(5).data);
  const int64_t block = rows_per_block(backend, p, acc, 2);
  const size_t bytes = static_cast<size_t>(p.B * p.H * block * p.S) * item_size(acc);
  const Scratch scores(backend, bytes);
  const Scratch grads(backend, bytes);
  args.scores = scores.data();
  args.grads = grads.data();
  // What several blocks add to is rounded once, at the end.
  const bool direct = block >= p.L || grad_k.dtype == acc;
  const Tensor sum_k = direct ? grad_k : allocate_tensor(backend, acc, grad_k.shape, 4);
  const Tensor sum_v = direct ? grad_v : allocate_tensor(backend, acc, grad_v.shape, 4);
  for (int64_t row = 0; row < p.L; row += block) {
    const int64_t rows = std::min(block, p.L - row);
    const double beta = row == 0 ? 0.0 : 1.0;
    const GemmOperand q_rows = heads(q, row, false);
    const GemmOperand g_rows = heads(g, row, false);
    products.into_scratch(rows, p.S, p.D, p.scale, q_rows, heads(k, 0, true), scores.data(), acc);
    products.into_scratch(rows, p.S, v.shape[3], 1.0, g_rows, heads(v, 0, true), grads.data(), acc);
    args.first = row;
    args.rows = rows;
    unweigh_rows(backend, args, p.B * p.H, acc == DType::kFloat64);
    const auto dense = [&](const Scratch& memory, bool transposed) {
      return dense_heads(memory.data(), acc, p.H, rows, p.S, transposed);
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

void CudaBackend::attention(const OpCall& call) { forward(*this, call); }

void CudaBackend::attention_grad(const OpCall& call) { backward(*this, call); }

}  // namespace mixprec::cuda
