// Tensors by integer handle: what crosses the boundary is an index into this table. One table per
// environment (main thread or worker), touched by that environment's thread alone.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "core/errors.h"
#include "core/storage.h"

namespace mixprec::binding {

class HandleTable {
 public:
  // `owned_bytes`: memory that came with this handle and goes, but for views, with it.
  int32_t add(Tensor tensor, int64_t owned_bytes = 0) {
    int32_t handle;
    if (free_.empty()) {
      handle = static_cast<int32_t>(slots_.size());
      slots_.emplace_back();
      // A release inside a garbage collection must not allocate.
      free_.reserve(slots_.capacity());
    } else {
      handle = free_.back();
      free_.pop_back();
    }
    Slot& slot = slots_[handle];
    slot.tensor = std::move(tensor);
    slot.owned_bytes = owned_bytes;
    slot.used = true;
    ++count_;
    return handle;
  }

  const Tensor& get(double handle) const {
    const auto index = static_cast<int64_t>(handle);
    if (index < 0 || index >= static_cast<int64_t>(slots_.size()) || !slots_[index].used)
        [[unlikely]] {
      throw Error(ErrorCode::kInternal, "a tensor handle that is not in use was passed");
    }
    return slots_[index].tensor;
  }

  void release(int32_t handle) {
    if (handle < 0 || handle >= static_cast<int32_t>(slots_.size())) return;
    Slot& slot = slots_[handle];
    if (!slot.used) return;
    slot.used = false;
    ++slot.generation;
    slot.tensor.storage = StorageRef();
    released_bytes_ += std::exchange(slot.owned_bytes, 0);
    free_.push_back(handle);
    --count_;
  }

  // The identity of a handle's present owner, so that a late finalizer cannot free a reused slot.
  uint64_t lease(int32_t handle) const {
    return (static_cast<uint64_t>(slots_[handle].generation) << 32) | static_cast<uint32_t>(handle);
  }
  void release_lease(uint64_t lease) {
    const auto handle = static_cast<int32_t>(lease & 0xffffffffu);
    if (slots_[handle].used && slots_[handle].generation == static_cast<uint32_t>(lease >> 32)) {
      release(handle);
    }
  }

  int64_t count() const { return count_; }
  // The bytes of the handles released since the last call.
  int64_t take_released_bytes() { return std::exchange(released_bytes_, 0); }

 private:
  struct Slot {
    Tensor tensor;
    int64_t owned_bytes = 0;
    uint32_t generation = 0;
    bool used = false;
  };
  std::vector<Slot> slots_;
  std::vector<int32_t> free_;
  int64_t count_ = 0;
  int64_t released_bytes_ = 0;
};

}  // namespace mixprec::binding
