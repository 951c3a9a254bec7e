// A radix sort of eight bits a pass, least first: each tile counts its digits, a scan over all
// tiles and digits says where each goes, and the tiles put their keys there. Every step keeps the
// order of equal digits, and none needs an atomic.
#include "key_order.h"

#include <bit>

#include "cuda/ptx/barrier.h"
#include "cuda/ptx/bits.h"
#include "cuda/ptx/memory.h"
#include "cuda/ptx/warp.h"
#include "cuda/runtime/launch.h"

namespace mixprec::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpLanes;
constexpr int kItems = 8;  // a thread
constexpr int kTile = kThreads * kItems;
constexpr int kDigitBits = 8;
constexpr int kDigits = 1 << kDigitBits;
constexpr int kScanThreads = 1024;
constexpr int kScanItems = 8;

static_assert(kDigits == kThreads, "a thread looks after one digit");

MIXPREC_DEVICE int digit_of(int64_t key, int shift) {
  return static_cast<int>(key >> shift) & (kDigits - 1);
}

// Where the items of a thread are: a warp has neighbours, item after item.
MIXPREC_DEVICE int64_t item_at(int item) {
  const int thread = static_cast<int>(threadIdx.x);
  return int64_t{blockIdx.x} * kTile + thread / kWarpLanes * (kItems * kWarpLanes) +
         item * kWarpLanes + thread % kWarpLanes;
}

// The keys of a tile, how many of each digit each warp has, and how many equal digits of its warp
// come before each.
MIXPREC_DEVICE void rank_tile(const int64_t* keys, int64_t count, int shift,
                              int32_t (&counts)[kWarps][kDigits], int64_t (&key)[kItems],
                              int32_t (&rank)[kItems]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
  const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
  for (int w = 0; w < kWarps; ++w) counts[w][threadIdx.x] = 0;
  ptx::sync_threads();
  MIXPREC_UNROLL
  for (int item = 0; item < kItems; ++item) {
    const int64_t at = item_at(item);
    const bool valid = at < count;
    key[item] = valid ? ptx::ld(keys + at) : 0;
    const int digit = digit_of(key[item], shift);
    uint32_t equal = ptx::ballot(valid);
    MIXPREC_UNROLL
    for (int bit = 0; bit < kDigitBits; ++bit) {
      const bool set = (digit >> bit & 1) != 0;
      const uint32_t others = ptx::ballot(set);
      equal &= set ? others : ~others;
    }
    const int before = ptx::count_bits(equal & ((1u << lane) - 1));
    const int32_t base = counts[warp][digit];
    ptx::sync_warp();
    if (valid && before == 0) counts[warp][digit] = base + ptx::count_bits(equal);
    ptx::sync_warp();
    rank[item] = base + before;
  }
  ptx::sync_threads();
}

// -> counts [digits, tiles].
__global__ void __launch_bounds__(kThreads)
    count_digits(const int64_t* keys, int64_t count, int shift, int32_t* out) {
  MIXPREC_SHARED(counts, int32_t[kWarps][kDigits]);
  int64_t key[kItems];
  int32_t rank[kItems];
  rank_tile(keys, count, shift, counts, key, rank);
  int32_t total = 0;
  for (int w = 0; w < kWarps; ++w) total += counts[w][threadIdx.x];
  ptx::st(out + int64_t{threadIdx.x} * gridDim.x + blockIdx.x, total);
}

