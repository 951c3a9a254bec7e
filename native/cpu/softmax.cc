// Softmax along one dimension and its gradient, row by row.

#include "cpu_backend.h"
#include "row_io.h"
#include "simd/rows.h"
#include "thread_pool.h"

namespace mixprec::cpu {
namespace {

int64_t row_length(const Tensor& tensor, int32_t dim) {
  if (tensor.rank == 0) return 1;
  check(dim >= 0 && dim < tensor.rank, "softmax along a dimension that does not exist");
  return tensor.shape[dim];
}

}  // namespace

void CpuBackend::softmax(const OpCall& call) {
  const Tensor& x = call.in(0);
  const Tensor& y = call.out();
  const auto dim = static_cast<int32_t>(call.int_attr(0));
  const bool log = call.flag(1);
  const int64_t n = row_length(y, dim);
  if (y.numel() == 0) return;
  by_arithmetic(y.dtype, [&]<class T>(T) {
    const RowReader<T> input(with_last_dim(x, dim), n);
    const RowWriter<T> output(with_last_dim(y, dim), n);
    const RowTable<T>& kernels = rows().table<T>();
    const auto kernel = log ? kernels.log_softmax : kernels.softmax;
    parallel_for(y.numel() / n, row_grain(n), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        T* out = output.row(i, 1);
        kernel(input.row(i, 0), out, n);
        output.commit(i, out, 1);
      }
    });
  });
}

void CpuBackend::softmax_grad(const OpCall& call) {
  const Tensor& grad_input = call.out();
  const auto dim = static_cast<int32_t>(call.int_attr(0));
  const bool log = call.flag(1);
  const int64_t n = row_length(grad_input, dim);
  if (grad_input.numel() == 0) return;
  by_arithmetic(grad_input.dtype, [&]<class T>(T) {
    const RowReader<T> grads(with_last_dim(call.in(0), dim), n);
    const RowReader<T> results(with_last_dim(call.in(1), dim), n);
    const RowWriter<T> output(with_last_dim(grad_input, dim), n);
    const RowTable<T>& kernels = rows().table<T>();
    const auto kernel = log ? kernels.log_softmax_grad : kernels.softmax_grad;
    parallel_for(grad_input.numel() / n, row_grain(n), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        T* out = output.row(i, 2);
        kernel(grads.row(i, 0), results.row(i, 1), out, n);
        output.commit(i, out, 2);
      }
    });
  });
}

}  // namespace mixprec::cpu
