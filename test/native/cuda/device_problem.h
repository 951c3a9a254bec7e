// The problems of epilogue_testing.h on a device.
#pragma once

#include <memory>

#include "cuda/cuda_backend.h"
#include "device_testing.h"
#include "epilogue_testing.h"

namespace mixprec::testing {

using cuda::CudaBackend;

inline CudaBackend& device() { return cuda::backend(0); }

// A copy of memory on the device.
struct Copy {
  explicit Copy(const std::vector<char>& bytes)
      : size(bytes.size()), data(static_cast<char*>(device().allocate(size))) {
    if (size > 0) device().copy_from_host(data, bytes.data(), size);
  }
  Copy(const Copy&) = delete;
  Copy& operator=(const Copy&) = delete;
  ~Copy() { device().deallocate(data, size); }
  void read(std::vector<char>& bytes) const {
    if (size > 0) device().copy_to_host(bytes.data(), data, size);
  }
  size_t size;
  char* data;
};

// Calls body with the description of a problem that lies on the device, and reads what it wrote.
template <class Body>
void on_device(EpilogueProblem& problem, const Body& body) {
  std::vector<std::unique_ptr<Copy>> copies;
  std::array<char*, kBuffers> at{};
  for (size_t i = 0; i < kBuffers; ++i) {
    copies.push_back(std::make_unique<Copy>(problem.buffers[i]));
    at[i] = copies.back()->data;
  }
  body(problem.describe(at));
  for (size_t i = 0; i < kBuffers; ++i) copies[i]->read(problem.buffers[i]);
}

}  // namespace mixprec::testing
