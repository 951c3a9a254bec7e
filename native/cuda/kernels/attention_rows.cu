#include "attention_rows.h"

#include <limits>

#include "core/philox.h"
#include "element.h"
#include "math.h"
#include "reduce_block.h"

namespace mixprec::cuda {
namespace {

// Threads of a row of scores: a warp for most, which needs no barriers, and more for long rows.
constexpr int kShortRow = 32;
constexpr int kLongRow = 256;
constexpr int64_t kShortRowLength = 2048;

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
__global__ void __launch_bounds__(kThreads) weigh(MIXPREC_GRID_CONSTANT(RowsArgs) args) {
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
__global__ void __launch_bounds__(kThreads) unweigh(MIXPREC_GRID_CONSTANT(RowsArgs) args) {
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

// The kernel for short rows, or that for long ones.
template <auto short_rows, auto long_rows>
void launch_rows(const CudaBackend& backend, const RowsArgs& args, int64_t heads) {
  const auto blocks = static_cast<uint32_t>(heads * args.rows);
  if (args.S <= kShortRowLength) {
    launch<short_rows>(backend.grid(blocks, kShortRow), args);
  } else {
    launch<long_rows>(backend.grid(blocks, kLongRow), args);
  }
}

}  // namespace

void weigh_rows(const CudaBackend& backend, const RowsArgs& args, int64_t heads, bool is_double) {
  if (is_double) {
    launch_rows<weigh<double, kShortRow>, weigh<double, kLongRow>>(backend, args, heads);
  } else {
    launch_rows<weigh<float, kShortRow>, weigh<float, kLongRow>>(backend, args, heads);
  }
}

void unweigh_rows(const CudaBackend& backend, const RowsArgs& args, int64_t heads, bool is_double) {
  if (is_double) {
    launch_rows<unweigh<double, kShortRow>, unweigh<double, kLongRow>>(backend, args, heads);
  } else {
    launch_rows<unweigh<float, kShortRow>, unweigh<float, kLongRow>>(backend, args, heads);
  }
}

}  // namespace mixprec::cuda
