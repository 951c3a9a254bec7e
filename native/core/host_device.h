// Marks functions that compile for host and device alike.
#pragma once

#if defined(__CUDACC__)
#define MIXPREC_HD __host__ __device__
#else
#define MIXPREC_HD
#endif
