#include "report.h"

#include <bit>
#include <cstring>
#include <string>

#include "core/errors.h"

namespace mixprec::cuda {
namespace {

std::string text_of(const DeviceReport& report) {
  const int64_t* numbers = report.numbers;
  const auto number = [&](int i) { return std::to_string(numbers[i]); };
  switch (static_cast<ReportKind>(report.kind)) {
    case ReportKind::kIndex: {
      const std::string expected = numbers[2] == 0 ? "none, the dimension is empty"
                                                   : "0 to " + std::to_string(numbers[2] - 1) +
                                                         " (the dimension is " + number(2) + ")";
      return "index out of range — expected " + expected + ", got " + number(0) + " at position " +
             number(1);
    }
    case ReportKind::kTarget:
      return "target out of range — expected 0 to " + std::to_string(numbers[2] - 1) + " (C is " +
             number(2) + ") or ignoreIndex " + number(3) + ", got " + number(0) + " in row " +
             number(1);
    case ReportKind::kWeight:
      return "weights must be finite and not negative, got " +
             std::to_string(std::bit_cast<double>(numbers[0])) + " at position " + number(1) +
             " in row " + number(2);
    case ReportKind::kPositiveWeights:
      if (numbers[0] == 0) return "the weights sum to 0 in row " + number(2);
      return number(1) + " samples without replacement need as many positive weights, got " +
             number(0) + " in row " + number(2);
    case ReportKind::kWeightSum:
      return "the sum of the weights overflows in row " + number(0);
    case ReportKind::kNone:
      break;
  }
  return "a kernel reported a fault of kind " + std::to_string(report.kind);
}

}  // namespace

void raise_report(DeviceReport& report, const char* op) {
  if (static_cast<volatile DeviceReport&>(report).kind == 0) [[likely]]
    return;
  const DeviceReport found = report;
  report.kind = 0;
  std::string text = text_of(found);
  if (found.op != nullptr && std::strcmp(found.op, op) != 0) {
    text = "an earlier " + std::string(found.op) + ": " + text;
  }
  throw Error(ErrorCode::kArgument, text);
}

}  // namespace mixprec::cuda
