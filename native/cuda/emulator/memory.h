// The memory of emulated devices. Each byte has a shadow byte that tells whether it is allocated
// and whether it was ever written, and the accessors of ptx/memory.h look there before they touch
// it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

namespace mixprec::cuda::emulator {

// Bits of a shadow byte.
inline constexpr uint8_t kAllocated = 1;
inline constexpr uint8_t kWritten = 2;
inline constexpr uint8_t kFreed = 4;

// One range of addresses for all devices and for pinned host memory.
struct Arena {
  uintptr_t base = 0;
  size_t bytes = 0;
  intptr_t to_shadow = 0;  // from an address to that of its shadow byte
};
extern Arena arena;

inline bool in_arena(const void* data, size_t bytes) {
  return reinterpret_cast<uintptr_t>(data) - arena.base <= arena.bytes - bytes;
}
inline uint8_t* shadow_of(const void* data) {
  return reinterpret_cast<uint8_t*>(reinterpret_cast<intptr_t>(data) + arena.to_shadow);
}

// Reserves the arena at the first call.
void prepare_arena();
// Addresses with room around them, of the pages of which the host gives memory as they are touched;
// null where `bytes` are not to be had.
void* reserve(size_t bytes);
// The bytes that were reserved at `data`, which are given back; 0 if none were.
size_t give_back(void* data);

void set_shadow(const void* data, size_t bytes, uint8_t state);
// Whether every byte has all bits of `state`.
bool has_state(const void* data, size_t bytes, uint8_t state);

// Live blocks: what tensors and scratch memory lie in. A block gets guards of a pattern around it;
// end_block() tells whether they are intact.
void begin_block(const void* data, size_t bytes);
bool end_block(const void* data);
// Whether the guards of the block around an address are intact; true for what lies in none.
bool guards_intact(const void* inside);
// Where an address lies, in words: "8 bytes after a block of 400 bytes".
std::string describe_address(const void* data);

// Out of line, so that the checks below stay small: decides what is wrong, and ends the kernel; or
// returns if the address is in the block's shared memory.
void check_slowly(const void* data, size_t bytes, bool write);

template <size_t kBytes>
inline uint64_t shadow_word(const uint8_t* shadow) {
  uint64_t word = 0;
  std::memcpy(&word, shadow, kBytes < 8 ? kBytes : 8);
  return word;
}
template <size_t kBytes>
inline constexpr uint64_t kEveryByte = kBytes >= 8 ? 0x0101010101010101u
                                                   : (uint64_t{1} << (8 * (kBytes % 8))) / 255u;

template <size_t kBytes>
inline bool shadow_has(const uint8_t* shadow, uint64_t state) {
  const uint64_t wanted = kEveryByte<kBytes> * state;
  if constexpr (kBytes == 16) {
    return ((shadow_word<8>(shadow) & shadow_word<8>(shadow + 8)) & wanted) == wanted;
  } else {
    return (shadow_word<kBytes>(shadow) & wanted) == wanted;
  }
}

// Called for each access of kBytes (1, 2, 4, 8 or 16) that a kernel makes.
template <size_t kBytes>
inline void check_read(const void* data) {
  if (in_arena(data, kBytes) && reinterpret_cast<uintptr_t>(data) % kBytes == 0 &&
      shadow_has<kBytes>(shadow_of(data), kAllocated | kWritten)) [[likely]] {
    return;
  }
  check_slowly(data, kBytes, false);
}
template <size_t kBytes>
inline void check_write(const void* data) {
  if (in_arena(data, kBytes) && reinterpret_cast<uintptr_t>(data) % kBytes == 0 &&
      shadow_has<kBytes>(shadow_of(data), kAllocated)) [[likely]] {
    std::memset(shadow_of(data), kAllocated | kWritten, kBytes);
    return;
  }
  check_slowly(data, kBytes, true);
}

}  // namespace mixprec::cuda::emulator
