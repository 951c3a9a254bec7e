// How the sums of a Hopper kernel reach memory: each warp by itself, 16 rows at a time, through two
// chunks of shared memory, while the producer already loads the next tile. Bulk copies store what
// needs no more than alpha and bias; everything else passes through store_finished, in a loop that
// is not unrolled, so that its code is there once.
#pragma once

#include "cuda/ptx/barrier.h"
#include "cuda/ptx/bulk_copy.h"
#include "cuda/ptx/matrix.h"
#include "wgmma_args.h"

namespace mixprec::cuda {

// Of one consuming warp. d[block][4 * j + i] is that of wgmma: row 8 * (i / 2) + lane / 4, column
// 8 * j + 2 * (lane % 4) + i % 2, of the 16 rows that the warp has in each block of 64.
template <class T, class Sum, class Acc, int kBlocks, int kN>
class WgmmaEpilogue {
 public:
  using Sums = Sum[kBlocks][kN / 2];
  static constexpr uint32_t kChunkBytes = 16 * 128;

  // `chunks`: the warp's two; `bias`: kN numbers of the warpgroup's, which `barrier` is for.
  MIXPREC_DEVICE WgmmaEpilogue(const WgmmaArgs<Acc>& args, uint32_t chunks, float* bias,
                               int barrier)
      : args_(args),
        chunks_(chunks),
        bias_(bias),
        barrier_(barrier),
        lane_(static_cast<int>(threadIdx.x) % 32),
        warp_(static_cast<int>(threadIdx.x) / 32 % 4) {}

  // Before the sums are made: what store() is going to read is on its way meanwhile.
  MIXPREC_DEVICE void prefetch(const WgmmaPlace& place, int m) const {
    if (args_.direct) return;
    const EpilogueArgs<Acc>& epilogue = args_.epilogue;
    if (epilogue.beta != Acc(0)) prefetch_rows(epilogue.out, place, m);
    if (epilogue.derivative) prefetch_rows(epilogue.aux, place, m);
    if (epilogue.multiplier != nullptr) prefetch_rows(epilogue.multiplier, place, m);
    if (epilogue.residual != nullptr) prefetch_rows(epilogue.residual, place, m);
  }

  // The warpgroup's rows begin at `m`.
  MIXPREC_DEVICE void store(const Sums& d, const WgmmaPlace& place, int m) {
    m += warp_ * 16;
    if (args_.direct) {
      share_bias(place.n);
      if constexpr (sizeof(T) == 2) {
        if (args_.epilogue.out_dtype != DType::kFloat32) return store_halves(d, place, m);
      }
    }
    store_words(d, place, m);
  }

  // Before the block ends.
  MIXPREC_DEVICE void finish() const {
    ptx::bulk_wait_group_read<0>();
    ptx::sync_warp();
  }

 private:
  // Element (0, 0) of the matrix in a tensor that lies as out does.
  MIXPREC_DEVICE int64_t matrix_of(const WgmmaPlace& place) const {
    return place.split * args_.split_stride + place.outer * args_.epilogue.outer_stride +
           place.batch * args_.epilogue.batch_stride;
  }

  // The warp's rows of the tile: lanes follow the lines of a row.
  MIXPREC_DEVICE void prefetch_rows(const void* tensor, const WgmmaPlace& place, int m) const {
    const int item = args_.epilogue.out_dtype == DType::kFloat32 ? 4 : 2;
    const int across = 128 / item;
    const int lines = kN / across;
    const char* const first =
        static_cast<const char*>(tensor) + (matrix_of(place) + place.n) * item;
    MIXPREC_ROLLED
    for (int at = lane_; at < kBlocks * 16 * lines; at += kWarpLanes) {
      const int row = at / lines;
      const int line = at - row * lines;
      const int at_row = m + row / 16 * 64 + warp_ * 16 + row % 16;
      if (at_row >= args_.M || place.n + line * across >= args_.N) continue;
      ptx::prefetch_line(first + at_row * args_.epilogue.row_stride * item + line * 128);
    }
  }

  // What `direct` adds to each column, for the whole warpgroup.
  MIXPREC_DEVICE void share_bias(int n) const {
    if constexpr (std::is_same_v<Acc, float>) {
      if (args_.epilogue.bias == nullptr) return;
      ptx::named_barrier_sync(barrier_, 128);  // the tile before is done with it
      MIXPREC_UNROLL
      for (int at = warp_ * 32 + lane_; at < kN; at += 128) {
        float value = 0;
        if (n + at < args_.N) {
          value = load_vector_element<float>(args_.epilogue.bias, args_.epilogue.bias_dtype,
                                             int64_t{n} + at);
        }
        bias_[at] = value;
      }
      ptx::named_barrier_sync(barrier_, 128);
    }
  }

  // Sums of two neighbouring columns of the tile, as `direct` stores them.
  MIXPREC_DEVICE Pack<Sum, 2> finished(Sum first, Sum second, int column) const {
    Pack<Sum, 2> pair{{first, second}};
    if constexpr (std::is_same_v<Acc, float>) {
      const float alpha = args_.epilogue.alpha;
      Pack<float, 2> bias{};
      if (args_.epilogue.bias != nullptr) {
        bias = *reinterpret_cast<const Pack<float, 2>*>(bias_ + column);
      }
      MIXPREC_UNROLL
      for (int i = 0; i < 2; ++i) {
        pair[i] = multiply_add(1.0f, bias[i], multiply_add(alpha, pair[i], 0.0f));
      }
    }
    return pair;
  }

