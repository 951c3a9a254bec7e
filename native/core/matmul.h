// The matmul op: brings operands of any rank and strides to as few batched products as their memory
// allows, without copying where strides can say the same.
#pragma once

#include <utility>

#include "backend.h"
#include "gemm_desc.h"

namespace mixprec {

namespace matmul_detail {

// A matrix per batch index, seen from the op's output.
struct Matrices {
  GemmOperand operand;
  int64_t batch_strides[kMaxRank] = {};
};

inline GemmOperand matrix(const Tensor& tensor, bool transposed) {
  GemmOperand operand;
  operand.data = tensor.data;
  operand.dtype = tensor.dtype;
  operand.row_stride = tensor.strides[tensor.rank - 2];
  operand.col_stride = tensor.strides[tensor.rank - 1];
  if (transposed) std::swap(operand.row_stride, operand.col_stride);
  return operand;
}

// Leading dimensions as rows of one matrix; a copy only where no stride steps through them all.
template <class Contiguous>
Tensor flattened(const Tensor& tensor, const Contiguous& contiguous) {
  Tensor dense = tensor;
  int64_t rows = 1;
  bool uniform = true;
  int64_t row_stride = 0;
  for (int32_t dim = tensor.rank - 2; dim >= 0; --dim) {
    if (tensor.shape[dim] == 1) continue;
    if (rows == 1) {
      row_stride = tensor.strides[dim];
    } else if (tensor.strides[dim] != row_stride * rows) {
      uniform = false;
    }
    rows *= tensor.shape[dim];
  }
  const int64_t cols = tensor.shape[tensor.rank - 1];
  if (!uniform) {
    dense = contiguous(tensor);
    row_stride = cols;
  }
  const int64_t col_stride = dense.strides[dense.rank - 1];
  dense.rank = 2;
  dense.shape[0] = rows;
  dense.shape[1] = cols;
  dense.strides[0] = row_stride;
  dense.strides[1] = col_stride;
  return dense;
}

// Batch dimensions of an operand, broadcast to the output's: stride 0 where it repeats.
inline Matrices matrices(const Tensor& tensor, bool transposed, const Tensor& out) {
  Matrices result{matrix(tensor, transposed), {}};
  const int32_t lead = out.rank - tensor.rank;
  for (int32_t dim = 0; dim < out.rank - 2; ++dim) {
    const bool repeats = dim < lead || tensor.shape[dim - lead] == 1;
    result.batch_strides[dim] = repeats ? 0 : tensor.strides[dim - lead];
  }
  return result;
}

// The products of a batch of which both operands have one stride a dimension.
template <class Multiply>
void multiply_batches(GemmDesc& desc, Matrices& lhs, Matrices& rhs, const Tensor& out,
                      const Multiply& multiply) {
  // Batch dimensions that both operands step through evenly become one.
  int32_t dims = 0;
  int64_t extents[kMaxRank];
  int64_t count = 1;
  for (int32_t dim = 0; dim < out.rank - 2; ++dim) {
    const int64_t length = out.shape[dim];
    count *= length;
    if (length == 1) continue;
    const int64_t left = lhs.batch_strides[dim];
    const int64_t right = rhs.batch_strides[dim];
    const bool merges = dims > 0 && lhs.batch_strides[dims - 1] == left * length &&
                        rhs.batch_strides[dims - 1] == right * length;
    if (!merges) extents[dims++] = 1;
    extents[dims - 1] *= length;
    lhs.batch_strides[dims - 1] = left;
    rhs.batch_strides[dims - 1] = right;
  }
  check(out.numel() == count * desc.M * desc.N, "matmul got an output of another size");
  if (out.numel() == 0) return;
  desc.lhs = lhs.operand;
  desc.rhs = rhs.operand;
  if (dims > 0) {
    desc.batch = extents[dims - 1];
    desc.lhs.batch_stride = lhs.batch_strides[dims - 1];
    desc.rhs.batch_stride = rhs.batch_strides[dims - 1];
  }
  desc.out_batch_stride = desc.M * desc.N;
  if (dims > 1) {
    desc.outer = extents[dims - 2];
    desc.lhs.outer_stride = lhs.batch_strides[dims - 2];
    desc.rhs.outer_stride = rhs.batch_strides[dims - 2];
  }
  desc.out_outer_stride = desc.batch * desc.out_batch_stride;
  const auto item = [](DType dtype) { return static_cast<int64_t>(item_size(dtype)); };
  const int64_t out_bytes = desc.outer * desc.out_outer_stride * item(out.dtype);
  for (int64_t at = 0; at < count / (desc.batch * desc.outer); ++at) {
    int64_t rest = at;
    int64_t left = 0;
    int64_t right = 0;
    for (int32_t dim = dims - 3; dim >= 0; --dim) {
      const int64_t index = rest % extents[dim];
      rest /= extents[dim];
      left += index * lhs.batch_strides[dim];
      right += index * rhs.batch_strides[dim];
    }
    desc.lhs.data = static_cast<const char*>(lhs.operand.data) + left * item(lhs.operand.dtype);
    desc.rhs.data = static_cast<const char*>(rhs.operand.data) + right * item(rhs.operand.dtype);
    desc.out = out.as<char>() + at * out_bytes;
    multiply(std::as_const(desc));
  }
}

// The tensors of an epilogue, which live as long as the products.
struct EpilogueTensors {
  Tensor aux, multiplier, residual;
};

// Reads the epilogue of a call, and gives the tensor that its product goes to.
template <class Contiguous>
Tensor read_epilogue(const OpCall& call, const Contiguous& contiguous, GemmDesc& desc,
                     EpilogueTensors& tensors) {
  if (call.num_attrs <= 5) return call.out();
  enum : int64_t {
    kDerivative = 1,
    kKeepsAux = 2,
    kMultiplier = 4,
    kResidual = 8,
    kColumnSums = 16,
    kDestination = 32
  };
  const int64_t activation = call.int_attr(5);
  const int64_t flags = call.int_attr(6);
  check(activation >= 0 && activation <= static_cast<int64_t>(GemmActivation::kSilu),
        "matmul got an activation that does not exist");
  check(call.flag(4), "matmul got an epilogue for batches");
  int32_t next_input = call.flag(1) ? 3 : 2;
  int32_t next_output = (flags & kDestination) != 0 ? 0 : 1;
  Tensor out;
  const auto like_out = [&](const Tensor& tensor) {
    const Tensor dense = contiguous(tensor);
    check(dense.dtype == out.dtype && dense.numel() == out.numel(),
          "matmul got an epilogue's tensor that is not as its output");
    return dense;
  };
  if ((flags & kDestination) != 0) {
    out = call.in(call.num_inputs - 1);
    check(out.is_contiguous(), "matmul is to add to a tensor that is not dense");
    desc.beta = 1;
  } else {
    out = call.out();
  }
  GemmEpilogue& epilogue = desc.epilogue;
  epilogue.activation = static_cast<GemmActivation>(activation);
  epilogue.derivative = (flags & kDerivative) != 0;
  check(!epilogue.derivative || (flags & kKeepsAux) == 0, "matmul got two kinds of aux");
  if (epilogue.derivative) {
    tensors.aux = like_out(call.in(next_input++));
    epilogue.aux = tensors.aux.data;
  }
  if ((flags & kKeepsAux) != 0) epilogue.aux = like_out(call.out(next_output++)).data;
  if ((flags & kMultiplier) != 0) {
    tensors.multiplier = like_out(call.in(next_input++));
    epilogue.multiplier = tensors.multiplier.data;
  }
  if ((flags & kResidual) != 0) {
    tensors.residual = like_out(call.in(next_input++));
    epilogue.residual = tensors.residual.data;
  }
  if ((flags & kColumnSums) != 0) epilogue.column_sums = call.out(next_output++).data;
  return out;
}

}  // namespace matmul_detail

// Calls multiply(desc) for the products that a call of matmul is made of; contiguous(tensor) gives
// a dense copy.
template <class Contiguous, class Multiply>
void run_matmul(const OpCall& call, const Contiguous& contiguous, const Multiply& multiply) {
  using namespace matmul_detail;
  GemmDesc desc;
  EpilogueTensors epilogue;
  const Tensor out = read_epilogue(call, contiguous, desc, epilogue);
  const bool lhs_transposed = call.flag(2);
  const bool rhs_transposed = call.flag(3);
  const bool flat = call.flag(4);
  check(call.in(0).rank >= 2 && call.in(1).rank >= 2, "matmul takes matrices");
  const Tensor lhs_tensor = flat ? flattened(call.in(0), contiguous) : call.in(0);
  const Tensor rhs_tensor = flat ? flattened(call.in(1), contiguous) : call.in(1);

  const auto extent = [](const Tensor& tensor, bool transposed, bool row) {
    return tensor.shape[tensor.rank - (row != transposed ? 2 : 1)];
  };
  desc.M = extent(lhs_tensor, lhs_transposed, true);
  desc.K = extent(lhs_tensor, lhs_transposed, false);
  desc.N = extent(rhs_tensor, rhs_transposed, false);
  check(extent(rhs_tensor, rhs_transposed, true) == desc.K, "matmul got two extents for K");
  desc.out = out.data;
  desc.out_dtype = out.dtype;
  desc.out_row_stride = desc.N;
  desc.precision = static_cast<MatmulPrecision>(call.int_attr(0));
  Tensor bias;
  if (call.flag(1)) {
    bias = contiguous(call.in(2));
    check(bias.numel() == desc.N, "matmul got a bias of another length than N");
    desc.bias = bias.data;
    desc.bias_dtype = bias.dtype;
  }
  if (flat) {
    check(out.numel() == desc.M * desc.N, "matmul got an output of another size");
    desc.lhs = matrix(lhs_tensor, lhs_transposed);
    desc.rhs = matrix(rhs_tensor, rhs_transposed);
    multiply(std::as_const(desc));
    return;
  }
  Matrices lhs = matrices(lhs_tensor, lhs_transposed, out);
  Matrices rhs = matrices(rhs_tensor, rhs_transposed, out);
  multiply_batches(desc, lhs, rhs, out, multiply);
}

}  // namespace mixprec
