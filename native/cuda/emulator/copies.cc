#include "copies.h"

#include <algorithm>
#include <cstring>

#include "core/dtype.h"
#include "machine.h"
#include "tensor_map.h"

namespace mixprec::cuda::emulator {
namespace {

constexpr uint8_t kReadable = kAllocated | kWritten;

void round_row_to_tf32(uint8_t* row, uint32_t bytes) {
  for (uint32_t at = 0; at < bytes; at += 4) {
    float value;
    std::memcpy(&value, row + at, 4);
    value = round_to_tf32(value);
    std::memcpy(row + at, &value, 4);
  }
}

// Moves rows of a box between a dense buffer and shared memory, where 16-byte units change places.
template <bool kToShared>
void swizzle_row(const BulkCopy& copy, const TensorLayout& layout, uint32_t row, uint8_t* dense) {
  const uint32_t row_bytes = layout.row_bytes();
  const uint32_t begin = kWindowBase + copy.place.offset + row * row_bytes;
  const SharedMemory& shared = copy.place.block->shared;
  for (uint32_t at = 0; at < row_bytes; at += 16) {
    uint8_t* const unit = shared.at(swizzled(begin + at, layout.swizzle) - kWindowBase);
    if (kToShared) {
      std::memcpy(unit, dense + at, 16);
    } else {
      std::memcpy(dense + at, unit, 16);
    }
  }
}

void check_global(const char* what, uintptr_t address, uint32_t bytes, uint8_t state,
                  const int32_t (&corner)[5], int rank) {
  const auto* const data = reinterpret_cast<const void*>(address);
  if (bytes == 0 || has_state(data, bytes, state)) return;
  std::string text = what;
  if (rank > 0) {
    text += " of the box at (";
    for (int dim = 0; dim < rank; ++dim) {
      text.append(dim > 0 ? ", " : "").append(std::to_string(corner[dim]));
    }
    text += ")";
  }
  const char* const problem = has_state(data, bytes, kAllocated)
                                  ? " reads memory that nobody wrote: "
                                  : " touches memory that is not allocated: ";
  fault(api::kIllegalAddress,
        text + problem + std::to_string(bytes) + " bytes, " + describe_address(data));
}

// A copy without a map has no box.
constexpr int32_t kNoCorner[5] = {};

const TensorLayout& checked_layout(const char* what, const TensorMap& map, int rank) {
  const TensorLayout* const layout = layout_of(map);
  if (layout == nullptr) {
    fault(api::kLaunchFailure, std::string(what) + ": the tensor map was not encoded");
  }
  if (reinterpret_cast<uintptr_t>(&map) % 64 != 0) {
    fault(api::kMisalignedAddress, std::string(what) + ": the tensor map is misaligned");
  }
  if (layout->rank != rank) {
    fault(api::kLaunchFailure, std::string(what) + " with " + std::to_string(rank) +
                                   " coordinates of a tensor map of " +
                                   std::to_string(layout->rank) + " dimensions");
  }
  return *layout;
}

void check_rows(const char* what, const TensorLayout& layout, const int32_t (&corner)[5],
                uint8_t state) {
  for (uint32_t row = 0; row < layout.rows(); ++row) {
    const BoxRow found = box_row(layout, corner, row);
    check_global(what, found.address, found.bytes, state, corner, layout.rank);
  }
}

void check_fenced(const char* what, const SharedPlace& place, uint32_t bytes) {
  const Block& block = *place.block;
  const auto fences_of = [&](uint32_t thread) { return block.threads[thread].proxy_fences; };
  if (block.shared.unfenced(place.offset, bytes, fences_of)) {
    fault(api::kLaunchFailure, std::string(what) + " of " + describe(place) +
                                   ", where a thread stored without fence_proxy_async after it");
  }
}

}  // namespace

// ---- cp.async ----

void Copies::start_async(uint32_t address, const void* from, uint32_t bytes,
                         uint32_t source_bytes) {
  const SharedPlace place = shared_place(address, bytes, bytes, "cp.async");
  Thread& thread = machine_.thread();
  if (place.block != thread.block) fault(api::kIllegalAddress, "cp.async into another block");
  if (source_bytes > bytes) fault(api::kLaunchFailure, "cp.async of more bytes than it writes");
  if (reinterpret_cast<uintptr_t>(from) % bytes != 0) {
    fault(api::kMisalignedAddress,
          "misaligned cp.async of " + std::to_string(bytes) + " bytes, " + describe_address(from));
  }
  check_global("cp.async", reinterpret_cast<uintptr_t>(from), source_bytes, kReadable, kNoCorner,
               0);
  place.block->shared.begin_copy(place.offset, bytes);
  AsyncCopy copy;
  copy.from = from;
  copy.offset = place.offset;
  copy.group = thread.copy_groups;
  copy.bytes = static_cast<uint8_t>(bytes);
  copy.source_bytes = static_cast<uint8_t>(source_bytes);
  thread.copies.push_back(copy);
  if (!thread.listed) {
    thread.listed = true;
    threads_.push_back(&thread);
  }
}

void Copies::commit_async() const { ++machine_.thread().copy_groups; }

void Copies::land(Thread& thread, size_t index) {
  const AsyncCopy copy = thread.copies[index];
  thread.copies.erase(thread.copies.begin() + static_cast<std::ptrdiff_t>(index));
  if (copy.arrival) return arrive_after_copies({thread.block, copy.offset});
  SharedMemory& shared = thread.block->shared;
  std::memcpy(shared.at(copy.offset), copy.from, copy.source_bytes);
  std::memset(shared.at(copy.offset) + copy.source_bytes, 0,
              static_cast<size_t>(copy.bytes - copy.source_bytes));
  shared.end_copy(copy.offset, copy.bytes);
}

void Copies::land_before(Thread& thread, uint32_t group) {
  // The last one first, so that a copy is seen to overwrite what an earlier one brought.
  for (size_t index = thread.copies.size(); index-- > 0;) {
    const AsyncCopy& copy = thread.copies[index];
    if (copy.group < group && !copy.arrival) land(thread, index);
  }
  // Arrivals that have no copy before them any more.
  while (!thread.copies.empty() && thread.copies.front().arrival) land(thread, 0);
  machine_.stop_if_given_up();
}

void Copies::wait_async(uint32_t pending) {
  Thread& thread = machine_.thread();
  if (pending < thread.copy_groups) land_before(thread, thread.copy_groups - pending);
}

void Copies::wait_all_async() { land_before(machine_.thread(), ~0u); }

void Copies::arrive_after_async(uint32_t mbarrier) {
  const SharedPlace place = shared_place(mbarrier, 8, 8, "cp.async.mbarrier.arrive");
  Thread& thread = machine_.thread();
  if (place.block != thread.block) fault(api::kIllegalAddress, "an mbarrier of another block");
  if (thread.copies.empty()) {
    arrive_after_copies(place);
    return machine_.stop_if_given_up();
  }
  AsyncCopy copy;
  copy.offset = place.offset;
  copy.group = ~0u;
  copy.arrival = true;
  thread.copies.push_back(copy);
}

void Copies::end_block(const Block& block) {
  // What threads left behind when they ended has stayed under way, so that nobody could rely on it.
  const auto gone = [&](Thread* thread) {
    if (thread->block != &block) return false;
    thread->copies.clear();
    thread->listed = false;
    return true;
  };
  threads_.erase(std::remove_if(threads_.begin(), threads_.end(), gone), threads_.end());
}

// ---- Bulk copies ----

void Copies::start_bulk(BulkCopy copy) {
  Thread& thread = machine_.thread();
  if (copy.to_shared) {
    copy.place.block->shared.begin_copy(copy.place.offset, copy.bytes);
  } else {
    copy.issuer = &thread;
    copy.group = thread.bulk_groups;
  }
  bulk_.push_back(std::make_unique<BulkCopy>(std::move(copy)));
}

void Copies::commit_bulk() const { ++machine_.thread().bulk_groups; }

void Copies::read_source(BulkCopy& copy) const {
  if (copy.source_read) return;
  copy.source_read = true;
  copy.data.assign(copy.bytes, 0);
  const TensorLayout* const layout = copy.map == nullptr ? nullptr : layout_of(*copy.map);
  if (layout == nullptr) {
    std::memcpy(copy.data.data(),
                copy.to_shared ? reinterpret_cast<const void*>(copy.address) : copy.place.data(),
                copy.bytes);
    return;
  }
  for (uint32_t row = 0; row < layout->rows(); ++row) {
    uint8_t* const dense = copy.data.data() + row * layout->row_bytes();
    if (!copy.to_shared) {
      swizzle_row<false>(copy, *layout, row, dense);
      continue;
    }
    const BoxRow found = box_row(*layout, copy.corner, row);
    std::memcpy(dense + found.skipped, reinterpret_cast<const void*>(found.address), found.bytes);
    if (layout->as_tf32) round_row_to_tf32(dense, layout->row_bytes());
  }
}

void Copies::land(BulkCopy& copy) const {
  read_source(copy);
  const TensorLayout* const layout = copy.map == nullptr ? nullptr : layout_of(*copy.map);
  if (layout == nullptr) {
    void* const to = copy.to_shared ? copy.place.data() : reinterpret_cast<void*>(copy.address);
    std::memcpy(to, copy.data.data(), copy.bytes);
    if (!copy.to_shared) set_shadow(to, copy.bytes, kReadable);
  } else {
    for (uint32_t row = 0; row < layout->rows(); ++row) {
      uint8_t* const dense = copy.data.data() + row * layout->row_bytes();
      if (copy.to_shared) {
        swizzle_row<true>(copy, *layout, row, dense);
        continue;
      }
      const BoxRow found = box_row(*layout, copy.corner, row);
      auto* const to = reinterpret_cast<void*>(found.address);
      std::memcpy(to, dense + found.skipped, found.bytes);
      if (found.bytes > 0) set_shadow(to, found.bytes, kReadable);
    }
  }
  if (!copy.to_shared) return;
  copy.place.block->shared.end_copy(copy.place.offset, copy.bytes);
  complete_bytes(copy.mbarrier, copy.bytes);
}

void Copies::take_out(size_t index) {
  const std::unique_ptr<BulkCopy> copy = std::move(bulk_[index]);
  bulk_.erase(bulk_.begin() + static_cast<std::ptrdiff_t>(index));
  land(*copy);
}

void Copies::wait_bulk(uint32_t pending, bool reads) {
  const Thread& thread = machine_.thread();
  if (pending >= thread.bulk_groups) return;
  const uint32_t before = thread.bulk_groups - pending;
  for (size_t index = bulk_.size(); index-- > 0;) {
    BulkCopy& copy = *bulk_[index];
    if (copy.issuer != &thread || copy.group >= before) continue;
    if (reads) {
      read_source(copy);
    } else {
      take_out(index);
    }
  }
}

bool Copies::deliver_one() {
  const bool in_order = !machine_.is_shuffled();
  if (!bulk_.empty()) {
    const size_t index = in_order ? bulk_.size() - 1 : machine_.random() % bulk_.size();
    // A store may read its source long before it writes.
    BulkCopy& copy = *bulk_[index];
    if (!copy.to_shared && !copy.source_read && !in_order && machine_.random() % 2 == 0) {
      read_source(copy);
    } else {
      take_out(index);
    }
    return true;
  }
  while (!threads_.empty()) {
    const size_t index = in_order ? threads_.size() - 1 : machine_.random() % threads_.size();
    Thread& thread = *threads_[index];
    if (!thread.copies.empty()) {
      const auto arrival = std::find_if(thread.copies.begin(), thread.copies.end(),
                                        [](const AsyncCopy& copy) { return copy.arrival; });
      const auto choices = static_cast<size_t>(arrival - thread.copies.begin());
      land(thread, choices == 0 ? 0 : in_order ? choices - 1 : machine_.random() % choices);
      return true;
    }
    thread.listed = false;
    threads_[index] = threads_.back();
    threads_.pop_back();
  }
  return false;
}

void Copies::deliver_all() {
  while (deliver_one()) {
  }
}

void Copies::clear() {
  bulk_.clear();
  threads_.clear();
}

const char* Copies::reason_to_stay(const Block& block) const {
  for (const auto& copy : bulk_) {
    if (copy->place.block != &block) continue;
    if (copy->to_shared) return "a bulk copy to its shared memory was under way";
    if (!copy->source_read) {
      return "a bulk store had not read its shared memory: bulk_wait_group_read is missing";
    }
  }
  return nullptr;
}

// ---- What instructions call ----

void tensor_load(uint32_t address, const TensorMap& map, uint32_t mbarrier, int rank,
                 const int32_t (&corner)[5], uint32_t block_mask) {
  constexpr const char* kWhat = "TMA load";
  const TensorLayout& layout = checked_layout(kWhat, map, rank);
  Block& block = current_block();
  SharedPlace place = shared_place(address, layout.box_bytes(), 128, kWhat);
  SharedPlace barrier = shared_place(mbarrier, 8, 8, kWhat);
  check_rows(kWhat, layout, corner, kReadable);
  BulkCopy copy;
  copy.map = &map;
  std::copy(std::begin(corner), std::end(corner), copy.corner);
  copy.bytes = layout.box_bytes();
  const std::vector<Block*>& blocks = block.cluster->blocks;
  if (block_mask == 0) {
    copy.place = place;
    copy.mbarrier = barrier;
    check_completion(barrier);
    return machine().copies().start_bulk(copy);
  }
  if (block_mask >> blocks.size() != 0) {
    fault(api::kLaunchFailure, "TMA multicast to blocks that the cluster does not have");
  }
  for (uint32_t rank_to = 0; rank_to < blocks.size(); ++rank_to) {
    if ((block_mask >> rank_to & 1) == 0) continue;
    if (blocks[rank_to]->live == 0)
      fault(api::kLaunchFailure, "TMA multicast to a block that ended");
    copy.place = {blocks[rank_to], place.offset};
    copy.mbarrier = {blocks[rank_to], barrier.offset};
    check_completion(copy.mbarrier);
    machine().copies().start_bulk(copy);
  }
}

void tensor_store(const TensorMap& map, uint32_t address, int rank, const int32_t (&corner)[5]) {
  constexpr const char* kWhat = "TMA store";
  const TensorLayout& layout = checked_layout(kWhat, map, rank);
  BulkCopy copy;
  copy.to_shared = false;
  copy.map = &map;
  copy.bytes = layout.box_bytes();
  copy.place = shared_source(address, copy.bytes, 128, kWhat);
  std::copy(std::begin(corner), std::end(corner), copy.corner);
  check_rows(kWhat, layout, corner, kAllocated);
  check_fenced(kWhat, copy.place, copy.bytes);
  machine().copies().start_bulk(std::move(copy));
}

namespace {

void check_linear(const char* what, uintptr_t address, uint32_t bytes, uint8_t state) {
  if (bytes % 16 != 0 || address % 16 != 0) {
    fault(api::kMisalignedAddress, std::string(what) + " of " + std::to_string(bytes) +
                                       " bytes: size and addresses are multiples of 16, " +
                                       describe_address(reinterpret_cast<const void*>(address)));
  }
  check_global(what, address, bytes, state, kNoCorner, 0);
}

}  // namespace

void bulk_load(uint32_t address, const void* from, uint32_t bytes, uint32_t mbarrier) {
  constexpr const char* kWhat = "bulk copy";
  BulkCopy copy;
  copy.place = shared_place(address, bytes, 16, kWhat);
  copy.mbarrier = shared_place(mbarrier, 8, 8, kWhat);
  copy.address = reinterpret_cast<uintptr_t>(from);
  copy.bytes = bytes;
  check_linear(kWhat, copy.address, bytes, kReadable);
  check_completion(copy.mbarrier);
  machine().copies().start_bulk(std::move(copy));
}

void bulk_store(void* to, uint32_t address, uint32_t bytes) {
  constexpr const char* kWhat = "bulk store";
  BulkCopy copy;
  copy.to_shared = false;
  copy.place = shared_source(address, bytes, 16, kWhat);
  copy.address = reinterpret_cast<uintptr_t>(to);
  copy.bytes = bytes;
  check_linear(kWhat, copy.address, bytes, kAllocated);
  check_fenced(kWhat, copy.place, bytes);
  machine().copies().start_bulk(std::move(copy));
}

}  // namespace mixprec::cuda::emulator
