// The vector instructions of x86. The baseline is given its own alone: those of later sets take longer to read than
// most files of kernels take to compile.
#pragma once

#if defined(__x86_64__) && !defined(__CUDACC__)
#if defined(__AVX__)
#include <immintrin.h>
#else
#include <emmintrin.h>
#endif
#endif
