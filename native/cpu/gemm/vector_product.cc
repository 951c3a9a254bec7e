// The product of a row with a matrix: bound by the memory that the matrix is read from, so that it
// is neither packed nor copied, and every thread streams a part of its own.

#include <algorithm>

#include "cpu/thread_pool.h"
#include "finish.h"
#include "plan.h"

namespace mixprec::cpu {
namespace {

// Columns that a thread takes at a time: their sums stay in the first-level cache.
constexpr int64_t kStripe = 4096;
// Elements below which another thread gains nothing.
constexpr int64_t kSerialElements = 1 << 15;

}  // namespace

template <class Acc>
void multiply_vector(const GemmPlan<Acc>& plan) {
  const KernelTable<Acc>& kernels = gemm_kernels<Acc>();
  const bool rows_dense = plan.rhs.k_stride == 1;
  const int64_t elements = plan.N * plan.K;
  // Rows that are summed one by one are handed out in small runs, so that threads end together; of
  // columns each thread takes one long run, since what lies side by side is read fastest.
  const int64_t runs = (rows_dense ? 4 : 1) * int64_t{num_threads()};
  const int64_t stripe = std::clamp<int64_t>((plan.N / runs + 15) / 16 * 16, 16, kStripe);
  const int64_t stripes = (plan.N + stripe - 1) / stripe;
  const auto run = [&](int64_t begin, int64_t end) {
    thread_local GemmScratch scratch;
    Acc* const x =
        static_cast<Acc*>(scratch.get((plan.K + kStripe) * static_cast<int64_t>(sizeof(Acc))));
    Acc* const y = x + plan.K;
    int64_t read = -1;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t batch = task / stripes;
      const int64_t col = task % stripes * stripe;
      const int64_t cols = std::min(stripe, plan.N - col);
      if (read != batch) {
        PanelSource lhs = plan.lhs;
        lhs.data += batch * plan.lhs_batch_stride;
        kernels.read_vector(lhs, plan.K, x);
        read = batch;
      }
      PanelSource rhs = plan.rhs.at(col, 0);
      rhs.data += batch * plan.rhs_batch_stride;
      (rows_dense ? kernels.matrix_vector : kernels.vector_matrix)(rhs, cols, plan.K, x, y);
      StoreTarget<Acc> target = plan.target.at(0, col);
      target.out += batch * plan.out_batch_stride;
      store_rows(plan, target, 1, cols, y, cols);
    }
  };
  const int64_t tasks = plan.batch * stripes;
  if (plan.batch * elements < kSerialElements) {
    run(0, tasks);
  } else {
    const int64_t per_task = std::max<int64_t>(1, stripe * plan.K);
    parallel_for(tasks, std::max<int64_t>(1, kSerialElements / 2 / per_task), run);
  }
}

template void multiply_vector(const GemmPlan<float>&);
template void multiply_vector(const GemmPlan<double>&);

}  // namespace mixprec::cpu
