// The way of sums to memory on the CPU: alpha, beta, bias, and what the epilogue of GemmDesc asks
// for, on rows that the product has just left in the cache.
#pragma once

#include "core/gemm_desc.h"
#include "plan.h"

namespace mixprec::cpu {

// Finishes `rows` x `cols` sums and stores them at `target`, a part of plan.target.
template <class Acc>
void store_rows(const GemmPlan<Acc>& plan, const StoreTarget<Acc>& target, int64_t rows,
                int64_t cols, const Acc* acc, int64_t acc_row_stride);

// Fills desc.epilogue.column_sums from `out`, the same for any number of threads.
void sum_columns(const GemmDesc& desc);

}  // namespace mixprec::cpu
