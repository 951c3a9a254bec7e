// The text of wgmma for each number of columns (see wgmma.h): inline assembly has to spell out
// every register by its number. Included inside of namespace mixprec::cuda::ptx.
#pragma once

// Registers %0 and on, by the number of them.
#define MIXPREC_R4 "%0, %1, %2, %3"
#define MIXPREC_R8 MIXPREC_R4 ", %4, %5, %6, %7"
#define MIXPREC_R16 MIXPREC_R8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define MIXPREC_R32                          \
  MIXPREC_R16                                \
  ", %16, %17, %18, %19, %20, %21, %22, %23" \
  ", %24, %25, %26, %27, %28, %29, %30, %31"
#define MIXPREC_R48                          \
  MIXPREC_R32                                \
  ", %32, %33, %34, %35, %36, %37, %38, %39" \
  ", %40, %41, %42, %43, %44, %45, %46, %47"
#define MIXPREC_R64                          \
  MIXPREC_R48                                \
  ", %48, %49, %50, %51, %52, %53, %54, %55" \
  ", %56, %57, %58, %59, %60, %61, %62, %63"
#define MIXPREC_R80                          \
  MIXPREC_R64                                \
  ", %64, %65, %66, %67, %68, %69, %70, %71" \
  ", %72, %73, %74, %75, %76, %77, %78, %79"
#define MIXPREC_R96                          \
  MIXPREC_R80                                \
  ", %80, %81, %82, %83, %84, %85, %86, %87" \
  ", %88, %89, %90, %91, %92, %93, %94, %95"
#define MIXPREC_R112                             \
  MIXPREC_R96                                    \
  ", %96, %97, %98, %99, %100, %101, %102, %103" \
  ", %104, %105, %106, %107, %108, %109, %110, %111"
#define MIXPREC_R128                                 \
  MIXPREC_R112                                       \
  ", %112, %113, %114, %115, %116, %117, %118, %119" \
  ", %120, %121, %122, %123, %124, %125, %126, %127"

// The same, as operands.
#define MIXPREC_D4(c, i) c(d[i]), c(d[(i) + 1]), c(d[(i) + 2]), c(d[(i) + 3])
#define MIXPREC_D8(c, i) MIXPREC_D4(c, i), MIXPREC_D4(c, (i) + 4)
#define MIXPREC_D16(c, i) MIXPREC_D8(c, i), MIXPREC_D8(c, (i) + 8)
#define MIXPREC_D32(c, i) MIXPREC_D16(c, i), MIXPREC_D16(c, (i) + 16)
#define MIXPREC_D48(c, i) MIXPREC_D32(c, i), MIXPREC_D16(c, (i) + 32)
#define MIXPREC_D64(c, i) MIXPREC_D48(c, i), MIXPREC_D16(c, (i) + 48)
#define MIXPREC_D80(c, i) MIXPREC_D64(c, i), MIXPREC_D16(c, (i) + 64)
#define MIXPREC_D96(c, i) MIXPREC_D80(c, i), MIXPREC_D16(c, (i) + 80)
#define MIXPREC_D112(c, i) MIXPREC_D96(c, i), MIXPREC_D16(c, (i) + 96)
#define MIXPREC_D128(c, i) MIXPREC_D112(c, i), MIXPREC_D16(c, (i) + 112)

// One specialization for each number of columns n, with r = n / 2 registers. The operands that
// follow those of d are numbered from r on: p0 to p6.
#define MIXPREC_WGMMA_TEXT(n, kind, r, operands, p, tail)                                       \
  "{\n.reg .pred p;\nsetp.ne.b32 p, " p ", 0;\nwgmma.mma_async.sync.aligned.m64n" n kind " {" r \
  "}, " operands ", p" tail ";\n}"
