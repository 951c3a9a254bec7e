// The shared memory of a block: poisoned with 0xFF (NaN in every floating-point type) before the
// block begins, with gaps between the variables that must stay as they are.
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

 private:
  struct Variable {
    const void* site;
    size_t offset;
    size_t bytes;
  };
  std::unique_ptr<uint8_t[]> memory_;
  uint8_t* base_;  // 1024-byte aligned, as swizzled tiles want it
  size_t used_ = 0;
  size_t static_bytes_ = 0;
  std::vector<Variable> variables_;  // the dynamic memory first
};

}  // namespace mixprec::cuda::emulator
