// Softmax along one dimension, its logarithm, and their gradients. Along the last dimension a warp
// or a block takes a row; along another one each thread takes a column, and neighbours read
// neighbours.

#include "core/along_dim.h"
#include "elementwise.h"
#include "exp_sum.h"
#include "rows.h"

namespace mixprec::cuda {
namespace {

// What turns x into y, once the whole row has been seen.
template <class T>
struct Normalizer {
  T max;
  T scale;  // or the logarithm of the sum
  bool log;

  MIXPREC_DEVICE Normalizer(const ExpSum<T>& total, bool log_) : max(total.max), log(log_) {
    // Where all are -Infinity, or one is Infinity, every difference with the largest is NaN.
    const T sum = max == static_cast<T>(INFINITY) ? static_cast<T>(NAN) : total.sum;
    scale = log ? DeviceMath::log(sum) : T(1) / sum;
  }
  MIXPREC_DEVICE T operator()(T x) const {
    return log ? (x - max) - scale : DeviceMath::exp(x - max) * scale;
  }
};

// The gradient with respect to x; `dot` is the sum of projection(g, y) over the row.
template <class T>
MIXPREC_DEVICE T projection(T g, T y, bool log) {
  return log ? g : g * y;
}
template <class T>
MIXPREC_DEVICE T gradient(T g, T y, T dot, bool log) {
  return log ? g - DeviceMath::exp(y) * dot : y * (g - dot);
}

struct SoftmaxArgs {
  RowShape shape;
  RowTensor inputs[2];  // x; or gradOutput and y
  RowTensor out;
  int64_t inner = 1;  // of the kernels of columns
  bool log = false;
};

template <class T>
__global__ void __launch_bounds__(kRowThreads, 3)
    softmax_rows(MIXPREC_GRID_CONSTANT(SoftmaxArgs) args) {
  MIXPREC_DYNAMIC_SHARED(shared);
  const RowThread<T> thread(args.shape, shared, 1);
  const int64_t length = args.shape.length;
  T x[kRowWidth<T>];
  for (int64_t row = thread.first_row(); row < args.shape.rows; row += thread.row_step()) {
    const int64_t start = row * length;
    ExpSum<T> total = ExpSum<T>::empty();
    for (int64_t at = 0; at < length; at += thread.step()) {
      thread.load(args.inputs[0], start, at, x, -static_cast<T>(INFINITY));
      thread.keep(0, at, x);
      total.take(x);
    }
    total = thread.reduce(total, ExpSum<T>::empty(), ExpSumCombine());
    const Normalizer<T> normalizer(total, args.log);
    for (int64_t at = 0; at < length; at += thread.step()) {
      thread.again(0, args.inputs[0], start, at, x);
      MIXPREC_UNROLL
      for (T& value : x) value = normalizer(value);
      thread.store(args.out, start, at, x);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kRowThreads, 3)
    softmax_grad_rows(MIXPREC_GRID_CONSTANT(SoftmaxArgs) args) {
  MIXPREC_DYNAMIC_SHARED(shared);
  const RowThread<T> thread(args.shape, shared, 2);
  const int64_t length = args.shape.length;
  T g[kRowWidth<T>], y[kRowWidth<T>];
  for (int64_t row = thread.first_row(); row < args.shape.rows; row += thread.row_step()) {
    const int64_t start = row * length;
    T dot = 0;
    for (int64_t at = 0; at < length; at += thread.step()) {
      thread.load(args.inputs[0], start, at, g);
      thread.load(args.inputs[1], start, at, y);
      thread.keep(0, at, g);
      thread.keep(1, at, y);
      MIXPREC_UNROLL
      for (int k = 0; k < kRowWidth<T>; ++k) dot += projection(g[k], y[k], args.log);
    }
    dot = thread.reduce(dot, T(0), AddCombine());
    for (int64_t at = 0; at < length; at += thread.step()) {
      thread.again(0, args.inputs[0], start, at, g);
      thread.again(1, args.inputs[1], start, at, y);
      MIXPREC_UNROLL
      for (int k = 0; k < kRowWidth<T>; ++k) g[k] = gradient(g[k], y[k], dot, args.log);
      thread.store(args.out, start, at, g);
    }
  }
}

// The offset of the first element of a column; the next ones are `inner` apart.
MIXPREC_DEVICE int64_t column_start(const SoftmaxArgs& args, int64_t column) {
  return column / args.inner * args.inner * args.shape.length + column % args.inner;
}

template <class T>
__global__ void __launch_bounds__(kRowThreads, 3)
    softmax_columns(MIXPREC_GRID_CONSTANT(SoftmaxArgs) args) {
  const int64_t step = int64_t{gridDim.x} * kRowThreads;
  for (int64_t column = int64_t{blockIdx.x} * kRowThreads + threadIdx.x; column < args.shape.rows;
       column += step) {
    const int64_t start = column_start(args, column);
    const RowTensor& from = args.inputs[0];
    ExpSum<T> total = ExpSum<T>::empty();
    for (int64_t i = 0; i < args.shape.length; ++i) {
      const T x[1] = {load_vector_element<T>(from.data, from.dtype, start + i * args.inner)};
      total.take(x);
    }
    const Normalizer<T> normalizer(total, args.log);
    for (int64_t i = 0; i < args.shape.length; ++i) {
      const int64_t at = start + i * args.inner;
      const T x = load_vector_element<T>(from.data, from.dtype, at);
      store_vector_element(args.out.data, args.out.dtype, at, normalizer(x));
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kRowThreads, 3)
    softmax_grad_columns(MIXPREC_GRID_CONSTANT(SoftmaxArgs) args) {
  const int64_t step = int64_t{gridDim.x} * kRowThreads;
  const auto input = [&](int which, int64_t at) {
    return load_vector_element<T>(args.inputs[which].data, args.inputs[which].dtype, at);
  };
  for (int64_t column = int64_t{blockIdx.x} * kRowThreads + threadIdx.x; column < args.shape.rows;
       column += step) {
    const int64_t start = column_start(args, column);
    T dot = 0;
    for (int64_t i = 0; i < args.shape.length; ++i) {
      const int64_t at = start + i * args.inner;
      dot += projection(input(0, at), input(1, at), args.log);
    }
    for (int64_t i = 0; i < args.shape.length; ++i) {
      const int64_t at = start + i * args.inner;
      const T result = gradient(input(0, at), input(1, at), dot, args.log);
      store_vector_element(args.out.data, args.out.dtype, at, result);
    }
  }
}

// Runs the kernel for rows or the one for columns, over one input or two.
template <class T, auto kRows, auto kColumns>
void run(CudaBackend& backend, const OpCall& call, int inputs) {
  const Tensor& out = call.out();
  const AlongDim along(out, static_cast<int32_t>(call.int_attr(0)));
  if (out.numel() == 0) return;
  Tensor dense[2];
  SoftmaxArgs args;
  args.out = out;
  args.log = call.flag(1);
  args.inner = along.inner;
  for (int i = 0; i < inputs; ++i) {
    dense[i] = row_input<T>(backend, call.in(i));
    args.inputs[i] = dense[i];
  }
  const int64_t rows = along.outer * along.inner;
  if (along.inner == 1) {
    const RowTensor& last = args.inputs[inputs - 1];
    const RowPlan plan =
        plan_rows<T>(backend, rows, along.extent, inputs, {args.inputs[0], last, args.out});
    args.shape = plan.shape;
    return launch<kRows>(plan.config, args);
  }
  args.shape.rows = rows;
  args.shape.length = along.extent;
  launch<kColumns>(backend.config(rows, kRowThreads), args);
}

}  // namespace

void CudaBackend::softmax(const OpCall& call) {
  check(is_floating(call.out().dtype), "softmax gives floating point");
  if (call.out().dtype == DType::kFloat64) {
    run<double, softmax_rows<double>, softmax_columns<double>>(*this, call, 1);
  } else {
    run<float, softmax_rows<float>, softmax_columns<float>>(*this, call, 1);
  }
}

void CudaBackend::softmax_grad(const OpCall& call) {
  check(is_floating(call.out().dtype), "softmax_grad gives floating point");
  if (call.out().dtype == DType::kFloat64) {
    run<double, softmax_grad_rows<double>, softmax_grad_columns<double>>(*this, call, 2);
  } else {
    run<float, softmax_grad_rows<float>, softmax_grad_columns<float>>(*this, call, 2);
  }
}

}  // namespace mixprec::cuda
