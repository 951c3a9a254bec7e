// What a device must provide: memory, and one method for every row of the op list.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "errors.h"
#include "op_list.h"
#include "storage.h"

namespace mixprec {

// One call of an op. Outputs are freshly allocated and contiguous; their shapes and dtypes come
// from the caller (lib/ops decides them). Attributes are numbers in the order the op's row
// documents.
struct OpCall {
  const char* name = "";
  const Tensor* inputs = nullptr;
  int32_t num_inputs = 0;
  Tensor* outputs = nullptr;
  int32_t num_outputs = 0;
  const double* attrs = nullptr;
  int32_t num_attrs = 0;

  const Tensor& in(int32_t index) const {
    check(index < num_inputs, "an op read an input that was not passed");
    return inputs[index];
  }
  Tensor& out(int32_t index = 0) const {
    check(index < num_outputs, "an op wrote an output that was not passed");
    return outputs[index];
  }
  double attr(int32_t index) const {
    check(index < num_attrs, "an op read an attribute that was not passed");
    return attrs[index];
  }
  int64_t int_attr(int32_t index) const { return static_cast<int64_t>(attr(index)); }
  bool flag(int32_t index) const { return attr(index) != 0.0; }
  DType dtype_attr(int32_t index) const {
    const int64_t code = int_attr(index);
    check(code >= 0 && code < kDTypeCount, "an op got a dtype code that does not exist");
    return static_cast<DType>(code);
  }
};

// Bytes, after rounding up to the allocator's granularity.
struct MemoryStats {
  size_t allocated = 0;
  size_t max_allocated = 0;
  size_t reserved = 0;
  size_t max_reserved = 0;
};

// A copy to host memory that was queued. Destroying it before it arrived is allowed.
class HostCopy {
 public:
  virtual ~HostCopy() = default;
  // Returns when the bytes are there; from any thread.
  virtual void wait() = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual void* allocate(size_t bytes) = 0;
  virtual void deallocate(void* data, size_t bytes) noexcept = 0;
  virtual MemoryStats memory_stats() const = 0;
  virtual void reset_peak_memory_stats() = 0;
  virtual void empty_cache() = 0;

  // Synchronous copies between host memory and this device's.
  virtual void copy_from_host(void* device, const void* host, size_t bytes) = 0;
  virtual void copy_to_host(void* host, const void* device, size_t bytes) = 0;
  // As copy_to_host, without waiting for the device: null if the bytes are there already.
  virtual std::unique_ptr<HostCopy> start_copy_to_host(void* host, const void* device,
                                                       size_t bytes) {
    copy_to_host(host, device, bytes);
    return nullptr;
  }
  // Waits for all that was queued; throws what went wrong in it.
  virtual void synchronize() {}
  // How often a call of this process has waited for a device, for tests of what must not.
  virtual uint64_t waits() const { return 0; }
  // Throws what has gone wrong in queued work so far, without waiting.
  virtual void raise_pending() {}
  // Around every op; leave_op also where the op threw.
  virtual void begin_op(const OpCall&) {}
  virtual void end_op(const OpCall&) {}
  virtual void leave_op() noexcept {}
  // How a call would be run and why, as JSON; its tensors may have no memory. "null" of an op about
  // which there is nothing to say.
  virtual std::string explain(const OpCall&) { return "null"; }

#define MIXPREC_DECLARE_OP(name) virtual void name(const OpCall& call) = 0;
  MIXPREC_OPS(MIXPREC_DECLARE_OP)
#undef MIXPREC_DECLARE_OP
};

inline Storage::~Storage() { backend_->deallocate(data_, bytes_); }

// A new dense tensor of the given shape.
inline Tensor allocate_tensor(Backend& backend, DType dtype, const int64_t* shape, int32_t rank) {
  Tensor tensor;
  tensor.dtype = dtype;
  tensor.rank = rank;
  int64_t stride = 1;
  for (int32_t dim = rank - 1; dim >= 0; --dim) {
    tensor.shape[dim] = shape[dim];
    tensor.strides[dim] = stride;
    stride *= shape[dim];
  }
  const size_t bytes = static_cast<size_t>(tensor.numel()) * item_size(dtype);
  tensor.storage = StorageRef(new Storage(&backend, backend.allocate(bytes), bytes));
  tensor.data = tensor.storage->data();
  return tensor;
}

// The name of each op in the order of the list; TypeScript compares it with its own at load.
inline constexpr const char* kOpNames[] = {
#define MIXPREC_OP_NAME(name) #name,
    MIXPREC_OPS(MIXPREC_OP_NAME)
#undef MIXPREC_OP_NAME
};
inline constexpr int32_t kOpCount = static_cast<int32_t>(sizeof(kOpNames) / sizeof(kOpNames[0]));

// The name of an op by its code.
inline const char* op_name(int32_t op) {
  check(op >= 0 && op < kOpCount, "an op code that does not exist was called");
  return kOpNames[op];
}

inline void run_op(Backend& backend, int32_t op, OpCall& call) {
  using Method = void (Backend::*)(const OpCall&);
  static constexpr Method kMethods[] = {
#define MIXPREC_OP_METHOD(name) &Backend::name,
      MIXPREC_OPS(MIXPREC_OP_METHOD)
#undef MIXPREC_OP_METHOD
  };
  call.name = op_name(op);
  const Method method = kMethods[op];
  backend.begin_op(call);
  const struct Leave {
    Backend& backend;
    ~Leave() { backend.leave_op(); }
  } leave{backend};
  (backend.*method)(call);
  backend.end_op(call);
}

}  // namespace mixprec
