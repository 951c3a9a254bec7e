// Sums, extrema and their positions, variance, logsumexp: over any dimensions of a tensor of any
// strides. Where the reduced elements lie side by side, a warp or a block takes an output; where
// the kept ones do, each lane of a warp takes an output of its own. Long reductions are cut into
// parts, by their size alone, whose states a second kernel merges.

#include "reduce.h"

#include <algorithm>
#include <limits>

#include "cuda/tensors.h"
#include "elementwise.h"
#include "layout.h"
#include "reduce_block.h"
#include "reduce_ops.h"

namespace mixprec::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpLanes;

// Who works on an output: the lanes of a warp, the threads of a block, or one lane of every warp.
enum class Team : int32_t { kWarp, kBlock, kColumn };

struct ReduceArgs {
  const void* x = nullptr;
  DType dtype = DType::kFloat32;
  void* out = nullptr;
  DType out_dtype = DType::kFloat32;
  void* partial = nullptr;  // states [outputs, parts], where there is more than one part
  Layout<2> kept;           // where an output's first element is, and where its result goes
  Layout<1> reduced;        // the elements of an output
  int64_t count = 1;        // of them
  int64_t parts = 1;
  int64_t part_length = 1;
  Team team = Team::kWarp;
  bool vector = false;  // the elements of an output are neighbours and aligned
};

// States in memory, word by word.
template <class State>
MIXPREC_DEVICE void store_state(void* states, int64_t at, const State& state) {
  constexpr int kWords = sizeof(State) / 4;
  uint32_t words[kWords];
  __builtin_memcpy(words, &state, sizeof(State));
  MIXPREC_UNROLL
  for (int i = 0; i < kWords; ++i)
    ptx::st(static_cast<uint32_t*>(states) + at * kWords + i, words[i]);
}
template <class State>
MIXPREC_DEVICE State load_state(const void* states, int64_t at) {
  constexpr int kWords = sizeof(State) / 4;
  uint32_t words[kWords];
  MIXPREC_UNROLL
  for (int i = 0; i < kWords; ++i) {
    words[i] = ptx::ld(static_cast<const uint32_t*>(states) + at * kWords + i);
  }
  State state;
  __builtin_memcpy(&state, words, sizeof(State));
  return state;
}

// Takes elements [begin, end) of the output whose elements start at `base`, as one of `threads`.
template <class Op>
MIXPREC_DEVICE typename Op::State take_elements(const Op& op, const ReduceArgs& args, int64_t base,
                                                int64_t begin, int64_t end, int thread,
                                                int threads) {
  using Number = typename Op::Number;
  auto state = op.empty();
  if (args.vector) {
    if constexpr (kHasVectorized<Number>) {
      constexpr int kWidth = kVectorWidth<Number>;
      for (int64_t at = begin + int64_t{thread} * kWidth; at < end;
           at += int64_t{threads} * kWidth) {
        Number x[kWidth];
        const auto own = static_cast<int>(end - at < kWidth ? end - at : kWidth);
        if (own == kWidth) {
          load_elements<kWidth>(args.x, args.dtype, base + at, x);
        } else {
          for (int k = 0; k < own; ++k) {
            op.take(state, load_vector_element<Number>(args.x, args.dtype, base + at + k), at + k);
          }
          break;
        }
        MIXPREC_UNROLL
        for (int k = 0; k < kWidth; ++k) op.take(state, x[k], at + k);
      }
    }
    return state;
  }
  constexpr int kAtOnce = 4;  // loads under way
  for (int64_t at = begin + thread; at < end; at += int64_t{threads} * kAtOnce) {
    Number x[kAtOnce];
    MIXPREC_UNROLL
    for (int k = 0; k < kAtOnce; ++k) {
      const int64_t own = at + int64_t{k} * threads;
      if (own >= end) break;
      int64_t offset[1];
      args.reduced.offsets(own, offset);
      x[k] = load_element<Number>(args.x, args.dtype, base + offset[0]);
    }
    MIXPREC_UNROLL
    for (int k = 0; k < kAtOnce; ++k) {
      const int64_t own = at + int64_t{k} * threads;
      if (own < end) op.take(state, x[k], own);
    }
  }
  return state;
}

