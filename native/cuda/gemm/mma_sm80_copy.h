// Tiles of operands in shared memory, for the kernels of mma.sync: where their elements lie, and
// the copies from global memory. A tile is made of lines of 16-byte chunks: of rows of lhs (columns
// of rhs) along k where the operand is major in k, else of steps of k along rows.
#pragma once

#include "cuda/ptx/async_copy.h"
#include "cuda/ptx/memory.h"
#include "mma_tiles.h"

namespace mixprec::cuda::mma_sm80 {

// An operand as a kernel gets it; strides count elements.
struct Operand {
  const void* data;
  int64_t extent;  // M or N
  int64_t line_stride;
  int64_t chunk_stride;  // from element to element within a chunk: 1 but for kElements
  int64_t batch_stride;
  int64_t outer_stride;
  MmaAccess access;
  bool k_major;
};

// How a warp reads tiles, which the places of chunks are chosen for: such that no two threads that
// are served at once meet in a bank.
enum class Reading : int32_t {
  kMatrices,  // ldmatrix: 8 lines, a chunk of each
  // Blocks of E x E elements to a lane, with E elements to a chunk: lane 4 * g + t has rows E * g
  // on and steps of k E * t on. For elements that ldmatrix cannot bring to their fragments.
  kBlocks,
};

template <class T, int kTile_, int kDepth_, bool kKMajor_, Reading kReading>
struct TileLayout {
  static constexpr int kTile = kTile_;
  static constexpr int kDepth = kDepth_;
  static constexpr bool kKMajor = kKMajor_;
  static constexpr int kChunk = static_cast<int>(16 / sizeof(T));  // elements
  static constexpr int kLineElements = kKMajor ? kDepth : kTile;
  static constexpr int kLineChunks = kLineElements / kChunk;
  static constexpr int kLines = kKMajor ? kTile : kDepth;
  static constexpr int kBytes = kTile * kDepth * static_cast<int>(sizeof(T));
  static_assert(!kKMajor || kLineChunks == 4 || kLineChunks == 8);

  MIXPREC_DEVICE static uint32_t offset(int line, int chunk) {
    if constexpr (!kKMajor) {
      const int turn = kReading == Reading::kMatrices ? line & 7 : (line / kChunk & 3) * 2;
      return static_cast<uint32_t>((line * kLineChunks + (chunk ^ turn)) * 16);
    } else {
      static_assert(kReading == Reading::kBlocks || kLineChunks == 4);
      const int turn = kReading == Reading::kMatrices
                           ? line >> 1 & 3
                           : (line / kChunk & 1) << 2 | (line / kChunk >> 1 & 3);
      // Units of 128 bytes, all banks, which hold a line or two.
      if constexpr (kLineChunks == 4) {
        return static_cast<uint32_t>(((line >> 1) * 8 + (((line & 1) << 2 | chunk) ^ turn)) * 16);
      } else {
        return static_cast<uint32_t>((line * 8 + (chunk ^ turn)) * 16);
      }
    }
  }
};

// Copies the tiles of one operand along k, kThreads threads together. What lies outside of the
// operand becomes zeros.
template <class T, class Layout, int kThreads>
class TileCopier {
 public:
  // For the tile that begins with row `first`; k goes from k_begin on.
  MIXPREC_DEVICE TileCopier(const Operand& operand, int64_t base, int64_t first, int64_t k_begin)
      : operand_(operand) {
    const int thread = static_cast<int>(threadIdx.x);
    line_ = thread / Layout::kLineChunks;
    chunk_ = thread % Layout::kLineChunks;
    // Neighbouring threads read what lies closest together.
    if (operand.access == MmaAccess::kElements && operand.line_stride < operand.chunk_stride) {
      line_ = thread % kLinesAtOnce;
      chunk_ = thread / kLinesAtOnce;
    }
    const int64_t left = operand.extent - first;
    extent_left_ = left < Layout::kTile ? static_cast<int>(left) : Layout::kTile;
    const int64_t line = line_ + (Layout::kKMajor ? first : k_begin);
    const int64_t element = chunk_ * kChunk + (Layout::kKMajor ? k_begin : first);
    from_ = static_cast<const T*>(operand.data) + base + line * operand.line_stride +
            element * operand.chunk_stride;
  }

