#include "pages.h"

#include <cstdlib>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace mixprec::cpu {
namespace {

constexpr size_t kCacheLine = 64;
[[maybe_unused]] constexpr size_t kHugePage = size_t{2} << 20;

size_t round_down(size_t bytes, size_t unit) { return bytes / unit * unit; }

}  // namespace

void* allocate_pages(size_t bytes) noexcept {
  const size_t rounded = round_down(bytes + kCacheLine - 1, kCacheLine);
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (rounded >= kHugePage) {
    void* data = std::aligned_alloc(kHugePage, rounded);
    // Only whole huge pages, so that no more memory is taken than was asked for. A kernel that has
    // none says no, which changes nothing.
    if (data != nullptr) madvise(data, round_down(rounded, kHugePage), MADV_HUGEPAGE);
    return data;
  }
#endif
  return std::aligned_alloc(kCacheLine, rounded);
}

}  // namespace mixprec::cpu
