// Sorting along a dimension, all of it or the first k. Elements become unsigned keys that order as
// they do, with NaN greatest and -0 equal to 0, and with their positions entries of which no two
// are equal: so every sort is stable. A block sorts a tile of a row in shared memory; longer rows
// are merged from tiles, each entry finding its place by a search in the other run. Of the first k
// only those of each tile are looked at again.

#include <algorithm>
#include <bit>
#include <type_traits>

#include "core/along_dim.h"
#include "cuda/tensors.h"
#include "elementwise.h"
#include "reduce_block.h"

namespace mixprec::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 1024;

MIXPREC_DEVICE uint32_t ordered_key(float value) {
  if (value != value) return ~uint32_t{0};
  const uint32_t bits = value == 0.0f ? 0u : float_bits(value);
  return (bits >> 31) != 0 ? ~bits : bits | (uint32_t{1} << 31);
}
MIXPREC_DEVICE uint64_t ordered_key(double value) {
  if (value != value) return ~uint64_t{0};
  uint64_t bits = 0;
  if (value != 0.0) __builtin_memcpy(&bits, &value, 8);
  return (bits >> 63) != 0 ? ~bits : bits | (uint64_t{1} << 63);
}

// A 32-bit key and the position in one word.
struct NarrowEntry {
  uint64_t word;

  static constexpr int64_t kMostElements = (int64_t{1} << 32) - 1;
  // Greater than all others.
  static MIXPREC_DEVICE NarrowEntry last() { return {~uint64_t{0}}; }
  static MIXPREC_DEVICE NarrowEntry of(const void* x, DType dtype, int64_t at, int64_t position,
                                       bool descending) {
    const uint32_t key =
        is_floating(dtype)
            ? ordered_key(load_element<float>(x, dtype, at))
            : static_cast<uint32_t>(load_element<int64_t>(x, dtype, at)) ^ (uint32_t{1} << 31);
    return {(uint64_t{descending ? ~key : key} << 32) | static_cast<uint64_t>(position)};
  }
  MIXPREC_DEVICE int64_t position() const { return static_cast<int64_t>(word & 0xffffffffu); }
  MIXPREC_DEVICE bool before(const NarrowEntry& other) const { return word < other.word; }
};

struct alignas(16) WideEntry {
  uint64_t key;
  int64_t place;

  static constexpr int64_t kMostElements = static_cast<int64_t>(~uint64_t{0} >> 1);
  static MIXPREC_DEVICE WideEntry last() {
    return {~uint64_t{0}, static_cast<int64_t>(~uint64_t{0} >> 1)};
  }
  static MIXPREC_DEVICE WideEntry of(const void* x, DType dtype, int64_t at, int64_t position,
                                     bool descending) {
    const uint64_t key =
        is_floating(dtype)
            ? ordered_key(load_element<double>(x, dtype, at))
            : static_cast<uint64_t>(load_element<int64_t>(x, dtype, at)) ^ (uint64_t{1} << 63);
    return {descending ? ~key : key, position};
  }
  MIXPREC_DEVICE int64_t position() const { return place; }
  MIXPREC_DEVICE bool before(const WideEntry& other) const {
    return key != other.key ? key < other.key : place < other.place;
  }
};

struct SortArgs {
  const void* x = nullptr;  // dense, [outer, extent, inner]
  DType dtype = DType::kFloat32;
  int64_t rows = 0;  // outer * inner
  int64_t extent = 0;
  int64_t inner = 1;
  bool descending = false;
  // Entries of rows of `length`, from one place to the other; the first are made from x.
  const void* from = nullptr;
  void* to = nullptr;
  int64_t length = 0;
  int64_t tiles = 0;  // a row
  int width = 0;      // entries that a block sorts, a power of two
  int64_t kept =
      0;  // the first of each tile, which are written; a tile that has fewer is filled up
  int64_t to_length = 0;
  int64_t run = 0;  // of sorted entries that are merged
  void* values = nullptr;
  int64_t* indices = nullptr;
  int64_t k = 0;
};

