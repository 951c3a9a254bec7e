// Reference-counted memory on a device, and strided tensors that share it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "dtype.h"

namespace mixprec {

class Backend;

// Bytes owned by the backend that allocated them; freed when the last tensor lets go.
class Storage {
 public:
  Storage(Backend* backend, void* data, size_t bytes)
      : backend_(backend), data_(data), bytes_(bytes) {}
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  ~Storage();

  void retain() { references_.fetch_add(1, std::memory_order_relaxed); }
  void release() {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }

  Backend* backend() const { return backend_; }
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  Backend* backend_;
  void* data_;
  size_t bytes_;
  std::atomic<int> references_{1};
};

class StorageRef {
 public:
  StorageRef() = default;
  explicit StorageRef(Storage* adopted) : storage_(adopted) {}
  StorageRef(const StorageRef& other) : storage_(other.storage_) {
    if (storage_ != nullptr) storage_->retain();
  }
  StorageRef(StorageRef&& other) noexcept : storage_(std::exchange(other.storage_, nullptr)) {}
  StorageRef& operator=(StorageRef other) noexcept {
    std::swap(storage_, other.storage_);
    return *this;
  }
  ~StorageRef() {
    if (storage_ != nullptr) storage_->release();
  }
  Storage* get() const { return storage_; }
  Storage* operator->() const { return storage_; }
  explicit operator bool() const { return storage_ != nullptr; }

 private:
  Storage* storage_ = nullptr;
};

inline constexpr int kMaxRank = 8;

// A strided view of a storage: strides and offset count elements. Rank 0 holds one element.
struct Tensor {
  StorageRef storage;
  void* data = nullptr;  // address of the first element
  DType dtype = DType::kFloat32;
  int32_t rank = 0;
  int64_t shape[kMaxRank] = {};
  int64_t strides[kMaxRank] = {};

  int64_t numel() const {
    int64_t count = 1;
    for (int32_t dim = 0; dim < rank; ++dim) count *= shape[dim];
    return count;
  }

  // Dense row-major; dimensions of length 1 may have any stride.
  bool is_contiguous() const {
    int64_t expected = 1;
    for (int32_t dim = rank - 1; dim >= 0; --dim) {
      if (shape[dim] == 0) return true;
      if (shape[dim] != 1 && strides[dim] != expected) return false;
      expected *= shape[dim];
    }
    return true;
  }

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

}  // namespace mixprec