// Replaces each count by the sum of those before it. One block.
__global__ void __launch_bounds__(kScanThreads) scan_counts(int32_t* counts, int64_t length) {
  MIXPREC_SHARED(warp_totals, int32_t[kScanThreads / kWarpLanes]);
  const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
  const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
  int32_t carried = 0;
  for (int64_t tile = 0; tile < length; tile += kScanThreads * kScanItems) {
    const int64_t first = tile + int64_t{threadIdx.x} * kScanItems;
    int32_t own[kScanItems];
    int32_t sum = 0;
    MIXPREC_UNROLL
    for (int i = 0; i < kScanItems; ++i) {
      own[i] = first + i < length ? ptx::ld(counts + first + i) : 0;
      sum += own[i];
    }
    int32_t through = sum;  // of the warp's threads up to this one
    for (int distance = 1; distance < kWarpLanes; distance *= 2) {
      const int32_t other = ptx::shuffle_up(through, distance);
      if (lane >= distance) through += other;
    }
    if (lane == kWarpLanes - 1) warp_totals[warp] = through;
    ptx::sync_threads();
    int32_t before = carried + through - sum;
    for (int w = 0; w < kScanThreads / kWarpLanes; ++w) {
      if (w < warp) before += warp_totals[w];
      carried += warp_totals[w];
    }
    MIXPREC_UNROLL
    for (int i = 0; i < kScanItems; ++i) {
      if (first + i < length) ptx::st(counts + first + i, before);
      before += own[i];
    }
    ptx::sync_threads();
  }
}

struct PassArgs {
  const int64_t* keys;
  const int32_t* positions;  // null: in the order of the list
  int64_t count;
  int shift;
  const int32_t* starts;
  int64_t* sorted_keys;
  int32_t* sorted_positions;
};

__global__ void __launch_bounds__(kThreads) place_keys(MIXPREC_GRID_CONSTANT(PassArgs) args) {
  MIXPREC_SHARED(places, int32_t[kWarps][kDigits]);
  int64_t key[kItems];
  int32_t rank[kItems];
  rank_tile(args.keys, args.count, args.shift, places, key, rank);
  int32_t next = ptx::ld(args.starts + int64_t{threadIdx.x} * gridDim.x + blockIdx.x);
  for (int w = 0; w < kWarps; ++w) {
    const int32_t own = places[w][threadIdx.x];
    places[w][threadIdx.x] = next;
    next += own;
  }
  ptx::sync_threads();
  const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
  MIXPREC_UNROLL
  for (int item = 0; item < kItems; ++item) {
    const int64_t at = item_at(item);
    if (at >= args.count) continue;
    const int32_t to = places[warp][digit_of(key[item], args.shift)] + rank[item];
    ptx::st(args.sorted_keys + to, key[item]);
    const int32_t position =
        args.positions == nullptr ? static_cast<int32_t>(at) : ptx::ld(args.positions + at);
    ptx::st(args.sorted_positions + to, position);
  }
}

}  // namespace

KeyOrder::KeyOrder(CudaBackend& backend, int64_t count)
    : backend_(backend),
      count_(count),
      keys_{{backend, static_cast<size_t>(count) * sizeof(int64_t)},
            {backend, static_cast<size_t>(count) * sizeof(int64_t)}},
      positions_{{backend, static_cast<size_t>(count) * sizeof(int32_t)},
                 {backend, static_cast<size_t>(count) * sizeof(int32_t)}} {
  check(count < int64_t{1} << 31, "more than 2^31 indices at once");
}

void KeyOrder::sort(int64_t largest) {
  if (count_ == 0) return;
  const int64_t tiles = (count_ + kTile - 1) / kTile;
  const Scratch counts(backend_, static_cast<size_t>(kDigits * tiles) * sizeof(int32_t));
  const int bits = std::bit_width(static_cast<uint64_t>(largest));
  const LaunchConfig config = backend_.grid(static_cast<uint32_t>(tiles), kThreads);
  // At least one pass, which fills in the positions.
  for (int shift = 0; shift == 0 || shift < bits; shift += kDigitBits) {
    const int64_t* from = keys_[current_].as<int64_t>();
    launch<count_digits>(config, from, count_, shift, counts.as<int32_t>());
    launch<scan_counts>(backend_.grid(1, kScanThreads), counts.as<int32_t>(), kDigits * tiles);
    PassArgs pass{from,
                  shift == 0 ? nullptr : positions(),
                  count_,
                  shift,
                  counts.as<int32_t>(),
                  keys_[1 - current_].as<int64_t>(),
                  positions_[1 - current_].as<int32_t>()};
    launch<place_keys>(config, pass);
    current_ = 1 - current_;
  }
}

}  // namespace mixprec::cuda
