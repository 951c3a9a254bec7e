// Draws from categorical distributions. Sample e of the output, in row-major order, is decided by
// words 2e and 2e + 1 of the random sequence (core/philox.h) alone.

#include <bit>
#include <cmath>
#include <string>

#include "core/philox.h"
#include "cpu_backend.h"
#include "row_io.h"
#include "thread_pool.h"

namespace mixprec::cpu {
namespace {

// The weights of a row as the leaves of a binary tree of sums. A sum is always that of its two
// halves, so that a weight taken out leaves no rounding error behind.
class WeightTree {
 public:
  // `nodes` has room for node_count(n).
  WeightTree(double* nodes, int64_t n)
      : nodes_(nodes), leaves_(static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(n)))) {}

  static int64_t node_count(int64_t n) {
    return 2 * static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(n)));
  }

  template <class T>
  void fill(const T* weights, int64_t n) {
    for (int64_t i = 0; i < n; ++i) nodes_[leaves_ + i] = static_cast<double>(weights[i]);
    for (int64_t i = n; i < leaves_; ++i) nodes_[leaves_ + i] = 0.0;
    for (int64_t node = leaves_ - 1; node > 0; --node) add_up(node);
  }
  double total() const { return nodes_[1]; }

  // The position where the running sum of the weights passes fraction * total(); its weight is
  // positive where the total is.
  int64_t find(double fraction) const {
    double left_over = fraction * total();
    int64_t node = 1;
    while (node < leaves_) {
      const double left = nodes_[2 * node];
      node *= 2;
      if (left_over < left || nodes_[node + 1] == 0.0) continue;
      left_over -= left;
      ++node;
    }
    return node - leaves_;
  }

  void take_out(int64_t position) {
    int64_t node = leaves_ + position;
    nodes_[node] = 0.0;
    for (node /= 2; node > 0; node /= 2) add_up(node);
  }

 private:
  void add_up(int64_t node) { nodes_[node] = nodes_[2 * node] + nodes_[2 * node + 1]; }

  double* nodes_;
  int64_t leaves_;
};

[[noreturn]] void fail(int64_t row, const std::string& what) {
  throw Error(ErrorCode::kArgument, what + " in row " + std::to_string(row));
}

template <class T>
void check_weights(const T* weights, int64_t n, int64_t row, int64_t samples, bool replacement) {
  int64_t positive = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (!(weights[i] >= T{0}) || std::isinf(weights[i])) {
      fail(row, "weights must be finite and not negative, got " + std::to_string(weights[i]) +
                    " at position " + std::to_string(i));
    }
    positive += weights[i] > T{0} ? 1 : 0;
  }
  if (positive == 0) fail(row, "the weights sum to 0");
  if (!replacement && positive < samples) {
    fail(row, std::to_string(samples) + " samples without replacement need as many positive " +
                  "weights, got " + std::to_string(positive));
  }
}

}  // namespace

void CpuBackend::multinomial(const OpCall& call) {
  const Tensor& weights = call.in(0);
  const Tensor& out = call.out();
  check(weights.rank == 2 && out.rank == 2 && weights.shape[0] == out.shape[0],
        "multinomial takes weights [rows, n] and gives [rows, samples]");
  check(out.dtype == DType::kInt64, "multinomial gives int64");
  const auto seed = static_cast<uint64_t>(call.int_attr(0));
  const auto offset = static_cast<uint64_t>(call.int_attr(1));
  const bool replacement = call.flag(2);
  const int64_t n = weights.shape[1];
  const int64_t samples = out.shape[1];
  if (out.numel() == 0) return;
  by_arithmetic(weights.dtype, [&]<class T>(T) {
    const RowReader<T> input(weights, n);
    parallel_for(out.shape[0], row_grain(n + 64 * samples), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const T* own = n == 0 ? nullptr : input.row(row, 0);
        check_weights(own, n, row, samples, replacement);
        WeightTree tree(row_scratch<double>(1, WeightTree::node_count(n)), n);
        tree.fill(own, n);
        if (!std::isfinite(tree.total())) fail(row, "the sum of the weights overflows");
        for (int64_t sample = 0; sample < samples; ++sample) {
          const int64_t at = row * samples + sample;
          const PhiloxBlock block = philox(seed, offset + static_cast<uint64_t>(at) / 2);
          const uint32_t* words = block.words + at % 2 * 2;
          const int64_t found = tree.find(uniform53(words[0], words[1]));
          out.as<int64_t>()[at] = found;
          if (!replacement) tree.take_out(found);
        }
      }
    });
  });
}

}  // namespace mixprec::cpu
