// The device's side of runtime/report.h.
#pragma once

#include "cuda/ptx/barrier.h"
#include "cuda/ptx/memory.h"
#include "cuda/runtime/report.h"

namespace mixprec::cuda {

// Of several threads that report at a time any may win: each number is one that some thread wrote.
MIXPREC_DEVICE void report(const ReportSlot& slot, ReportKind kind, int64_t a, int64_t b, int64_t c,
                           int64_t d = 0) {
  DeviceReport* const to = slot.report;
  ptx::st(&to->op, slot.op);
  ptx::st(&to->numbers[0], a);
  ptx::st(&to->numbers[1], b);
  ptx::st(&to->numbers[2], c);
  ptx::st(&to->numbers[3], d);
  ptx::fence_system();
  ptx::st(&to->kind, static_cast<int32_t>(kind));
}

}  // namespace mixprec::cuda