  // The next kDepth steps of k, of which `k_left` are inside.
  MIXPREC_DEVICE void copy(uint32_t to, int64_t k_left) {
    const int k_inside = k_left < Layout::kDepth ? static_cast<int>(k_left) : Layout::kDepth;
    const int lines = Layout::kKMajor ? extent_left_ : k_inside;
    int inside = (Layout::kKMajor ? k_inside : extent_left_) - chunk_ * kChunk;
    inside = inside < 0 ? 0 : inside > kChunk ? kChunk : inside;
    if (operand_.access == MmaAccess::kWide) {
      const T* from = from_;
      MIXPREC_UNROLL
      for (int pass = 0; pass < kPasses; ++pass, from += kLinesAtOnce * operand_.line_stride) {
        const int line = line_ + pass * kLinesAtOnce;
        const int bytes = line < lines ? inside * static_cast<int>(sizeof(T)) : 0;
        ptx::cp_async_zero_fill<16>(to + Layout::offset(line, chunk_), from, bytes);
      }
    } else {
      copy_slowly(to, lines, inside);
    }
    from_ += Layout::kDepth * (Layout::kKMajor ? operand_.chunk_stride : operand_.line_stride);
  }

 private:
  static constexpr int kChunk = Layout::kChunk;
  static constexpr int kLinesAtOnce = kThreads / Layout::kLineChunks;
  static constexpr int kPasses = Layout::kLines / kLinesAtOnce;
  static_assert(kThreads % Layout::kLineChunks == 0 && Layout::kLines % kLinesAtOnce == 0);

  MIXPREC_DEVICE void copy_slowly(uint32_t to, int lines, int inside) const {
    const T* from = from_;
    for (int line = line_; line < Layout::kLines;
         line += kLinesAtOnce, from += kLinesAtOnce * operand_.line_stride) {
      const int valid = line < lines ? inside : 0;
      const uint32_t chunk = to + Layout::offset(line, chunk_);
      if constexpr (sizeof(T) >= 4) {
        MIXPREC_UNROLL
        for (int i = 0; i < kChunk; ++i) {
          ptx::cp_async_zero_fill<sizeof(T)>(chunk + static_cast<uint32_t>(i * sizeof(T)),
                                             from + i * operand_.chunk_stride,
                                             i < valid ? static_cast<int>(sizeof(T)) : 0);
        }
      } else if (operand_.access == MmaAccess::kWords) {
        MIXPREC_UNROLL
        for (int word = 0; word < 4; ++word) {
          const int bytes = valid * static_cast<int>(sizeof(T)) - word * 4;
          ptx::cp_async_zero_fill<4>(chunk + static_cast<uint32_t>(word * 4),
                                     from + word * static_cast<int>(4 / sizeof(T)),
                                     bytes < 0   ? 0
                                     : bytes > 4 ? 4
                                                 : bytes);
        }
      } else {
        using Bits = std::conditional_t<sizeof(T) == 2, uint16_t, uint8_t>;
        const Bits* bits = reinterpret_cast<const Bits*>(from);
        Pack<uint32_t, 4> words;
        MIXPREC_UNROLL
        for (int word = 0; word < 4; ++word) {
          constexpr int kInWord = static_cast<int>(4 / sizeof(T));
          words[word] = 0;
          MIXPREC_UNROLL
          for (int i = 0; i < kInWord; ++i) {
            const int element = word * kInWord + i;
            if (element >= valid) continue;
            words[word] |= static_cast<uint32_t>(ptx::ld(bits + element * operand_.chunk_stride))
                           << (i * 8 * static_cast<int>(sizeof(T)));
          }
        }
        ptx::st_shared<Pack<uint32_t, 4>>(chunk, words);
      }
    }
  }

  const Operand& operand_;  // in constant memory, so that it takes no registers
  const T* from_;
  int line_;
  int chunk_;
  int extent_left_;
};

}  // namespace mixprec::cuda::mma_sm80
