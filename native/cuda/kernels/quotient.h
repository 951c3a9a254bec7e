// Division by an extent that is known at the launch.
#pragma once

#include "layout.h"

namespace mixprec::cuda {

// Quotients of dividends from 0 to `largest`: a multiplication below 2^31, else a division.
class Quotient {
 public:
  Quotient() = default;
  Quotient(int64_t divisor, int64_t largest) : divisor_(divisor) {
    constexpr int64_t kNarrow = int64_t{1} << 31;
    check(divisor > 0, "a division by an extent of 0");
    wide_ = largest >= kNarrow || divisor >= kNarrow;
    if (!wide_) fast_ = Divider(static_cast<uint32_t>(divisor));
  }

  MIXPREC_HD int64_t of(int64_t dividend) const {
    if (wide_) return dividend / divisor_;
    return static_cast<int64_t>(fast_.divide(static_cast<uint32_t>(dividend)));
  }
  MIXPREC_HD int64_t divisor() const { return divisor_; }

 private:
  int64_t divisor_ = 1;
  Divider fast_;
  bool wide_ = false;
};

}  // namespace mixprec::cuda
