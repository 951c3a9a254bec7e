#include "memory.h"

#include <sys/mman.h>

#include <map>
#include <mutex>

#include "machine.h"

namespace mixprec::cuda::emulator {
namespace {

// Addresses only: memory is taken as pages are touched.
constexpr size_t kArenaBytes = size_t{1} << 40;
constexpr size_t kPage = 4096;
constexpr size_t kGuardBytes = 64;
constexpr uint8_t kGuardPattern = 0xA5;

// Everything that a mutex has to protect; never destroyed, since streams outlive static objects.
struct Registry {
  std::mutex mutex;
  std::map<uintptr_t, size_t> reserved;  // begin -> bytes
  std::map<uintptr_t, size_t> gaps;      // of given-back addresses
  std::map<uintptr_t, size_t> blocks;
  std::map<uintptr_t, size_t> ended;  // the last block at each address
  uintptr_t next = 0;
};
Registry& registry() {
  static auto* const instance = new Registry;
  return *instance;
}

void* map_range(size_t bytes) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return data == MAP_FAILED ? nullptr : data;
}

bool is_pattern(const uint8_t* guard) {
  for (size_t i = 0; i < kGuardBytes; ++i) {
    if (guard[i] != kGuardPattern) return false;
  }
  return true;
}

bool intact(uintptr_t begin, size_t bytes) {
  return is_pattern(reinterpret_cast<const uint8_t*>(begin - kGuardBytes)) &&
         is_pattern(reinterpret_cast<const uint8_t*>(begin + bytes));
}

using Range = std::map<uintptr_t, size_t>::const_iterator;

// The range of the map that begins at or before `address`, or its end.
Range range_before(const std::map<uintptr_t, size_t>& ranges, uintptr_t address) {
  auto after = ranges.upper_bound(address);
  return after == ranges.begin() ? ranges.end() : std::prev(after);
}

}  // namespace

Arena arena;

void prepare_arena() {
  static const bool prepared = [] {
    void* data = map_range(kArenaBytes);
    void* shadow = map_range(kArenaBytes);
    if (data == nullptr || shadow == nullptr) throw std::bad_alloc();
    arena.base = reinterpret_cast<uintptr_t>(data);
    arena.bytes = kArenaBytes;
    arena.to_shadow = static_cast<char*>(shadow) - static_cast<char*>(data);
    registry().next = arena.base;
    return true;
  }();
  (void)prepared;
}

void* reserve(size_t bytes) {
  if (bytes > kArenaBytes) return nullptr;
  const size_t whole = (bytes + 2 * kPage - 1) / kPage * kPage + kPage;
  Registry& self = registry();
  const std::lock_guard<std::mutex> lock(self.mutex);
  uintptr_t begin = 0;
  if (self.next + whole <= arena.base + arena.bytes) {
    begin = self.next;
    self.next += whole;
  } else {
    // Addresses return as late as can be, so that a use after free meets nothing new there.
    for (auto gap = self.gaps.begin(); gap != self.gaps.end() && begin == 0; ++gap) {
      if (gap->second < whole) continue;
      begin = gap->first;
      const size_t rest = gap->second - whole;
      self.gaps.erase(gap);
      if (rest > 0) self.gaps[begin + whole] = rest;
      break;
    }
    if (begin == 0) return nullptr;
  }
  self.reserved[begin] = whole;
  return reinterpret_cast<void*>(begin + kPage);
}

size_t give_back(void* data) {
  Registry& self = registry();
  const std::lock_guard<std::mutex> lock(self.mutex);
  const auto found = self.reserved.find(reinterpret_cast<uintptr_t>(data) - kPage);
  if (found == self.reserved.end()) return 0;
  const auto [begin, whole] = *found;
  self.reserved.erase(found);
  self.gaps[begin] = whole;
  auto* const pages = reinterpret_cast<void*>(begin);
  madvise(pages, whole, MADV_DONTNEED);
  madvise(shadow_of(pages), whole, MADV_DONTNEED);
  return whole;
}

void set_shadow(const void* data, size_t bytes, uint8_t state) {
  std::memset(shadow_of(data), state, bytes);
}

