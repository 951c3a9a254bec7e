// Layer and RMS normalization and their gradients. Rows are read once and their statistics saved.
// The gradients of weight and bias are summed over fixed groups of rows first, then over the
// groups.

#include <algorithm>

#include "elementwise.h"
#include "math.h"
#include "reduce.h"
#include "rows.h"

namespace mixprec::cuda {
namespace {

constexpr int kWarps = kRowThreads / kWarpLanes;

template <class T>
struct NormArgs {
  RowShape shape;
  RowTensor x, y, weight, bias;
  T* mean = nullptr;  // of layer normalization only
  T* rstd = nullptr;
  T eps = 0;
};

template <class T>
__global__ void __launch_bounds__(kRowThreads, 3)
    norm_rows(MIXPREC_GRID_CONSTANT(NormArgs<T>) args) {
  MIXPREC_DYNAMIC_SHARED(shared);
  const RowThread<T> thread(args.shape, shared, 1);
  const int64_t length = args.shape.length;
  const bool centered = args.mean != nullptr;
  T x[kRowWidth<T>], other[kRowWidth<T>];
  for (int64_t row = thread.first_row(); row < args.shape.rows; row += thread.row_step()) {
    const int64_t start = row * length;
    T sum = 0;  // of x, or of its squares
    for (int64_t at = 0; at < length; at += thread.step()) {
      thread.load(args.x, start, at, x);
      thread.keep(0, at, x);
      MIXPREC_UNROLL
      for (int k = 0; k < kRowWidth<T>; ++k) sum += centered ? x[k] : x[k] * x[k];
    }
    sum = thread.reduce(sum, T(0), AddCombine());
    const T mean = centered ? sum / static_cast<T>(length) : T(0);
    if (centered) {
      sum = 0;
      for (int64_t at = 0; at < length; at += thread.step()) {
        thread.again(0, args.x, start, at, x, mean);
        MIXPREC_UNROLL
        for (int k = 0; k < kRowWidth<T>; ++k) {
          if (thread.position(at, k) < length) sum += (x[k] - mean) * (x[k] - mean);
        }
      }
      sum = thread.reduce(sum, T(0), AddCombine());
    }
    const T rstd = T(1) / DeviceMath::sqrt(sum / static_cast<T>(length) + args.eps);
    if (thread.leads()) {
      if (centered) ptx::st(args.mean + row, mean);
      ptx::st(args.rstd + row, rstd);
    }
    for (int64_t at = 0; at < length; at += thread.step()) {
      thread.again(0, args.x, start, at, x);
      MIXPREC_UNROLL
      for (T& value : x) value = (value - mean) * rstd;
      if (args.weight.data != nullptr) {
        thread.load(args.weight, 0, at, other);
        MIXPREC_UNROLL
        for (int k = 0; k < kRowWidth<T>; ++k) x[k] *= other[k];
      }
      if (args.bias.data != nullptr) {
        thread.load(args.bias, 0, at, other);
        MIXPREC_UNROLL
        for (int k = 0; k < kRowWidth<T>; ++k) x[k] += other[k];
      }
      thread.store(args.y, start, at, x);
    }
  }
}

template <class T>
struct NormGradArgs {
  RowShape shape;
  RowTensor grad, x, weight, grad_input;
  const T* mean = nullptr;  // of layer normalization only
  const T* rstd = nullptr;
  // The sums over groups of rows: [2, groups, length], of weight and bias.
  T* sums = nullptr;
  int64_t groups = 0;
  int64_t group_rows = 0;
};

template <class T>
struct Sums {
  T of_weighted;  // of w = gradOutput * weight
  T of_products;  // of w * h, with h = (x - mean) * rstd
};
struct SumsCombine {
  template <class T>
  MIXPREC_DEVICE Sums<T> operator()(const Sums<T>& a, const Sums<T>& b) const {
    return {a.of_weighted + b.of_weighted, a.of_products + b.of_products};
  }
};

// rstd * (w - [centered] average(w) - h * average(w * h)).
template <class T>
__global__ void __launch_bounds__(kRowThreads, 3)
    norm_grad_rows(MIXPREC_GRID_CONSTANT(NormGradArgs<T>) args) {
  MIXPREC_DYNAMIC_SHARED(shared);
  const RowThread<T> thread(args.shape, shared, 2);
  const int64_t length = args.shape.length;
  const bool centered = args.mean != nullptr;
  const bool keeps = args.shape.kept != 0;
  T w[kRowWidth<T>], h[kRowWidth<T>], weight[kRowWidth<T>];
  for (int64_t row = thread.first_row(); row < args.shape.rows; row += thread.row_step()) {
    const int64_t start = row * length;
    const T mean = centered ? ptx::ld(args.mean + row) : T(0);
    const T rstd = ptx::ld(args.rstd + row);
    const auto read = [&](int64_t at) {
      thread.load(args.grad, start, at, w);
      thread.load(args.x, start, at, h, mean);
      MIXPREC_UNROLL
      for (T& value : h) value = (value - mean) * rstd;
      if (args.weight.data == nullptr) return;
      thread.load(args.weight, 0, at, weight);
      MIXPREC_UNROLL
      for (int k = 0; k < kRowWidth<T>; ++k) w[k] *= weight[k];
    };
    Sums<T> sums = {T(0), T(0)};
    for (int64_t at = 0; at < length; at += thread.step()) {
      read(at);
      thread.keep(0, at, w);
      thread.keep(1, at, h);
      MIXPREC_UNROLL
      for (int k = 0; k < kRowWidth<T>; ++k) {
        sums.of_weighted += w[k];
        sums.of_products += w[k] * h[k];
      }
    }
    sums = thread.reduce(sums, Sums<T>{T(0), T(0)}, SumsCombine());
    const T average = centered ? sums.of_weighted / static_cast<T>(length) : T(0);
    const T along = sums.of_products / static_cast<T>(length);
    for (int64_t at = 0; at < length; at += thread.step()) {
      if (keeps) {
        thread.again(0, args.grad, start, at, w);
        thread.again(1, args.x, start, at, h);
      } else {
        read(at);
      }
      MIXPREC_UNROLL
      for (int k = 0; k < kRowWidth<T>; ++k) w[k] = (w[k] - average - h[k] * along) * rstd;
      thread.store(args.grad_input, start, at, w);
    }
  }
}

constexpr int kColumnsAtOnce = 4;  // a thread
constexpr int kBlockColumns = kWarpLanes * kColumnsAtOnce;

// gradOutput * h and gradOutput, summed over a group of rows (blockIdx.y): every warp takes one row
// in eight, and a lane the same columns of each.
template <class T>
__global__ void __launch_bounds__(kRowThreads, 3)
    norm_weight_sums(MIXPREC_GRID_CONSTANT(NormGradArgs<T>) args) {
  MIXPREC_SHARED(shared, T[2][kWarps][kColumnsAtOnce][kWarpLanes]);
  const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
  const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
  const int64_t length = args.shape.length;
  const int64_t first = int64_t{blockIdx.x} * kBlockColumns;
  const int64_t begin = int64_t{blockIdx.y} * args.group_rows;
  const int64_t last = begin + args.group_rows;
  const int64_t end = last < args.shape.rows ? last : args.shape.rows;
  const auto column = [&](int k) {
    return args.shape.vector ? first + lane * kColumnsAtOnce + k : first + k * kWarpLanes + lane;
  };
  const auto read = [&](const RowTensor& from, int64_t row, T(&out)[kColumnsAtOnce]) {
    if (args.shape.vector) {
      load_elements<kColumnsAtOnce>(from.data, from.dtype, row * length + column(0), out);
      return;
    }
    MIXPREC_UNROLL
    for (int k = 0; k < kColumnsAtOnce; ++k) {
      out[k] = column(k) < length
                   ? load_vector_element<T>(from.data, from.dtype, row * length + column(k))
                   : T(0);
    }
  };
  T sums[2][kColumnsAtOnce] = {};
  if (column(0) < length) {
    for (int64_t row = begin + warp; row < end; row += kWarps) {
      const T mean = args.mean != nullptr ? ptx::ld(args.mean + row) : T(0);
      const T rstd = ptx::ld(args.rstd + row);
      T g[kColumnsAtOnce], x[kColumnsAtOnce];
      read(args.grad, row, g);
      read(args.x, row, x);
      MIXPREC_UNROLL
      for (int k = 0; k < kColumnsAtOnce; ++k) {
        sums[0][k] += (x[k] - mean) * rstd * g[k];
        sums[1][k] += g[k];
      }
    }
  }
  for (int which = 0; which < 2; ++which) {
    MIXPREC_UNROLL
    for (int k = 0; k < kColumnsAtOnce; ++k) shared[which][warp][k][lane] = sums[which][k];
  }
  ptx::sync_threads();
  // A warp for each of the block's 2 * kColumnsAtOnce rows of sums.
  static_assert(kWarps == 2 * kColumnsAtOnce);
  const int which = warp / kColumnsAtOnce;
  const int k = warp % kColumnsAtOnce;
  T total = 0;
  for (int w = 0; w < kWarps; ++w) total += shared[which][w][k][lane];
  if (column(k) < length) {
    ptx::st(args.sums + (which * args.groups + blockIdx.y) * length + column(k), total);
  }
}

template <class T>
constexpr DType kNormDType = sizeof(T) == 8 ? DType::kFloat64 : DType::kFloat32;

template <class T>
void norm(CudaBackend& backend, const OpCall& call, bool centered) {
  const int64_t length = call.int_attr(0);
  const Tensor& y = call.out(0);
  const bool has_weight = call.flag(2);
  const bool has_bias = centered && call.flag(3);
  if (y.numel() == 0) return;
  const Tensor x = row_input<T>(backend, call.in(0));
  const Tensor weight = has_weight ? row_input<T>(backend, call.in(1)) : Tensor();
  const Tensor bias = has_bias ? row_input<T>(backend, call.in(has_weight ? 2 : 1)) : Tensor();
  NormArgs<T> args;
  args.x = x;
  args.y = y;
  args.weight = weight;
  args.bias = bias;
  args.eps = static_cast<T>(call.attr(1));
  args.mean = centered ? call.out(1).as<T>() : nullptr;
  args.rstd = call.out(centered ? 2 : 1).as<T>();
  const RowPlan plan = plan_rows<T>(backend, y.numel() / length, length, 1,
                                    {args.x, args.y, args.weight, args.bias});
  args.shape = plan.shape;
  launch<norm_rows<T>>(plan.config, args);
}

template <class T>
void sum_over_rows(CudaBackend& backend, NormGradArgs<T> args, const Tensor* grad_weight,
                   const Tensor* grad_bias) {
  constexpr int64_t kMostGroups = 128;
  constexpr int64_t kFewestRows = 4 * kWarps;
  const int64_t rows = args.shape.rows;
  const int64_t length = args.shape.length;
  args.group_rows = std::max(kFewestRows, (rows + kMostGroups - 1) / kMostGroups);
  args.groups = (rows + args.group_rows - 1) / args.group_rows;
  const int64_t shape[3] = {2, args.groups, length};
  const Tensor sums = allocate_tensor(backend, kNormDType<T>, shape, 3);
  args.sums = sums.as<T>();
  if (args.groups > 0) {
    const auto blocks = static_cast<uint32_t>((length + kBlockColumns - 1) / kBlockColumns);
    launch<norm_weight_sums<T>>(
        backend.grid(Dim3(blocks, static_cast<uint32_t>(args.groups)), kRowThreads), args);
  }
  const auto add_up = [&](int64_t which, const Tensor& out) {
    Tensor own = sums;
    own.rank = 2;
    for (int32_t dim = 0; dim < 2; ++dim) {
      own.shape[dim] = sums.shape[dim + 1];
      own.strides[dim] = sums.strides[dim + 1];
    }
    own.data = args.sums + which * sums.strides[0];
    reduce_sum(backend, own, 1, 1.0, out);
  };
  if (grad_weight != nullptr) add_up(0, *grad_weight);
  if (grad_bias != nullptr) add_up(1, *grad_bias);
}

template <class T>
void norm_grad(CudaBackend& backend, const OpCall& call, bool centered) {
  const int64_t length = call.int_attr(0);
  const bool has_weight = call.flag(1);
  const bool wants_input = call.flag(2);
  const bool wants_weight = call.flag(3);
  const bool wants_bias = centered && call.flag(4);
  if (length == 0) return;
  const Tensor grad = row_input<T>(backend, call.in(0));
  const Tensor x = row_input<T>(backend, call.in(1));
  const Tensor mean = centered ? contiguous_as(backend, call.in(2), kNormDType<T>) : Tensor();
  const Tensor rstd = contiguous_as(backend, call.in(centered ? 3 : 2), kNormDType<T>);
  const Tensor weight = has_weight ? row_input<T>(backend, call.in(centered ? 4 : 3)) : Tensor();
  NormGradArgs<T> args;
  args.grad = grad;
  args.x = x;
  args.weight = weight;
  args.mean = centered ? mean.as<const T>() : nullptr;
  args.rstd = rstd.as<const T>();
  const int64_t rows = x.numel() / length;
  // As the sums of weight and bias need it, to begin with.
  args.shape = plan_rows<T>(backend, rows, length, 0, {args.grad, args.x}).shape;
  if (wants_weight || wants_bias) {
    sum_over_rows(backend, args, wants_weight ? &call.out(1) : nullptr,
                  wants_bias ? &call.out(2) : nullptr);
  }
  if (!wants_input || rows == 0) return;
  args.grad_input = call.out(0);
  const RowPlan plan =
      plan_rows<T>(backend, rows, length, 2, {args.grad, args.x, args.weight, args.grad_input});
  args.shape = plan.shape;
  launch<norm_grad_rows<T>>(plan.config, args);
}

template <class Body>
void by_float_type(DType dtype, const Body& body) {
  check(is_floating(dtype), "a normalization of floating point");
  if (dtype == DType::kFloat64) {
    body(TypeTag<double>{});
  } else {
    body(TypeTag<float>{});
  }
}

}  // namespace

void CudaBackend::layer_norm(const OpCall& call) {
  by_float_type(call.in(0).dtype,
                [&](auto tag) { norm<typename decltype(tag)::type>(*this, call, true); });
}

void CudaBackend::layer_norm_grad(const OpCall& call) {
  by_float_type(call.in(1).dtype,
                [&](auto tag) { norm_grad<typename decltype(tag)::type>(*this, call, true); });
}

void CudaBackend::rms_norm(const OpCall& call) {
  by_float_type(call.in(0).dtype,
                [&](auto tag) { norm<typename decltype(tag)::type>(*this, call, false); });
}

void CudaBackend::rms_norm_grad(const OpCall& call) {
  by_float_type(call.in(1).dtype,
                [&](auto tag) { norm_grad<typename decltype(tag)::type>(*this, call, false); });
}

}  // namespace mixprec::cuda
