#include "shared_memory.h"

#include <algorithm>
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
  if (tracked_) {
    std::fill(copies_.begin(), copies_.end(), uint8_t{0});
    std::fill(stores_.begin(), stores_.end(), 0u);
    tracked_ = false;
  }
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

void SharedMemory::track() {
  if (tracked_) [[likely]]
    return;
  copies_.resize(kBytes / 4);
  stores_.resize(kBytes / 16);
  tracked_ = true;
}

void SharedMemory::begin_copy(uint32_t offset, uint32_t bytes) {
  track();
  std::memset(base_ + offset, kPoison, bytes);
  for (uint32_t word = offset / 4; word < (offset + bytes) / 4; ++word) ++copies_[word];
  for (uint32_t granule = offset / 16; granule <= (offset + bytes - 1) / 16; ++granule) {
    stores_[granule] = 0;
  }
}

void SharedMemory::end_copy(uint32_t offset, uint32_t bytes) {
  for (uint32_t word = offset / 4; word < (offset + bytes) / 4; ++word) --copies_[word];
}

bool SharedMemory::in_flight(uint32_t offset, uint32_t bytes) const {
  if (!tracked_) return false;
  uint8_t any = 0;
  for (uint32_t word = offset / 4; word <= (offset + bytes - 1) / 4; ++word) any |= copies_[word];
  return any != 0;
}

void SharedMemory::note_store(uint32_t offset, uint32_t bytes, uint32_t thread, uint32_t fences) {
  track();
  for (uint32_t granule = offset / 16; granule <= (offset + bytes - 1) / 16; ++granule) {
    stores_[granule] = fences * 2048 + thread + 1;
  }
}

}  // namespace mixprec::cuda::emulator
