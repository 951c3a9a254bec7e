// What the choice of a kernel depends on, as a key to remember it by: everything in a GemmDesc but
// addresses, of which only the alignment counts.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>

#include "core/gemm_desc.h"

namespace mixprec::cuda {

struct GemmKey {
  std::array<int64_t, 28> values{};

  explicit GemmKey(const GemmDesc& desc);
  bool operator==(const GemmKey&) const = default;
  // The values, separated by commas.
  std::string text() const;
};

struct GemmKeyHash {
  size_t operator()(const GemmKey& key) const {
    uint64_t hash = 0xcbf29ce484222325u;
    for (const int64_t value : key.values) {
      hash = (hash ^ static_cast<uint64_t>(value)) * 0x9e3779b97f4a7c15u;
      hash ^= hash >> 29;
    }
    return static_cast<size_t>(hash);
  }
};

}  // namespace mixprec::cuda
