// Dense rows, each of which a warp or a block works on. Of a row every thread has the same elements
// in all tensors and in every pass, several at a time: neighbours with 16-byte accesses where all
// tensors allow it. What is needed again is kept in shared memory where that is large enough, in
// places that belong to the thread alone; otherwise it is read again.
#pragma once

#include <algorithm>
#include <initializer_list>

#include "cuda/tensors.h"
#include "element.h"
#include "reduce_block.h"

namespace mixprec::cuda {

inline constexpr int kRowThreads = 256;  // a block
// Elements a thread takes at a time.
template <class Compute>
inline constexpr int kRowWidth = sizeof(Compute) == 4 ? 8 : 4;

// A tensor of dense rows of a vector dtype, or one row (a weight); null where there is none.
struct RowTensor {
  void* data = nullptr;
  DType dtype = DType::kFloat32;

  RowTensor() = default;
  RowTensor(const Tensor& tensor) : data(tensor.data), dtype(tensor.dtype) {}
};

struct RowShape {
  int64_t rows = 0;
  int64_t length = 0;
  int threads = kWarpLanes;  // a row: a warp or a block
  bool vector = false;       // a thread's elements are neighbours
  int64_t kept = 0;          // places for the elements of a row in shared memory; 0 if read again
};

// One thread's part of a row.
template <class Compute>
class RowThread {
 public:
  static constexpr int kWidth = kRowWidth<Compute>;

  // `slots` arrays are kept of each row, in the dynamic shared memory at `shared`.
  MIXPREC_DEVICE RowThread(const RowShape& shape, unsigned char* shared, int slots)
      : shape_(shape),
        thread_(static_cast<int>(threadIdx.x) % shape.threads),
        group_(static_cast<int>(threadIdx.x) / shape.threads),
        memory_(reinterpret_cast<Compute*>(shared) + group_ * slots * shape.kept) {}

  MIXPREC_DEVICE int64_t first_row() const { return int64_t{blockIdx.x} * groups() + group_; }
  MIXPREC_DEVICE int64_t row_step() const { return int64_t{gridDim.x} * groups(); }
  // Steps from one piece of a row to the next.
  MIXPREC_DEVICE int64_t step() const { return int64_t{shape_.threads} * kWidth; }
  MIXPREC_DEVICE bool leads() const { return thread_ == 0; }
  // Of element k of the piece at `begin`; past the end where it is not below the length.
  MIXPREC_DEVICE int64_t position(int64_t begin, int k) const {
    return shape_.vector ? begin + int64_t{thread_} * kWidth + k
                         : begin + int64_t{k} * shape_.threads + thread_;
  }

