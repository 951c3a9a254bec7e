// The bodies of bulk copies: what can be wrong with one is found here, before it starts.
#include <algorithm>

#include "copies.h"
#include "machine.h"
#include "tensor_map.h"

namespace mixprec::cuda::emulator {
namespace {

constexpr uint8_t kReadable = kAllocated | kWritten;

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
    const auto* const data = reinterpret_cast<const void*>(found.address);
    if (found.bytes == 0 || has_state(data, found.bytes, state)) continue;
    std::string box = std::string(what) + " of the box at (";
    for (int dim = 0; dim < layout.rank; ++dim) {
      box.append(dim > 0 ? ", " : "").append(std::to_string(corner[dim]));
    }
    check_copied(box + ")", data, found.bytes, state);
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

void check_linear(const char* what, uintptr_t address, uint32_t bytes, uint8_t state) {
  if (bytes % 16 != 0 || address % 16 != 0) {
    fault(api::kMisalignedAddress, std::string(what) + " of " + std::to_string(bytes) +
                                       " bytes: size and addresses are multiples of 16, " +
                                       describe_address(reinterpret_cast<const void*>(address)));
  }
  check_copied(what, reinterpret_cast<const void*>(address), bytes, state);
}

}  // namespace

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
