// Sorting along a dimension, all of it or the first k. Elements become unsigned keys that order as
// they do, with NaN greatest and -0 equal to 0; equal ones keep the order of their positions.

#include <algorithm>
#include <bit>

#include "along_dim.h"
#include "cpu_backend.h"
#include "row_io.h"
#include "strided.h"
#include "thread_pool.h"

namespace mixprec::cpu {
namespace {

uint32_t ordered_key(float value) {
  if (value != value) return ~uint32_t{0};
  const uint32_t bits = value == 0.0f ? 0u : std::bit_cast<uint32_t>(value);
  return (bits >> 31) != 0 ? ~bits : bits | (uint32_t{1} << 31);
}
uint64_t ordered_key(double value) {
  if (value != value) return ~uint64_t{0};
  const uint64_t bits = value == 0.0 ? 0u : std::bit_cast<uint64_t>(value);
  return (bits >> 63) != 0 ? ~bits : bits | (uint64_t{1} << 63);
}
uint64_t ordered_key(int64_t value) { return static_cast<uint64_t>(value) ^ (uint64_t{1} << 63); }

// A 32-bit key and the position in one word.
struct NarrowEntry {
  uint64_t word;

  NarrowEntry() = default;
  NarrowEntry(uint32_t key, int64_t position)
      : word((static_cast<uint64_t>(key) << 32) | static_cast<uint64_t>(position)) {}
  int64_t position() const { return static_cast<int64_t>(word & 0xffffffffu); }
  bool operator<(const NarrowEntry& other) const { return word < other.word; }
};
constexpr int64_t kMaxNarrowLength = int64_t{1} << 32;

struct WideEntry {
  uint64_t key;
  int64_t at;

  WideEntry() = default;
  WideEntry(uint64_t key_bits, int64_t position) : key(key_bits), at(position) {}
  int64_t position() const { return at; }
  bool operator<(const WideEntry& other) const {
    return key != other.key ? key < other.key : at < other.at;
  }
};

// Sorts by the key alone, byte by byte, which keeps positions in the order they come in.
void radix_sort(NarrowEntry* entries, NarrowEntry* spare, int64_t n) {
  constexpr int kBytes = 4;
  int64_t counts[kBytes][256] = {};
  for (int64_t i = 0; i < n; ++i) {
    for (int byte = 0; byte < kBytes; ++byte) {
      ++counts[byte][(entries[i].word >> (32 + 8 * byte)) & 0xff];
    }
  }
  NarrowEntry* from = entries;
  NarrowEntry* to = spare;
  for (int byte = 0; byte < kBytes; ++byte) {
    int64_t* count = counts[byte];
    if (std::find(count, count + 256, n) != count + 256) continue;  // the same in all
    int64_t begin = 0;
    for (int digit = 0; digit < 256; ++digit) {
      const int64_t own = count[digit];
      count[digit] = begin;
      begin += own;
    }
    for (int64_t i = 0; i < n; ++i) {
      to[count[(from[i].word >> (32 + 8 * byte)) & 0xff]++] = from[i];
    }
    std::swap(from, to);
  }
  if (from != entries) std::copy_n(from, n, entries);
}

void sort_all(NarrowEntry* entries, int64_t n) {
  constexpr int64_t kRadixLength = 512;
  if (n < kRadixLength) {
    std::sort(entries, entries + n);
  } else {
    radix_sort(entries, row_scratch<NarrowEntry>(1, n), n);
  }
}
void sort_all(WideEntry* entries, int64_t n) { std::sort(entries, entries + n); }

// Puts the k least entries in front, in order.
template <class Entry>
void sort_first(Entry* entries, int64_t n, int64_t k) {
  if (k == n) {
    sort_all(entries, n);
  } else if (k <= n / 16) {
    std::partial_sort(entries, entries + k, entries + n);
  } else {
    // Not sort_all(), which leaves equal keys in an order that is lost here.
    std::nth_element(entries, entries + k, entries + n);
    std::sort(entries, entries + k);
  }
}

// The first k of every row of T in order, and where they were.
template <class T, class Entry, class Key>
void sort_rows(const OpCall& call, int32_t dim, int64_t k, bool descending, const Key& key) {
  const Tensor& x = call.in(0);
  const AlongDim layout(x, dim);
  const int64_t n = layout.extent;
  const RowReader<T> input(with_last_dim(x, dim), n);
  const RowWriter<T> values(with_last_dim(call.out(0), dim), k);
  const RowWriter<int64_t> indices(with_last_dim(call.out(1), dim), k);
  parallel_for(layout.outer * layout.inner, row_grain(8 * n), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* from = input.row(row, 0);
      Entry* entries = row_scratch<Entry>(0, n);
      for (int64_t i = 0; i < n; ++i) {
        const auto bits = key(from[i]);
        entries[i] = Entry(descending ? ~bits : bits, i);
      }
      sort_first(entries, n, k);
      T* to = values.row(row, 1);
      int64_t* positions = indices.row(row, 2);
      for (int64_t i = 0; i < k; ++i) {
        positions[i] = entries[i].position();
        to[i] = from[entries[i].position()];
      }
      values.commit(row, to, 1);
      indices.commit(row, positions, 2);
    }
  });
}

void sort_along(const OpCall& call, int32_t dim, int64_t k, bool descending) {
  const Tensor& x = call.in(0);
  const int64_t n = AlongDim(x, dim).extent;
  check(k >= 0 && k <= n, "a sort of more elements than there are");
  check(call.out(0).dtype == x.dtype && call.out(1).dtype == DType::kInt64,
        "a sort gives values and int64 indices");
  if (call.out(0).numel() == 0) return;
  const bool narrow = n <= kMaxNarrowLength;
  if (x.dtype == DType::kFloat64) {
    sort_rows<double, WideEntry>(call, dim, k, descending,
                                 [](double value) { return ordered_key(value); });
  } else if (is_floating(x.dtype) && narrow) {
    sort_rows<float, NarrowEntry>(call, dim, k, descending,
                                  [](float value) { return ordered_key(value); });
  } else if (is_floating(x.dtype)) {
    sort_rows<float, WideEntry>(call, dim, k, descending, [](float value) {
      return ordered_key(static_cast<double>(value));
    });
  } else if (x.dtype != DType::kInt64 && narrow) {
    sort_rows<int64_t, NarrowEntry>(call, dim, k, descending, [](int64_t value) {
      return static_cast<uint32_t>(value) ^ (uint32_t{1} << 31);
    });
  } else {
    sort_rows<int64_t, WideEntry>(call, dim, k, descending,
                                  [](int64_t value) { return ordered_key(value); });
  }
}

}  // namespace

void CpuBackend::sort(const OpCall& call) {
  const auto dim = static_cast<int32_t>(call.int_attr(0));
  sort_along(call, dim, AlongDim(call.in(0), dim).extent, call.flag(1));
}

void CpuBackend::topk(const OpCall& call) {
  sort_along(call, static_cast<int32_t>(call.int_attr(1)), call.int_attr(0), call.flag(2));
}

}  // namespace mixprec::cpu