// Where element `position` of a row is.
MIXPREC_DEVICE int64_t element_at(const SortArgs& args, int64_t row, int64_t extent,
                                  int64_t position) {
  return (row / args.inner * extent + position) * args.inner + row % args.inner;
}

// A bitonic sort of a tile.
template <class Entry>
__global__ void __launch_bounds__(kThreads, 3) sort_tiles(MIXPREC_GRID_CONSTANT(SortArgs) args) {
  MIXPREC_SHARED(entries, Entry[kTile]);
  const int threads = static_cast<int>(blockDim.x);
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t row = blockIdx.x / args.tiles;
  const int64_t first = blockIdx.x % args.tiles * kTile;
  for (int i = thread; i < args.width; i += threads) {
    const int64_t at = first + i;
    if (at >= args.length) {
      entries[i] = Entry::last();
    } else if (args.from != nullptr) {
      entries[i] = ptx::ld(static_cast<const Entry*>(args.from) + row * args.length + at);
    } else {
      entries[i] = Entry::of(args.x, args.dtype, element_at(args, row, args.extent, at), at,
                             args.descending);
    }
  }
  ptx::sync_threads();
  for (int size = 2; size <= args.width; size *= 2) {
    for (int distance = size / 2; distance > 0; distance /= 2) {
      for (int pair = thread; pair < args.width / 2; pair += threads) {
        const int low = (pair & ~(distance - 1)) * 2 + (pair & (distance - 1));
        const int high = low + distance;
        const bool upwards = (low & size) == 0;
        const Entry a = entries[low];
        const Entry b = entries[high];
        if (b.before(a) == upwards) {
          entries[low] = b;
          entries[high] = a;
        }
      }
      ptx::sync_threads();
    }
  }
  const int64_t begin = blockIdx.x % args.tiles * args.kept;
  Entry* const to = static_cast<Entry*>(args.to) + row * args.to_length;
  for (int i = thread; i < args.kept; i += threads) {
    if (begin + i < args.to_length) ptx::st(to + begin + i, entries[i]);
  }
}

// Merges pairs of runs: the place of an entry is its own and the number of those before it in the
// other run.
template <class Entry>
__global__ void __launch_bounds__(kThreads, 3) merge_runs(MIXPREC_GRID_CONSTANT(SortArgs) args) {
  const int64_t count = args.rows * args.length;
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x; at < count; at += step) {
    const int64_t row = at / args.length;
    const int64_t position = at % args.length;
    const Entry* const from = static_cast<const Entry*>(args.from) + row * args.length;
    const Entry own = ptx::ld(from + position);
    const int64_t pair = position & ~(2 * args.run - 1);
    const bool is_second = (position & args.run) != 0;
    int64_t low = is_second ? pair : pair + args.run;
    low = low < args.length ? low : args.length;
    const int64_t other = low;
    int64_t high = low + args.run < args.length ? low + args.run : args.length;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (ptx::ld(from + middle).before(own)) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    const int64_t in_run = position & (args.run - 1);
    ptx::st(static_cast<Entry*>(args.to) + row * args.length + pair + in_run + (low - other), own);
  }
}

// The first k of each row, as elements and positions.
template <class Entry>
__global__ void __launch_bounds__(kThreads, 3) write_sorted(MIXPREC_GRID_CONSTANT(SortArgs) args) {
  const int64_t count = args.rows * args.k;
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x; at < count; at += step) {
    // Of neighbours in the output, not in a row.
    const int64_t outer = at / (args.k * args.inner);
    const int64_t i = at / args.inner % args.k;
    const int64_t row = outer * args.inner + at % args.inner;
    const Entry entry = ptx::ld(static_cast<const Entry*>(args.from) + row * args.length + i);
    const int64_t source = element_at(args, row, args.extent, entry.position());
    const auto move = [&](auto unit) {
      using Unit = decltype(unit);
      ptx::st(static_cast<Unit*>(args.values) + at,
              ptx::ld(static_cast<const Unit*>(args.x) + source));
    };
    switch (item_size(args.dtype)) {
      case 1:
        move(uint8_t{});
        break;
      case 2:
        move(uint16_t{});
        break;
      case 4:
        move(uint32_t{});
        break;
      default:
        move(uint64_t{});
    }
    ptx::st(args.indices + at, entry.position());
  }
}

