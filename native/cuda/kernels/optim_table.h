// Many tensors worked through by one launch: a table in device memory says where each lies and at
// which chunk of all it begins.
#pragma once

#include <type_traits>
#include <vector>

#include "core/optim.h"
#include "cuda/tensors.h"
#include "element.h"

namespace mixprec::cuda {

inline constexpr int kOptimThreads = 256;
inline constexpr int kOptimWidth = 4;  // neighbours that a thread takes
// Elements of a chunk, which one block does.
inline constexpr int64_t kOptimChunk = int64_t{kOptimThreads} * kOptimWidth * 4;

inline int64_t optim_chunks(int64_t numel) { return (numel + kOptimChunk - 1) / kOptimChunk; }

// A dense tensor of floats in a table.
struct FloatColumn {
  void* data = nullptr;
  DType dtype = DType::kFloat32;

  FloatColumn() = default;
  explicit FloatColumn(const Tensor& tensor) : data(tensor.data), dtype(tensor.dtype) {}
  // Whether kOptimWidth elements can be accessed at once, as float.
  bool vectorizes() const {
    return data == nullptr ||
           (dtype != DType::kFloat64 &&
            reinterpret_cast<uintptr_t>(data) % (item_size(dtype) * kOptimWidth) == 0);
  }
};

// Calls body with a TypeTag of the storage type of a floating dtype.
template <class Body>
MIXPREC_DEVICE void by_float_storage(DType dtype, const Body& body) {
  if (dtype == DType::kFloat64) return body(TypeTag<double>{});
  if (dtype == DType::kFloat32) return body(TypeTag<float>{});
  if (dtype == DType::kFloat16) return body(TypeTag<Float16>{});
  return body(TypeTag<BFloat16>{});
}

// Elements [at, at + count) of a column, count <= kOptimWidth; all of them in one access where
// `vectorized` says that this can be done.
template <class T>
MIXPREC_DEVICE void load_column(const FloatColumn& column, int64_t at, int count, bool vectorized,
                                T (&values)[kOptimWidth]) {
  if constexpr (std::is_same_v<T, float>) {
    if (vectorized && count == kOptimWidth) {
      return load_elements<kOptimWidth>(column.data, column.dtype, at, values);
    }
  }
  by_float_storage(column.dtype, [&](auto tag) {
    const auto* from = static_cast<const typename decltype(tag)::type*>(column.data) + at;
    MIXPREC_UNROLL
    for (int i = 0; i < kOptimWidth; ++i) {
      values[i] = i < count ? widened<T>(ptx::ld(from + i)) : T(0);
    }
  });
}

template <class T>
MIXPREC_DEVICE void store_column(const FloatColumn& column, int64_t at, int count, bool vectorized,
                                 const T (&values)[kOptimWidth]) {
  if constexpr (std::is_same_v<T, float>) {
    if (vectorized && count == kOptimWidth) {
      return store_elements<kOptimWidth>(column.data, column.dtype, at, values);
    }
  }
  by_float_storage(column.dtype, [&](auto tag) {
    using Stored = typename decltype(tag)::type;
    auto* to = static_cast<Stored*>(column.data) + at;
    MIXPREC_UNROLL
    for (int i = 0; i < kOptimWidth; ++i) {
      if (i < count) ptx::st(to + i, stored<Stored>(values[i]));
    }
  });
}

// What a value becomes when it is stored and read again.
template <class T>
MIXPREC_DEVICE T stored_and_read(DType dtype, T value) {
  if (dtype == DType::kFloat16) return widened<T>(stored<Float16>(value));
  if (dtype == DType::kBFloat16) return widened<T>(stored<BFloat16>(value));
  if (dtype == DType::kFloat32) return static_cast<T>(static_cast<float>(value));
  return value;
}

// The entry that a chunk belongs to: the last that begins at or before it.
template <class Entry>
MIXPREC_DEVICE const Entry* entry_of_chunk(const Entry* entries, int64_t count, int64_t chunk) {
  int64_t first = 0;
  int64_t last = count;
  while (last - first > 1) {
    const int64_t middle = first + (last - first) / 2;
    if (ptx::ld(&entries[middle].first_chunk) <= chunk) {
      first = middle;
    } else {
      last = middle;
    }
  }
  return entries + first;
}

// A column of an entry in device memory.
MIXPREC_DEVICE FloatColumn load_entry_column(const FloatColumn& column) {
  FloatColumn loaded;
  loaded.data = ptx::ld(&column.data);
  loaded.dtype = ptx::ld(&column.dtype);
  return loaded;
}

// A table of the host, copied to the device.
template <class Entry>
class DeviceTable {
 public:
  DeviceTable(CudaBackend& backend, const std::vector<Entry>& entries)
      : memory_(backend, entries.size() * sizeof(Entry)) {
    static_assert(std::is_trivially_copyable_v<Entry>);
    backend.copy_from_host(memory_.data(), entries.data(), entries.size() * sizeof(Entry));
  }
  const Entry* data() const { return memory_.template as<const Entry>(); }

 private:
  Scratch memory_;
};

// Tensors that an op changes in place, dense: copies of those that are not, which write_back() puts
// in their places.
class DenseInPlace {
 public:
  explicit DenseInPlace(CudaBackend& backend) : backend_(backend) {}

  FloatColumn column(const Tensor& tensor) {
    if (tensor.is_contiguous()) return FloatColumn(tensor);
    copies_.push_back({tensor, contiguous(backend_, tensor)});
    return FloatColumn(copies_.back().dense);
  }
  void write_back() {
    for (const Copy& copy : copies_) copy_elements(backend_, copy.original, copy.dense);
  }

 private:
  struct Copy {
    Tensor original;
    Tensor dense;
  };
  CudaBackend& backend_;
  std::vector<Copy> copies_;
};

}  // namespace mixprec::cuda
