// How a kernel says that a user's data is bad (an index out of range, say): it writes a report into
// memory that the host reads without waiting, and does something harmless instead. The next call on
// the device, or the end of this one with MIXPREC_LAUNCH_BLOCKING=1, throws an ArgumentError.
#pragma once

#include <cstdint>

namespace mixprec::cuda {

// A kind has its text in report.cc, made of the numbers that the kernel passes.
enum class ReportKind : int32_t {
  kNone = 0,
  kIndex = 1,            // value, position, bound
  kTarget = 2,           // value, row, number of classes, ignored index
  kWeight = 3,           // bits of the value as a double, position, row
  kPositiveWeights = 4,  // their number, how many are needed, row
  kWeightSum = 5,        // row
};

struct DeviceReport {
  int32_t kind = 0;
  const char* op = nullptr;  // of the host
  int64_t numbers[4] = {};
};

// What a kernel gets to report with.
struct ReportSlot {
  DeviceReport* report = nullptr;
  const char* op = nullptr;
};

// Throws what a kernel reported, if one did, and clears the report. `op` is the op that is under
// way.
void raise_report(DeviceReport& report, const char* op);

}  // namespace mixprec::cuda