// The state of one part of one output, to where it belongs.
template <class Op>
MIXPREC_DEVICE void put_state(const Op& op, const ReduceArgs& args, int64_t output, int64_t part,
                              int64_t result, const typename Op::State& state) {
  if (args.parts > 1) {
    store_state(args.partial, output * args.parts + part, state);
  } else {
    op.finish(state, args.out, args.out_dtype, result);
  }
}

// Parts are spread over the y dimension of the grid.
template <class Op>
__global__ void __launch_bounds__(kThreads, 3)
    reduce_elements(const Op op, MIXPREC_GRID_CONSTANT(ReduceArgs) args) {
  using State = typename Op::State;
  MIXPREC_SHARED(states, State[kWarps][kWarpLanes]);
  const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
  const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
  const int64_t part = blockIdx.y;
  const int64_t begin = part * args.part_length;
  const int64_t end = begin + args.part_length < args.count ? begin + args.part_length : args.count;
  // Outputs a block works on, and this thread's first one.
  const int width =
      args.team == Team::kBlock ? 1 : (args.team == Team::kWarp ? kWarps : kWarpLanes);
  const int own = args.team == Team::kBlock ? 0 : (args.team == Team::kWarp ? warp : lane);
  const int thread = args.team == Team::kBlock ? static_cast<int>(threadIdx.x)
                                               : (args.team == Team::kWarp ? lane : warp);
  const int threads = kThreads / width;
  for (int64_t first = int64_t{blockIdx.x} * width; first < args.kept.numel;
       first += int64_t{gridDim.x} * width) {
    const int64_t output = first + own;
    State state = op.empty();
    int64_t offsets[2] = {0, 0};
    if (output < args.kept.numel) {
      args.kept.offsets(output, offsets);
      Op own_op = op;
      own_op.begin(offsets[1]);
      state = take_elements(own_op, args, offsets[0], begin, end, thread, threads);
    }
    if (args.team != Team::kColumn) state = warp_reduce(state, op);
    if (args.team != Team::kWarp) {
      states[warp][lane] = state;
      ptx::sync_threads();
      if (warp == 0) {
        for (int w = 1; w < kWarps; ++w) state = op(state, states[w][lane]);
      }
      ptx::sync_threads();
    }
    const bool leads = args.team == Team::kColumn ? warp == 0 : thread == 0;
    if (leads && output < args.kept.numel) put_state(op, args, output, part, offsets[1], state);
  }
}

// Merges the parts of each output, a warp an output.
template <class Op>
__global__ void __launch_bounds__(kThreads, 3)
    merge_parts(const Op op, MIXPREC_GRID_CONSTANT(ReduceArgs) args) {
  using State = typename Op::State;
  const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
  const int64_t warp = static_cast<int64_t>(threadIdx.x) / kWarpLanes;
  for (int64_t output = int64_t{blockIdx.x} * kWarps + warp; output < args.kept.numel;
       output += int64_t{gridDim.x} * kWarps) {
    State state = op.empty();
    for (int64_t part = lane; part < args.parts; part += kWarpLanes) {
      state = op(state, load_state<State>(args.partial, output * args.parts + part));
    }
    state = warp_reduce(state, op);
    int64_t offsets[2];
    args.kept.offsets(output, offsets);
    if (lane == 0) op.finish(state, args.out, args.out_dtype, offsets[1]);
  }
}

// ---- Which elements and which threads ----

// Dimensions with the strides of two tensors, put in the order of the first one's memory, outermost
// first, unless the order is given.
struct Dimensions {
  Tensor tensors[2];
  bool in_memory_order = true;

  void add(int64_t extent, int64_t stride, int64_t other) {
    int32_t at = tensors[0].rank;
    for (; in_memory_order && at > 0 && tensors[0].strides[at - 1] < stride; --at) {
      for (Tensor& tensor : tensors) {
        tensor.shape[at] = tensor.shape[at - 1];
        tensor.strides[at] = tensor.strides[at - 1];
      }
    }
    tensors[0].strides[at] = stride;
    tensors[1].strides[at] = other;
    for (Tensor& tensor : tensors) {
      tensor.shape[at] = extent;
      ++tensor.rank;
    }
  }
  template <int kCount>
  Layout<kCount> layout() const {
    LayoutBuilder<kCount> builder(tensors[0].shape, tensors[0].rank);
    for (int k = 0; k < kCount; ++k) builder.add(k, tensors[k]);
    return builder.build();
  }
};