bool has_state(const void* data, size_t bytes, uint8_t state) {
  if (!in_arena(data, bytes)) return false;
  const uint8_t* shadow = shadow_of(data);
  for (size_t i = 0; i < bytes; ++i) {
    if ((shadow[i] & state) != state) return false;
  }
  return true;
}

void begin_block(const void* data, size_t bytes) {
  if (bytes == 0) return;
  const auto begin = reinterpret_cast<uintptr_t>(data);
  std::memset(reinterpret_cast<void*>(begin - kGuardBytes), kGuardPattern, kGuardBytes);
  std::memset(reinterpret_cast<void*>(begin + bytes), kGuardPattern, kGuardBytes);
  set_shadow(data, bytes, kAllocated);
  // What is left of earlier blocks in the gap behind this one is out of bounds now.
  const size_t extent = (bytes + 511) / 512 * 512 * api::kAddressStretch;
  std::memset(shadow_of(data) + bytes, 0, extent - bytes);
  Registry& self = registry();
  const std::lock_guard<std::mutex> lock(self.mutex);
  self.ended.erase(self.ended.lower_bound(begin), self.ended.lower_bound(begin + extent));
  self.blocks[begin] = bytes;
}

bool end_block(const void* data) {
  const auto begin = reinterpret_cast<uintptr_t>(data);
  Registry& self = registry();
  const std::lock_guard<std::mutex> lock(self.mutex);
  const auto found = self.blocks.find(begin);
  if (found == self.blocks.end()) return true;
  const size_t bytes = found->second;
  self.blocks.erase(found);
  self.ended[begin] = bytes;
  set_shadow(data, bytes, kFreed);
  return intact(begin, bytes);
}

bool guards_intact(const void* inside) {
  const auto address = reinterpret_cast<uintptr_t>(inside);
  Registry& self = registry();
  const std::lock_guard<std::mutex> lock(self.mutex);
  const Range found = range_before(self.blocks, address);
  if (found == self.blocks.end() || address >= found->first + found->second) return true;
  return intact(found->first, found->second);
}

std::string describe_address(const void* data) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  if (!in_arena(data, 1)) return "no device memory";
  Registry& self = registry();
  const std::lock_guard<std::mutex> lock(self.mutex);
  const auto place = [&](Range range, const char* kind) {
    const size_t offset = address - range->first;
    const std::string block = std::string(kind) + " of " + std::to_string(range->second) + " bytes";
    if (offset < range->second) return "byte " + std::to_string(offset) + " of " + block;
    return std::to_string(offset - range->second) + " bytes after the end of " + block;
  };
  const Range ended = range_before(self.ended, address);
  if ((*shadow_of(data) & kFreed) != 0 && ended != self.ended.end()) {
    return place(ended, "a freed block");
  }
  const auto above = self.blocks.upper_bound(address);
  const Range below = range_before(self.blocks, address);
  const bool near_next = above != self.blocks.end() &&
                         (below == self.blocks.end() ||
                          above->first - address < address - (below->first + below->second));
  if (near_next && (below == self.blocks.end() || address >= below->first + below->second)) {
    return std::to_string(above->first - address) + " bytes before a block of " +
           std::to_string(above->second) + " bytes";
  }
  if (below == self.blocks.end()) return "no block";
  return place(below, "a block");
}

void check_slowly(const void* data, size_t bytes, bool write) {
  const bool aligned = reinterpret_cast<uintptr_t>(data) % bytes == 0;
  if (aligned && current_block().shared.contains(data, bytes)) return;
  const std::string what = std::string(write ? "write" : "read") + " of " + std::to_string(bytes) +
                           " bytes, " + describe_address(data);
  if (!aligned) fault(api::kMisalignedAddress, "misaligned " + what);
  if (!in_arena(data, bytes)) fault(api::kIllegalAddress, "illegal address: " + what);
  const uint8_t* shadow = shadow_of(data);
  for (size_t i = 0; i < bytes; ++i) {
    if ((shadow[i] & kFreed) != 0) fault(api::kIllegalAddress, "use after free: " + what);
    if ((shadow[i] & kAllocated) == 0) fault(api::kIllegalAddress, "out of bounds: " + what);
  }
  if (!write) fault(api::kLaunchFailure, "read of memory that nobody wrote: " + what);
}

}  // namespace mixprec::cuda::emulator
