// Copies that go on while threads run: cp.async, and the bulk copies of sm_90 in both directions.
// They land as late as can be and the last one first, or, with a seed, at any time in any order.
// Where one is going to land, shared memory is poisoned at once.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cuda/runtime/tensor_map.h"
#include "mbarrier.h"
#include "thread.h"

namespace mixprec::cuda::emulator {

class Machine;

// A bulk copy of one block: of a box of a tensor, or of neighbouring bytes (map is null).
struct BulkCopy {
  bool to_shared = true;
  SharedPlace place;
  const TensorMap* map = nullptr;
  int32_t corner[5] = {};
  uintptr_t address = 0;  // without a map
  uint32_t bytes = 0;
  SharedPlace mbarrier;            // of a copy to shared memory
  const Thread* issuer = nullptr;  // of a copy from it
  uint32_t group = 0;
  bool source_read = false;
  std::vector<uint8_t> data;  // once the source was read
};

class Copies {
 public:
  explicit Copies(Machine& machine) : machine_(machine) {}

  bool empty() const { return bulk_.empty() && threads_.empty(); }
  // Lets one land. False if none is under way.
  bool deliver_one();
  // Lets all of them land: the grid has ended.
  void deliver_all();
  void clear();

  // ---- Bodies of instructions ----

  void start_async(uint32_t address, const void* from, uint32_t bytes, uint32_t source_bytes);
  void commit_async() const;
  // Until at most `pending` of the thread's committed groups are under way.
  void wait_async(uint32_t pending);
  void wait_all_async();
  void arrive_after_async(uint32_t mbarrier);

  // The source or target of these copies has been checked by who calls them.
  void start_bulk(BulkCopy copy);
  void commit_bulk() const;
  // `reads`: until their sources were read only.
  void wait_bulk(uint32_t pending, bool reads);

  // ---- For the machine ----

  void end_block(const Block& block);
  // Why a block may not end now; null if it may.
  const char* reason_to_stay(const Block& block) const;

 private:
  void land(Thread& thread, size_t index);
  void land_before(Thread& thread, uint32_t group);
  void read_source(BulkCopy& copy) const;
  void land(BulkCopy& copy) const;
  void take_out(size_t index);

  Machine& machine_;
  std::vector<std::unique_ptr<BulkCopy>> bulk_;
  std::vector<Thread*> threads_;  // that have copies of their own under way, or had
};

// What ptx/tma.h calls: checks everything, then starts the copies.
void tensor_load(uint32_t address, const TensorMap& map, uint32_t mbarrier, int rank,
                 const int32_t (&corner)[5], uint32_t block_mask);
void tensor_store(const TensorMap& map, uint32_t address, int rank, const int32_t (&corner)[5]);
void bulk_load(uint32_t address, const void* from, uint32_t bytes, uint32_t mbarrier);
void bulk_store(void* to, uint32_t address, uint32_t bytes);

}  // namespace mixprec::cuda::emulator
