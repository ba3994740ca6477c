// The CUDA that our kernels use, on a CPU: every CUDA thread of a block is a host thread, __syncthreads a real barrier,
// and
// __shared__ a static array, so that AddressSanitizer and ThreadSanitizer see what the kernel does. Blocks run one
// after another.
#pragma once

#include <pthread.h>

#include <cstddef>
#include <cstring>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __grid_constant__
#define __launch_bounds__(...)

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

inline thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

// Two barriers by turns: ThreadSanitizer lets a thread that leaves one late see all that entered it since, so that with
// a single one a missing __syncthreads would go unnoticed.
inline pthread_barrier_t shim_barriers[2];
inline thread_local int shim_turn = 0;

inline void __syncthreads() {
    pthread_barrier_wait(&shim_barriers[shim_turn]);
    shim_turn ^= 1;
}

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9 };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount = 16 };
using cudaStream_t = struct shim_stream*;

struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    std::size_t dynamicSmemBytes;
    cudaStream_t stream;
};

inline const char* cudaGetErrorString(cudaError_t error) {
    switch (error) {
        case cudaSuccess: return "no error";
        case cudaErrorInvalidConfiguration: return "invalid configuration argument";
        default: return "invalid argument";
    }
}

inline cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}

inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
    if (attribute != cudaDevAttrMultiProcessorCount) return cudaErrorInvalidValue;
    *value = 1;
    return cudaSuccess;
}

// A launch on the stream 13 is refused, so that the way of an error can be tested.
template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               const Arguments&... arguments) {
    const dim3 grid = config->gridDim, block = config->blockDim;
    const unsigned threads = block.x * block.y * block.z;
    const bool refused = config->stream == reinterpret_cast<cudaStream_t>(13);
    if (refused || config->dynamicSmemBytes != 0 || threads == 0 || threads > 1024 || grid.x == 0 || grid.y > 65535 ||
        grid.z > 65535 || grid.y == 0 || grid.z == 0) {
        return cudaErrorInvalidConfiguration;
    }
    for (auto& barrier : shim_barriers) pthread_barrier_init(&barrier, nullptr, threads);
    std::vector<std::thread> team;
    for (unsigned t = 0; t < threads; ++t) {
        team.emplace_back([&, t] {
            threadIdx = dim3(t % block.x, t / block.x % block.y, t / block.x / block.y);
            blockDim = block;
            gridDim = grid;
            for (unsigned b = 0; b < grid.x * grid.y * grid.z; ++b) {
                blockIdx = dim3(b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y);
                kernel(arguments...);
                __syncthreads();  // the next block uses the same shared memory
            }
        });
    }
    for (auto& thread : team) thread.join();
    for (auto& barrier : shim_barriers) pthread_barrier_destroy(&barrier);
    return cudaSuccess;
}
