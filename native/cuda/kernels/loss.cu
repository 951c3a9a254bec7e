// Cross entropy of rows of logits against class indices, without storing the probabilities.

#include "elementwise.h"
#include "exp_sum.h"
#include "report.h"
#include "rows.h"

namespace mixprec::cuda {
namespace {

template <class T>
struct LossArgs {
  RowShape shape;
  RowTensor logits;
  RowTensor grad_logits;
  const int64_t* target = nullptr;
  T* loss = nullptr;       // [N]
  T* logsumexp = nullptr;  // [N]; read by the gradient
  const T* grad_loss = nullptr;
  int64_t ignore_index = 0;
  T smoothing = 0;
  ReportSlot slot;
};

// The target of a row, or -1 where the row is ignored or its target is bad, which is reported.
template <class T>
MIXPREC_DEVICE int64_t target_of(const LossArgs<T>& args, int64_t row, bool reports) {
  const int64_t target = ptx::ld(args.target + row);
  if (target == args.ignore_index) return -1;
  if (target >= 0 && target < args.shape.length) return target;
  if (reports) {
    report(args.slot, ReportKind::kTarget, target, row, args.shape.length, args.ignore_index);
  }
  return -1;
}

template <class T>
struct Totals {
  ExpSum<T> exponentials;
  T sum;
};
struct TotalsCombine {
  template <class T>
  MIXPREC_DEVICE Totals<T> operator()(const Totals<T>& a, const Totals<T>& b) const {
    return {ExpSumCombine()(a.exponentials, b.exponentials), a.sum + b.sum};
  }
};

template <class T>
__global__ void __launch_bounds__(kRowThreads, 3)
    loss_rows(MIXPREC_GRID_CONSTANT(LossArgs<T>) args) {
  const RowThread<T> thread(args.shape, nullptr, 0);
  const int64_t length = args.shape.length;
  T x[kRowWidth<T>];
  for (int64_t row = thread.first_row(); row < args.shape.rows; row += thread.row_step()) {
    const int64_t start = row * length;
    const int64_t target = target_of(args, row, thread.leads());
    T loss = 0;
    T logsumexp = 0;
    if (target >= 0) {
      const Totals<T> empty{ExpSum<T>::empty(), T(0)};
      Totals<T> totals = empty;
      for (int64_t at = 0; at < length; at += thread.step()) {
        thread.load(args.logits, start, at, x, -static_cast<T>(INFINITY));
        totals.exponentials.take(x);
        if (args.smoothing == T(0)) continue;
        MIXPREC_UNROLL
        for (int k = 0; k < kRowWidth<T>; ++k) {
          if (thread.position(at, k) < length) totals.sum += x[k];
        }
      }
      totals = thread.reduce(totals, empty, TotalsCombine());
      const T shift = totals.exponentials.shift();
      const T log_total = DeviceMath::log(totals.exponentials.sum);
      logsumexp = shift + log_total;
      const T own = load_vector_element<T>(args.logits.data, args.logits.dtype, start + target);
      // Logits are far larger than the loss where they are large: take the shift off them first.
      loss = log_total - (own - shift);
      if (args.smoothing != T(0)) {
        const T average = totals.sum / static_cast<T>(length);
        loss = (T(1) - args.smoothing) * loss + args.smoothing * (log_total - (average - shift));
      }
    }
    if (thread.leads()) {
      ptx::st(args.loss + row, loss);
      ptx::st(args.logsumexp + row, logsumexp);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kRowThreads, 3)
    loss_grad_rows(MIXPREC_GRID_CONSTANT(LossArgs<T>) args) {
  const RowThread<T> thread(args.shape, nullptr, 0);
  const int64_t length = args.shape.length;
  T x[kRowWidth<T>];
  for (int64_t row = thread.first_row(); row < args.shape.rows; row += thread.row_step()) {
    const int64_t start = row * length;
    const int64_t target = target_of(args, row, thread.leads());
    const T shift = target < 0 ? T(0) : ptx::ld(args.logsumexp + row);
    const T g = target < 0 ? T(0) : ptx::ld(args.grad_loss + row);
    const T offset = g * (args.smoothing / static_cast<T>(length));
    const T of_target = g * (T(1) - args.smoothing);
    for (int64_t at = 0; at < length; at += thread.step()) {
      if (target >= 0) thread.load(args.logits, start, at, x);
      MIXPREC_UNROLL
      for (int k = 0; k < kRowWidth<T>; ++k) {
        x[k] = target < 0 ? T(0) : DeviceMath::exp(x[k] - shift) * g - offset;
        if (thread.position(at, k) == target) x[k] -= of_target;
      }
      thread.store(args.grad_logits, start, at, x);
    }
  }
}

template <class T>
constexpr DType kLossDType = sizeof(T) == 8 ? DType::kFloat64 : DType::kFloat32;

template <class T>
LossArgs<T> loss_args(const CudaBackend& backend, const OpCall& call, const Tensor& target) {
  LossArgs<T> args;
  args.target = target.as<const int64_t>();
  args.ignore_index = call.int_attr(0);
  args.smoothing = static_cast<T>(call.attr(1));
  args.slot = backend.report_slot(call);
  return args;
}

template <class T>
void forward(CudaBackend& backend, const OpCall& call) {
  check(call.in(0).rank == 2, "cross_entropy takes logits of two dimensions");
  check(call.in(1).dtype == DType::kInt64, "cross_entropy takes int64 targets");
  const Tensor logits = row_input<T>(backend, call.in(0));
  const Tensor target = contiguous(backend, call.in(1));
  if (logits.shape[0] == 0) return;
  LossArgs<T> args = loss_args<T>(backend, call, target);
  args.logits = logits;
  args.loss = call.out(0).as<T>();
  args.logsumexp = call.out(1).as<T>();
  const RowPlan plan = plan_rows<T>(backend, logits.shape[0], logits.shape[1], 0, {args.logits});
  args.shape = plan.shape;
  launch<loss_rows<T>>(plan.config, args);
}

template <class T>
void backward(CudaBackend& backend, const OpCall& call) {
  check(call.in(2).dtype == DType::kInt64, "cross_entropy takes int64 targets");
  const Tensor grad_loss = contiguous_as(backend, call.in(0), kLossDType<T>);
  const Tensor logits = row_input<T>(backend, call.in(1));
  const Tensor target = contiguous(backend, call.in(2));
  const Tensor logsumexp = contiguous_as(backend, call.in(3), kLossDType<T>);
  if (logits.numel() == 0) return;
  LossArgs<T> args = loss_args<T>(backend, call, target);
  args.logits = logits;
  args.grad_logits = call.out();
  args.grad_loss = grad_loss.as<const T>();
  args.logsumexp = logsumexp.as<T>();
  const RowPlan plan =
      plan_rows<T>(backend, logits.shape[0], logits.shape[1], 0, {args.logits, args.grad_logits});
  args.shape = plan.shape;
  launch<loss_grad_rows<T>>(plan.config, args);
}

}  // namespace

void CudaBackend::cross_entropy(const OpCall& call) {
  check(is_floating(call.in(0).dtype), "cross_entropy takes floating point");
  if (call.in(0).dtype == DType::kFloat64) {
    forward<double>(*this, call);
  } else {
    forward<float>(*this, call);
  }
}

void CudaBackend::cross_entropy_grad(const OpCall& call) {
  check(is_floating(call.in(1).dtype), "cross_entropy takes floating point");
  if (call.in(1).dtype == DType::kFloat64) {
    backward<double>(*this, call);
  } else {
    backward<float>(*this, call);
  }
}

}  // namespace mixprec::cuda