template <class Entry>
void run_tiles(CudaBackend& backend, const SortArgs& args) {
  const int threads = std::clamp(args.width / 2, kWarpLanes, kThreads);
  launch<sort_tiles<Entry>>(backend.grid(static_cast<uint32_t>(args.rows * args.tiles), threads),
                            args);
}

template <class Entry>
void sort_entries(CudaBackend& backend, SortArgs args) {
  check(args.extent <= Entry::kMostElements, "a sort of more elements than can be numbered");
  const auto tiles_of = [&](int64_t length) {
    args.length = length;
    args.tiles = (length + kTile - 1) / kTile;
    args.width = static_cast<int>(
        std::bit_ceil(static_cast<uint64_t>(std::clamp<int64_t>(length, 2, kTile))));
  };
  tiles_of(args.extent);
  // Where only few are wanted, those of each tile are sorted again until one tile has them all;
  // otherwise runs of a tile each are merged.
  const bool few = args.k <= kTile / 2;
  args.kept = few ? args.k : kTile;
  args.to_length = few ? args.tiles * args.kept : args.extent;
  const size_t bytes = static_cast<size_t>(args.rows * args.to_length) * sizeof(Entry);
  const Scratch first(backend, bytes);
  const Scratch second(backend, args.tiles > 1 ? bytes : 0);
  void* buffers[2] = {first.data(), second.data()};
  args.to = buffers[0];
  run_tiles<Entry>(backend, args);
  const auto swap = [&] {
    args.from = args.to;
    args.to = args.from == buffers[0] ? buffers[1] : buffers[0];
  };
  swap();
  if (few) {
    while (args.tiles > 1) {
      tiles_of(args.to_length);
      args.to_length = args.tiles * args.kept;
      run_tiles<Entry>(backend, args);
      swap();
    }
    args.length = args.to_length;
  } else {
    const LaunchConfig config = backend.config(args.rows * args.length, kThreads);
    for (args.run = kTile; args.run < args.length; args.run *= 2) {
      launch<merge_runs<Entry>>(config, args);
      swap();
    }
  }
  launch<write_sorted<Entry>>(backend.config(args.rows * args.k, kThreads), args);
}

void sort_along(CudaBackend& backend, const OpCall& call, int32_t dim, int64_t k, bool descending) {
  const Tensor x = contiguous(backend, call.in(0));
  const AlongDim along(x, dim);
  check(k >= 0 && k <= along.extent, "a sort of more elements than there are");
  check(call.out(0).dtype == x.dtype && call.out(1).dtype == DType::kInt64,
        "a sort gives values and int64 indices");
  if (call.out(0).numel() == 0) return;
  SortArgs args;
  args.x = x.data;
  args.dtype = x.dtype;
  args.rows = along.outer * along.inner;
  args.extent = along.extent;
  args.inner = along.inner;
  args.descending = descending;
  args.values = call.out(0).data;
  args.indices = call.out(1).as<int64_t>();
  args.k = k;
  if (item_size(x.dtype) == 8 || along.extent > NarrowEntry::kMostElements) {
    sort_entries<WideEntry>(backend, args);
  } else {
    sort_entries<NarrowEntry>(backend, args);
  }
}

}  // namespace

void CudaBackend::sort(const OpCall& call) {
  const auto dim = static_cast<int32_t>(call.int_attr(0));
  sort_along(*this, call, dim, AlongDim(call.in(0), dim).extent, call.flag(1));
}

void CudaBackend::topk(const OpCall& call) {
  sort_along(*this, call, static_cast<int32_t>(call.int_attr(1)), call.int_attr(0), call.flag(2));
}

}  // namespace mixprec::cuda
