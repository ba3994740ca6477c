// LAPCORE_HD marks what both the CPU and the GPU run.
#pragma once

#if defined(__CUDACC__)
#define LAPCORE_HD __host__ __device__
#else
#define LAPCORE_HD
#endif
