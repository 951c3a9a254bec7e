#include "pages.h"

#include <stdlib.h>

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
    // aligned_alloc would want a multiple of the alignment, and so up to 2 MiB more than was asked
    // for.
    void* data = nullptr;
    if (posix_memalign(&data, kHugePage, rounded) != 0) return nullptr;
    // Only whole huge pages, so that no more memory is taken than was asked for. A kernel that has
    // none says no, which changes nothing.
    madvise(data, round_down(rounded, kHugePage), MADV_HUGEPAGE);
    return data;
  }
#endif
  return std::aligned_alloc(kCacheLine, rounded);
}

}  // namespace mixprec::cpu
