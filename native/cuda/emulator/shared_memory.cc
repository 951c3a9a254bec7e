#include "shared_memory.h"

#include <cstring>

namespace mixprec::cuda::emulator {
namespace {

constexpr size_t kGap = 64;
constexpr size_t kAlignment = 128;
constexpr uint8_t kPoison = 0xFF;
// Gaps and alignment come on top of what a kernel may use.
constexpr size_t kBytes = SharedMemory::kCapacity + (16 << 10);

constexpr size_t aligned(size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

SharedMemory::SharedMemory() : memory_(new uint8_t[kBytes + 1024]) {
  const auto address = reinterpret_cast<uintptr_t>(memory_.get());
  base_ = memory_.get() + (1024 - address % 1024);
  std::memset(base_, kPoison, kBytes);
}

void SharedMemory::begin(size_t dynamic_bytes) {
  if (used_ > 0) std::memset(base_, kPoison, aligned(used_) + kGap);
  variables_.clear();
  static_bytes_ = 0;
  used_ = dynamic_bytes;
  if (dynamic_bytes > 0) variables_.push_back({nullptr, 0, dynamic_bytes});
}

void* SharedMemory::variable(const void* site, size_t bytes) {
  for (const Variable& variable : variables_) {
    if (variable.site == site) return base_ + variable.offset;
  }
  const size_t offset = used_ == 0 ? 0 : aligned(used_ + kGap);
  static_bytes_ += bytes;
  if (static_bytes_ > kStaticCapacity || offset + bytes + kGap > kBytes) return nullptr;
  used_ = offset + bytes;
  variables_.push_back({site, offset, bytes});
  return base_ + offset;
}

bool SharedMemory::gaps_intact() const {
  for (const Variable& variable : variables_) {
    const uint8_t* gap = base_ + variable.offset + variable.bytes;
    for (size_t i = 0; i < kGap; ++i) {
      if (gap[i] != kPoison) return false;
    }
  }
  return true;
}

}  // namespace mixprec::cuda::emulator
