#include "cpu_backend.h"

#include <cstring>

namespace mixprec::cpu {

void CpuBackend::copy_from_host(void* device, const void* host, size_t bytes) {
  std::memcpy(device, host, bytes);
}

void CpuBackend::copy_to_host(void* host, const void* device, size_t bytes) {
  std::memcpy(host, device, bytes);
}

CpuBackend& backend() {
  // Never destroyed: tensors of other threads may outlive static destruction.
  static auto* const instance = new CpuBackend;
  return *instance;
}

}  // namespace mixprec::cpu
