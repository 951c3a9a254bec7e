// Errors a user can cause, each with the class it becomes in TypeScript (lib/errors.ts).
#pragma once

#include <stdexcept>
#include <string>

namespace mixprec {

enum class ErrorCode { kShape, kDType, kDevice, kOutOfMemory, kArgument, kInternal };

constexpr const char* error_code_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::kShape:
      return "ERR_SHAPE";
    case ErrorCode::kDType:
      return "ERR_DTYPE";
    case ErrorCode::kDevice:
      return "ERR_DEVICE";
    case ErrorCode::kOutOfMemory:
      return "ERR_OUT_OF_MEMORY";
    case ErrorCode::kArgument:
      return "ERR_ARGUMENT";
    case ErrorCode::kInternal:
      break;
  }
  return "ERR_NATIVE";
}

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

// For invariants that TypeScript has checked already: a failure is a defect of this library, and is
// reported rather than left to corrupt memory.
inline void check(bool condition, const char* message) {
  if (!condition) [[unlikely]]
    throw Error(ErrorCode::kInternal, message);
}

}  // namespace mixprec