#define MIXPREC_WGMMA(n, r, p0, p1, p2, p3, p4, p5, p6)                                            \
  template <>                                                                                      \
  struct WgmmaAsm<n> {                                                                             \
    template <class T, Major kA, Major kB>                                                         \
    MIXPREC_DEVICE static void run(WgmmaSum<T> (&d)[r], uint64_t a, uint64_t b, bool accumulate) { \
      const auto p = static_cast<int>(accumulate);                                                 \
      if constexpr (std::is_same_v<T, Float16>) {                                                  \
        asm volatile(MIXPREC_WGMMA_TEXT(#n, "k16.f32.f16.f16", MIXPREC_R##r, p0 ", " p1, p2,       \
                                        ", 1, 1, " p3 ", " p4)                                     \
                     : MIXPREC_D##r("+f", 0)                                                       \
                     : "l"(a), "l"(b), "r"(p), "n"(int(kA)), "n"(int(kB)));                        \
      } else if constexpr (std::is_same_v<T, BFloat16>) {                                          \
        asm volatile(MIXPREC_WGMMA_TEXT(#n, "k16.f32.bf16.bf16", MIXPREC_R##r, p0 ", " p1, p2,     \
                                        ", 1, 1, " p3 ", " p4)                                     \
                     : MIXPREC_D##r("+f", 0)                                                       \
                     : "l"(a), "l"(b), "r"(p), "n"(int(kA)), "n"(int(kB)));                        \
      } else if constexpr (std::is_same_v<T, Tf32>) {                                              \
        asm volatile(                                                                              \
            MIXPREC_WGMMA_TEXT(#n, "k8.f32.tf32.tf32", MIXPREC_R##r, p0 ", " p1, p2, ", 1, 1")     \
            : MIXPREC_D##r("+f", 0)                                                                \
            : "l"(a), "l"(b), "r"(p));                                                             \
      } else {                                                                                     \
        asm volatile(MIXPREC_WGMMA_TEXT(#n, "k32.s32.s8.s8", MIXPREC_R##r, p0 ", " p1, p2, "")     \
                     : MIXPREC_D##r("+r", 0)                                                       \
                     : "l"(a), "l"(b), "r"(p));                                                    \
      }                                                                                            \
    }                                                                                              \
    template <class T, Major kB>                                                                   \
    MIXPREC_DEVICE static void run(WgmmaSum<T> (&d)[r], const uint32_t (&a)[4], uint64_t b,        \
                                   bool accumulate) {                                              \
      const auto p = static_cast<int>(accumulate);                                                 \
      if constexpr (std::is_same_v<T, Float16>) {                                                  \
        asm volatile(                                                                              \
            MIXPREC_WGMMA_TEXT(#n, "k16.f32.f16.f16", MIXPREC_R##r,                                \
                               "{" p0 ", " p1 ", " p2 ", " p3 "}, " p4, p5, ", 1, 1, " p6)         \
            : MIXPREC_D##r("+f", 0)                                                                \
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(p), "n"(int(kB)));           \
      } else if constexpr (std::is_same_v<T, BFloat16>) {                                          \
        asm volatile(                                                                              \
            MIXPREC_WGMMA_TEXT(#n, "k16.f32.bf16.bf16", MIXPREC_R##r,                              \
                               "{" p0 ", " p1 ", " p2 ", " p3 "}, " p4, p5, ", 1, 1, " p6)         \
            : MIXPREC_D##r("+f", 0)                                                                \
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(p), "n"(int(kB)));           \
      } else if constexpr (std::is_same_v<T, Tf32>) {                                              \
        asm volatile(MIXPREC_WGMMA_TEXT(#n, "k8.f32.tf32.tf32", MIXPREC_R##r,                      \
                                        "{" p0 ", " p1 ", " p2 ", " p3 "}, " p4, p5, ", 1, 1")     \
                     : MIXPREC_D##r("+f", 0)                                                       \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(p));                \
      } else {                                                                                     \
        asm volatile(MIXPREC_WGMMA_TEXT(#n, "k32.s32.s8.s8", MIXPREC_R##r,                         \
                                        "{" p0 ", " p1 ", " p2 ", " p3 "}, " p4, p5, "")           \
                     : MIXPREC_D##r("+r", 0)                                                       \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(p));                \
      }                                                                                            \
    }                                                                                              \
  };

template <int kN>
struct WgmmaAsm;
MIXPREC_WGMMA(8, 4, "%4", "%5", "%6", "%7", "%8", "%9", "%10")
MIXPREC_WGMMA(16, 8, "%8", "%9", "%10", "%11", "%12", "%13", "%14")
MIXPREC_WGMMA(32, 16, "%16", "%17", "%18", "%19", "%20", "%21", "%22")
MIXPREC_WGMMA(64, 32, "%32", "%33", "%34", "%35", "%36", "%37", "%38")
MIXPREC_WGMMA(96, 48, "%48", "%49", "%50", "%51", "%52", "%53", "%54")
MIXPREC_WGMMA(128, 64, "%64", "%65", "%66", "%67", "%68", "%69", "%70")
MIXPREC_WGMMA(160, 80, "%80", "%81", "%82", "%83", "%84", "%85", "%86")
MIXPREC_WGMMA(192, 96, "%96", "%97", "%98", "%99", "%100", "%101", "%102")
MIXPREC_WGMMA(224, 112, "%112", "%113", "%114", "%115", "%116", "%117", "%118")
MIXPREC_WGMMA(256, 128, "%128", "%129", "%130", "%131", "%132", "%133", "%134")

#undef MIXPREC_WGMMA
#undef MIXPREC_WGMMA_TEXT
#undef MIXPREC_R4
#undef MIXPREC_D4
#undef MIXPREC_R8
#undef MIXPREC_D8
#undef MIXPREC_R16
#undef MIXPREC_D16
#undef MIXPREC_R32
#undef MIXPREC_D32
#undef MIXPREC_R48
#undef MIXPREC_D48
#undef MIXPREC_R64
#undef MIXPREC_D64
#undef MIXPREC_R80
#undef MIXPREC_D80
#undef MIXPREC_R96
#undef MIXPREC_D96
#undef MIXPREC_R112
#undef MIXPREC_D112
#undef MIXPREC_R128
#undef MIXPREC_D128
