// The shared memory of a block: poisoned with 0xFF (NaN in every floating-point type) before the
// block begins, with gaps between the variables that must stay as they are. Where instructions
// copy into it asynchronously, it also knows which bytes are on their way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace mixprec::cuda::emulator {

class SharedMemory {
 public:
  static constexpr size_t kCapacity = 227 << 10;
  static constexpr size_t kStaticCapacity = 48 << 10;

  SharedMemory();

  // Poisons what was used, and lays out `dynamic_bytes` at the beginning.
  void begin(size_t dynamic_bytes);
  uint8_t* dynamic() const { return base_; }
  // The variable declared at `site`, the same for all threads of the block; null if there is no
  // room.
  void* variable(const void* site, size_t bytes);
  bool contains(const void* data, size_t bytes) const {
    return static_cast<size_t>(static_cast<const uint8_t*>(data) - base_) <= used_ - bytes &&
           bytes <= used_;
  }
  size_t used() const { return used_; }
  // Whether nobody wrote between the variables.
  bool gaps_intact() const;

  // ---- By offset, for instructions that take addresses of 32 bits ----

  uint8_t* at(uint32_t offset) const { return base_ + offset; }
  uint32_t offset_of(const void* data) const {
    return static_cast<uint32_t>(static_cast<const uint8_t*>(data) - base_);
  }

  // A copy to these bytes, which are poisoned, is under way; or has landed. Multiples of 4 bytes.
  void begin_copy(uint32_t offset, uint32_t bytes);
  void end_copy(uint32_t offset, uint32_t bytes);
  bool in_flight(uint32_t offset, uint32_t bytes) const;

  // An instruction stored here, by a thread that had fenced `fences` times.
  void note_store(uint32_t offset, uint32_t bytes, uint32_t thread, uint32_t fences);
  // Whether a thread stored here and has not fenced since; `fences_of` tells a thread's count.
  template <class FencesOf>
  bool unfenced(uint32_t offset, uint32_t bytes, const FencesOf& fences_of) const {
    if (!tracked_) return false;
    for (uint32_t granule = offset / 16; granule <= (offset + bytes - 1) / 16; ++granule) {
      const uint32_t store = stores_[granule];
      if (store != 0 && fences_of(store % 2048 - 1) == store / 2048) return true;
    }
    return false;
  }

 private:
  struct Variable {
    const void* site;
    size_t offset;
    size_t bytes;
  };
  void track();

  std::unique_ptr<uint8_t[]> memory_;
  uint8_t* base_;  // 1024-byte aligned, as swizzled tiles want it
  size_t used_ = 0;
  size_t static_bytes_ = 0;
  std::vector<Variable> variables_;  // the dynamic memory first
  bool tracked_ = false;             // whether the vectors below are in use
  std::vector<uint8_t> copies_;      // how many copies are under way to each 4 bytes
  std::vector<uint32_t> stores_;     // fences * 2048 + thread + 1 of each 16 bytes, or 0
};

}  // namespace mixprec::cuda::emulator