// The layouts of a reduction. `ordered`: positions count in the order of the dimensions.
ReduceArgs lay_out(const Tensor& x, int64_t dims, const Tensor& out, bool ordered) {
  ReduceArgs args;
  args.x = x.data;
  args.dtype = x.dtype;
  args.out = out.data;
  args.out_dtype = out.dtype;
  Dimensions kept, reduced;
  reduced.in_memory_order = !ordered;
  int64_t outputs = out.numel();
  int64_t result_stride = outputs;
  for (int32_t dim = 0; dim < x.rank; ++dim) {
    const int64_t extent = x.shape[dim];
    if (((dims >> dim) & 1) != 0) {
      reduced.add(extent, x.strides[dim], 0);
      args.count *= extent;
    } else {
      result_stride = extent == 0 ? 0 : result_stride / extent;
      kept.add(extent, x.strides[dim], result_stride);
    }
  }
  args.kept = kept.layout<2>();
  args.reduced = reduced.layout<1>();
  check(args.kept.numel == outputs, "a reduction got an output of another size");
  return args;
}

// Chooses the threads of an output, and cuts long reductions into parts.
template <class Number>
void choose_threads(ReduceArgs& args) {
  constexpr int64_t kWarpCount = 1024;    // the most elements of an output for a warp
  constexpr int64_t kFewestColumns = 16;  // outputs side by side
  constexpr int64_t kThreadsWanted = 1 << 17;
  constexpr int64_t kThreadElements = 32;  // the fewest of a thread, where there are several parts
  constexpr int64_t kMostParts = 1024;
  constexpr int kWidth = kVectorWidth<Number>;
  const Layout<2>& kept = args.kept;
  const Layout<1>& reduced = args.reduced;
  const int64_t outputs = kept.numel;
  const int64_t nearest = reduced.rank == 0 ? 1 : reduced.strides[0][0];
  const bool columns = kept.rank > 0 && outputs >= kFewestColumns && reduced.rank > 0 &&
                       nearest != 1 && kept.strides[0][0] < nearest;
  args.team = columns ? Team::kColumn : (args.count <= kWarpCount ? Team::kWarp : Team::kBlock);

  args.vector = kHasVectorized<Number> && !columns && reduced.rank == 1 && nearest == 1 &&
                is_vector_dtype<Number>(args.dtype);
  const size_t bytes = std::min<size_t>(16, item_size(args.dtype) * kWidth);
  args.vector = args.vector && reinterpret_cast<uintptr_t>(args.x) % bytes == 0;
  for (int32_t dim = 0; dim < kept.rank; ++dim) {
    args.vector = args.vector && kept.strides[0][dim] % kWidth == 0;
  }

  const int64_t threads =
      args.team == Team::kBlock ? kThreads : (args.team == Team::kWarp ? kWarpLanes : kWarps);
  int64_t parts =
      std::min(args.count / (threads * kThreadElements), kThreadsWanted / (outputs * threads));
  parts = std::clamp<int64_t>(parts, 1, kMostParts);
  const int64_t step = threads * kWidth;
  args.part_length = (args.count + parts - 1) / parts;
  args.part_length = std::max(step, (args.part_length + step - 1) / step * step);
  args.parts = std::max<int64_t>(1, (args.count + args.part_length - 1) / args.part_length);
}