  // The chunk to fill next, once the bulk copy of it that was two before has read it.
  MIXPREC_DEVICE uint32_t next_chunk() {
    ptx::bulk_wait_group_read<1>();
    ptx::sync_warp();
    const uint32_t chunk = chunks_ + turn_ * kChunkBytes;
    turn_ ^= 1;
    return chunk;
  }
  MIXPREC_DEVICE void store_chunk(uint32_t chunk, const WgmmaPlace& place, int m, int n) const {
    ptx::fence_proxy_async();
    ptx::sync_warp();
    if (lane_ == 0 && m < args_.M && n < args_.N) {
      const WgmmaOperand& out = args_.out;
      ptx::tensor_store(
          out.map, chunk, n, m,
          place.batch * out.z_batch + place.outer * out.z_outer + place.split * args_.z_split,
          place.outer * out.w_outer);
    }
    // Of every lane, and for chunks outside of out too, so that all count the same.
    ptx::bulk_commit_group();
  }

  MIXPREC_DEVICE static uint32_t bits_of(float low, float high) {
    if constexpr (std::is_same_v<T, Float16>) {
      return static_cast<uint32_t>(ptx::narrow_f16(low).bits) |
             static_cast<uint32_t>(ptx::narrow_f16(high).bits) << 16;
    } else {
      return static_cast<uint32_t>(ptx::narrow_bf16(low).bits) |
             static_cast<uint32_t>(ptx::narrow_bf16(high).bits) << 16;
    }
  }

  // 64 columns of 16 bits to a chunk.
  MIXPREC_DEVICE void store_halves(const Sums& d, const WgmmaPlace& place, int m) {
    const int row = lane_ % 16;
    MIXPREC_UNROLL
    for (int block = 0; block < kBlocks; ++block) {
      MIXPREC_UNROLL
      for (int n = 0; n < kN; n += 64) {
        const uint32_t chunk = next_chunk();
        MIXPREC_UNROLL
        for (int j = 0; j < 64; j += 16) {
          uint32_t halves[4];
          MIXPREC_UNROLL
          for (int i = 0; i < 4; ++i) {
            const int at = (n + j) / 2 + i * 2;
            const Pack<Sum, 2> pair =
                finished(d[block][at], d[block][at + 1], n + j + i / 2 * 8 + lane_ % 4 * 2);
            halves[i] = bits_of(pair[0], pair[1]);
          }
          const uint32_t at = chunk + static_cast<uint32_t>(row * 128 + (j / 8 + lane_ / 16) * 16);
          ptx::stmatrix(swizzled(at, Swizzle::k128Bytes), halves);
        }
        store_chunk(chunk, place, m + block * 64, place.n + n);
      }
    }
  }

  // 32 columns of 32 bits to a chunk.
  MIXPREC_DEVICE void store_words(const Sums& d, const WgmmaPlace& place, int m) {
    constexpr int kAcross = kN / 32;
    MIXPREC_ROLLED
    for (int step = 0; step < kBlocks * kAcross; ++step) {
      const int block = step / kAcross;
      const int n = step % kAcross * 32;
      const uint32_t chunk = next_chunk();
      MIXPREC_UNROLL
      for (int known = 0; known < kBlocks * kAcross; ++known) {
        // Registers have no index.
        if (known == step) fill_words(d[known / kAcross], known % kAcross * 32, chunk);
      }
      if (args_.direct) {
        store_chunk(chunk, place, m + block * 64, place.n + n);
      } else {
        ptx::sync_warp();
        finish_words(chunk, place, m + block * 64, place.n + n);
      }
    }
  }

  MIXPREC_DEVICE void fill_words(const Sum (&d)[kN / 2], int n, uint32_t chunk) const {
    MIXPREC_UNROLL
    for (int j = 0; j < 32; j += 8) {
      MIXPREC_UNROLL
      for (int i = 0; i < 4; i += 2) {
        const int at = (n + j) / 2 + i;
        Pack<Sum, 2> pair{{d[at], d[at + 1]}};
        if (args_.direct) pair = finished(pair[0], pair[1], n + j + lane_ % 4 * 2);
        const int row = lane_ / 4 + i / 2 * 8;
        const uint32_t to = chunk + static_cast<uint32_t>(row * 128 + j * 4 + lane_ % 4 * 8);
        ptx::st_shared<Pack<Sum, 2>>(swizzled(to, Swizzle::k128Bytes), pair);
      }
    }
  }

  // Eight lanes to a row.
  MIXPREC_DEVICE void finish_words(uint32_t chunk, const WgmmaPlace& place, int m, int n) const {
    const int column = n + lane_ % 8 * 4;
    const int valid = args_.N - column;
    if (valid <= 0) return;
    const int64_t base = matrix_of(place);
    MIXPREC_ROLLED
    for (int row = lane_ / 8; row < 16; row += 4) {
      if (m + row >= args_.M) return;
      const uint32_t from = chunk + static_cast<uint32_t>(row * 128 + lane_ % 8 * 16);
      const auto words = ptx::ld_shared<Pack<Sum, 4>>(swizzled(from, Swizzle::k128Bytes));
      Acc values[4];
      MIXPREC_UNROLL
      for (int i = 0; i < 4; ++i) values[i] = static_cast<Acc>(words[i]);
      const int64_t at = base + int64_t{m + row} * args_.epilogue.row_stride + column;
      store_finished<Acc, 4>(args_.epilogue, values, at, column, valid < 4 ? valid : 4,
                             args_.aligned);
    }
  }

  const WgmmaArgs<Acc>& args_;
  const uint32_t chunks_;
  float* const bias_;
  const int barrier_;
  const int lane_, warp_;
  uint32_t turn_ = 0;
};

}  // namespace mixprec::cuda
