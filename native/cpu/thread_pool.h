// One process-wide pool of worker threads; the calling thread takes part in every job.
#pragma once

#include <cstdint>
#include <functional>

namespace mixprec::cpu {

// Threads that compute, the caller included; at least 1. The initial value is the number of
// physical cores this process may run on, or MIXPREC_NUM_THREADS.
int num_threads();
void set_num_threads(int count);
// Threads that a parallel_for called from here would have: 1 inside another.
int usable_threads();

// Calls body(begin, end) over disjoint ranges that cover [0, count), each at least `grain` long
// (the last may be shorter), and returns when all are done. Ranges may be handed out in any order
// to any thread, so a body must not let its result depend on where ranges begin. Nested calls run
// inline. An exception from a body is rethrown here.
void parallel_for(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body);

}  // namespace mixprec::cpu
