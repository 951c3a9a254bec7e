// Memory from the system, for blocks that are kept and used again.
#pragma once

#include <cstddef>

namespace mixprec::cpu {

// At least `bytes` bytes on a cache line's boundary, null where there are none; given back with
// std::free. Large blocks are laid out for huge pages, and ask for them: a matrix then takes a few
// entries of the address translation cache instead of hundreds, and one fault per 2 MiB.
void* allocate_pages(size_t bytes) noexcept;

}  // namespace mixprec::cpu
