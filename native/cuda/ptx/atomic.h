// Atomic operations on global and shared memory (PTX ISA 9.7.13.5 atom); each returns the value
// from before. Of floating point there is none on purpose: sums in an order that varies are not
// reproducible.
#pragma once

#include "memory.h"

namespace mixprec::cuda::ptx {

// For int32_t, uint32_t and uint64_t (unsigned long long).
#if defined(MIXPREC_CUDA_EMULATED)

template <class T, class Update>
T atomic_update(T* address, const Update& update) {
  static_assert(std::is_integral_v<T>);
  const T old = ld(address);
  st(address, static_cast<T>(update(old)));
  return old;
}
template <class T>
T atomic_add(T* address, std::type_identity_t<T> value) {
  return atomic_update(address, [&](T old) { return old + value; });
}
template <class T>
T atomic_max(T* address, std::type_identity_t<T> value) {
  return atomic_update(address, [&](T old) { return old < value ? value : old; });
}
template <class T>
T atomic_min(T* address, std::type_identity_t<T> value) {
  return atomic_update(address, [&](T old) { return value < old ? value : old; });
}
template <class T>
T atomic_or(T* address, std::type_identity_t<T> value) {
  return atomic_update(address, [&](T old) { return old | value; });
}
template <class T>
T atomic_exchange(T* address, std::type_identity_t<T> value) {
  return atomic_update(address, [&](T) { return value; });
}
// Writes `value` where `expected` stands.
template <class T>
T atomic_cas(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  return atomic_update(address, [&](T old) { return old == expected ? value : old; });
}

#else

// CUDA's functions take unsigned long long, which uint64_t need not be.
template <class T>
using AtomicType = std::conditional_t<sizeof(T) == 8, unsigned long long, T>;

template <class T>
MIXPREC_DEVICE T atomic_add(T* address, std::type_identity_t<T> value) {
  using A = AtomicType<T>;
  return static_cast<T>(atomicAdd(reinterpret_cast<A*>(address), static_cast<A>(value)));
}
template <class T>
MIXPREC_DEVICE T atomic_max(T* address, std::type_identity_t<T> value) {
  using A = std::conditional_t<std::is_signed_v<T> && sizeof(T) == 8, long long, AtomicType<T>>;
  return static_cast<T>(atomicMax(reinterpret_cast<A*>(address), static_cast<A>(value)));
}
template <class T>
MIXPREC_DEVICE T atomic_min(T* address, std::type_identity_t<T> value) {
  using A = std::conditional_t<std::is_signed_v<T> && sizeof(T) == 8, long long, AtomicType<T>>;
  return static_cast<T>(atomicMin(reinterpret_cast<A*>(address), static_cast<A>(value)));
}
template <class T>
MIXPREC_DEVICE T atomic_or(T* address, std::type_identity_t<T> value) {
  using A = AtomicType<T>;
  return static_cast<T>(atomicOr(reinterpret_cast<A*>(address), static_cast<A>(value)));
}
template <class T>
MIXPREC_DEVICE T atomic_exchange(T* address, std::type_identity_t<T> value) {
  using A = AtomicType<T>;
  return static_cast<T>(atomicExch(reinterpret_cast<A*>(address), static_cast<A>(value)));
}
template <class T>
MIXPREC_DEVICE T atomic_cas(T* address, std::type_identity_t<T> expected,
                            std::type_identity_t<T> value) {
  using A = AtomicType<T>;
  return static_cast<T>(
      atomicCAS(reinterpret_cast<A*>(address), static_cast<A>(expected), static_cast<A>(value)));
}

#endif

}  // namespace mixprec::cuda::ptx