template <class Op>
void reduce(CudaBackend& backend, const Op& op, const Tensor& x, int64_t dims, const Tensor& out,
            bool ordered = false) {
  if (out.numel() == 0) return;
  ReduceArgs args = lay_out(x, dims, out, ordered);
  choose_threads<typename Op::Number>(args);
  const int64_t outputs = args.kept.numel;
  const size_t bytes = sizeof(typename Op::State);
  const Scratch partial(backend,
                        args.parts > 1 ? static_cast<size_t>(outputs * args.parts) * bytes : 0);
  args.partial = partial.data();
  const int width =
      args.team == Team::kBlock ? 1 : (args.team == Team::kWarp ? kWarps : kWarpLanes);
  LaunchConfig config = backend.config((outputs + width - 1) / width * kThreads, kThreads);
  config.grid.y = static_cast<uint32_t>(args.parts);
  launch<reduce_elements<Op>>(config, op, args);
  if (args.parts == 1) return;
  launch<merge_parts<Op>>(backend.config(outputs * kWarpLanes, kThreads), op, args);
}

void extremum(CudaBackend& backend, const OpCall& call, bool largest) {
  const Tensor& x = call.in(0);
  if (call.out().numel() > 0 && x.numel() == 0) {
    throw Error(ErrorCode::kArgument, "an empty dimension has no extremum");
  }
  by_compute_type(x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    reduce(backend, ExtremumReduction<T>{largest, false}, x, call.int_attr(0), call.out());
  });
}

void arg_extremum(CudaBackend& backend, const OpCall& call, bool largest) {
  const Tensor& x = call.in(0);
  const int64_t dim = call.int_attr(0);
  if (call.out().numel() > 0 && x.numel() == 0) {
    throw Error(ErrorCode::kArgument, "an empty dimension has no extremum");
  }
  check(call.out().dtype == DType::kInt64, "positions are int64");
  const int64_t dims = dim < 0 ? -1 : int64_t{1} << dim;
  by_compute_type(x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    reduce(backend, ExtremumReduction<T>{largest, true}, x, dims, call.out(), true);
  });
}

template <class T>
void variance_of(CudaBackend& backend, const OpCall& call) {
  const Tensor& x = call.in(0);
  const Tensor& out = call.out();
  const int64_t dims = call.int_attr(0);
  double count = 1;
  for (int32_t dim = 0; dim < x.rank; ++dim) {
    if (((dims >> dim) & 1) != 0) count *= static_cast<double>(x.shape[dim]);
  }
  const DType dtype = sizeof(T) == 8 ? DType::kFloat64 : DType::kFloat32;
  const Tensor means = allocate_tensor(backend, dtype, out.shape, out.rank);
  reduce(backend, SumReduction<T>{1.0 / count}, x, dims, means);
  const double divisor = std::max(0.0, count - call.attr(1));
  reduce(backend, VarianceReduction<T>{means.as<const T>(), divisor}, x, dims, out);
}

}  // namespace

void reduce_sum(CudaBackend& backend, const Tensor& x, int64_t dims, double factor,
                const Tensor& out) {
  by_compute_type(out.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    reduce(backend, SumReduction<T>{std::is_integral_v<T> ? 1.0 : factor}, x, dims, out);
  });
}

void CudaBackend::sum(const OpCall& call) {
  reduce_sum(*this, call.in(0), call.int_attr(0), call.attr(1), call.out());
}

void CudaBackend::variance(const OpCall& call) {
  check(is_floating(call.out().dtype), "variance gives floating point");
  if (call.out().dtype == DType::kFloat64) {
    variance_of<double>(*this, call);
  } else {
    variance_of<float>(*this, call);
  }
}

void CudaBackend::amax(const OpCall& call) { extremum(*this, call, true); }
void CudaBackend::amin(const OpCall& call) { extremum(*this, call, false); }
void CudaBackend::argmax(const OpCall& call) { arg_extremum(*this, call, true); }
void CudaBackend::argmin(const OpCall& call) { arg_extremum(*this, call, false); }

void CudaBackend::logsumexp(const OpCall& call) {
  check(is_floating(call.out().dtype), "logsumexp gives floating point");
  if (call.out().dtype == DType::kFloat64) {
    reduce(*this, LogSumExpReduction<double>{}, call.in(0), call.int_attr(0), call.out());
  } else {
    reduce(*this, LogSumExpReduction<float>{}, call.in(0), call.int_attr(0), call.out());
  }
}

}  // namespace mixprec::cuda