  // The elements of the piece at `begin` of the row that starts at `row`; `fill` past the end.
  MIXPREC_DEVICE void load(const RowTensor& from, int64_t row, int64_t begin,
                           Compute (&out)[kWidth], Compute fill = Compute(0)) const {
    if (shape_.vector) {
      const int64_t at = position(begin, 0);
      if (at < shape_.length) return load_elements<kWidth>(from.data, from.dtype, row + at, out);
      MIXPREC_UNROLL
      for (int k = 0; k < kWidth; ++k) out[k] = fill;
      return;
    }
    by_vector_storage<Compute>(from.dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      const T* data = static_cast<const T*>(from.data) + row;
      MIXPREC_UNROLL
      for (int k = 0; k < kWidth; ++k) {
        const int64_t at = position(begin, k);
        out[k] = at < shape_.length ? widened<Compute>(ptx::ld(data + at)) : fill;
      }
    });
  }
  MIXPREC_DEVICE void store(const RowTensor& to, int64_t row, int64_t begin,
                            const Compute (&values)[kWidth]) const {
    if (shape_.vector) {
      const int64_t at = position(begin, 0);
      if (at < shape_.length) store_elements<kWidth>(to.data, to.dtype, row + at, values);
      return;
    }
    by_vector_storage<Compute>(to.dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      T* data = static_cast<T*>(to.data) + row;
      MIXPREC_UNROLL
      for (int k = 0; k < kWidth; ++k) {
        const int64_t at = position(begin, k);
        if (at < shape_.length) ptx::st(data + at, stored<T>(values[k]));
      }
    });
  }

  // Keeps what was loaded, where there is room, under the number of an array.
  MIXPREC_DEVICE void keep(int slot, int64_t begin, const Compute (&values)[kWidth]) const {
    if (shape_.kept == 0) return;
    MIXPREC_UNROLL
    for (int k = 0; k < kWidth; ++k) memory_[place(slot, begin, k)] = values[k];
  }
  // What was kept; where there was no room, it is loaded again.
  MIXPREC_DEVICE void again(int slot, const RowTensor& from, int64_t row, int64_t begin,
                            Compute (&out)[kWidth], Compute fill = Compute(0)) const {
    if (shape_.kept == 0) return load(from, row, begin, out, fill);
    MIXPREC_UNROLL
    for (int k = 0; k < kWidth; ++k) out[k] = memory_[place(slot, begin, k)];
  }

  // Over the threads of the row, all of which get the result.
  template <class T, class Combine>
  MIXPREC_DEVICE T reduce(T value, T identity, Combine combine) const {
    if (shape_.threads == kWarpLanes) return warp_reduce(value, combine);
    return block_reduce<kRowThreads>(value, identity, combine);
  }

 private:
  MIXPREC_DEVICE int groups() const { return kRowThreads / shape_.threads; }
  // Neighbouring threads have neighbouring places.
  MIXPREC_DEVICE int64_t place(int slot, int64_t begin, int k) const {
    return slot * shape_.kept + begin + int64_t{k} * shape_.threads + thread_;
  }

  const RowShape& shape_;
  const int thread_;
  const int group_;
  Compute* const memory_;
};

// ---- For the host ----

struct RowPlan {
  RowShape shape;
  LaunchConfig config;
};

// For `rows` rows of all `tensors`, of which `slots` arrays are kept if there is room.
template <class Compute>
RowPlan plan_rows(const CudaBackend& backend, int64_t rows, int64_t length, int slots,
                  std::initializer_list<RowTensor> tensors) {
  constexpr int kWidth = kRowWidth<Compute>;
  constexpr int64_t kWarpRow = 1024;        // the longest row of a warp
  constexpr size_t kMostShared = 96 << 10;  // two blocks on a multiprocessor
  RowPlan plan;
  RowShape& shape = plan.shape;
  shape.rows = rows;
  shape.length = length;
  shape.threads = length <= kWarpRow ? kWarpLanes : kRowThreads;
  shape.vector = length % kWidth == 0;
  for (const RowTensor& tensor : tensors) {
    const size_t bytes = std::min<size_t>(16, item_size(tensor.dtype) * kWidth);
    shape.vector = shape.vector && reinterpret_cast<uintptr_t>(tensor.data) % bytes == 0;
  }
  const int64_t step = int64_t{shape.threads} * kWidth;
  const int64_t kept = (length + step - 1) / step * step;
  const int64_t groups = kRowThreads / shape.threads;
  size_t bytes = static_cast<size_t>(kept * slots * groups) * sizeof(Compute);
  if (bytes <= std::min(kMostShared, backend.properties().shared_bytes_per_block)) {
    shape.kept = slots > 0 ? kept : 0;
  } else {
    bytes = 0;
  }
  plan.config = backend.config(rows * shape.threads, kRowThreads, bytes);
  return plan;
}

// The tensor as dense rows that kernels of `Compute` can read: itself where it is so already.
template <class Compute>
Tensor row_input(CudaBackend& backend, const Tensor& tensor) {
  if (is_vector_dtype<Compute>(tensor.dtype)) return contiguous(backend, tensor);
  return contiguous_as(backend, tensor, sizeof(Compute) == 8 ? DType::kFloat64 : DType::kFloat32);
}

}  // namespace mixprec::cuda
