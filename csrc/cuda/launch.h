// Starting a kernel; what CUDA refuses becomes an exception.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace lapcore::cuda {

inline void check(cudaError_t error) {
    if (error != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
}

inline int attribute(cudaDeviceAttr which) {
    int device = 0, value = 0;
    check(cudaGetDevice(&device));
    check(cudaDeviceGetAttribute(&value, which, device));
    return value;
}

inline int multiprocessors() { return attribute(cudaDevAttrMultiProcessorCount); }

#if defined(__CUDACC__)
// What a launch gave a block of shared memory, aligned for any access.
__device__ inline unsigned char* dynamic_shared() {
    extern __shared__ __align__(16) unsigned char memory[];
    return memory;
}
#endif

constexpr std::size_t kSharedWithoutAsking = 48 * 1024;

template <class... Parameters, class... Arguments>
void launch_with_shared(void (*kernel)(Parameters...), std::int64_t blocks, int threads, std::size_t shared,
                        void* stream, const Arguments&... arguments) {
    if (shared > kSharedWithoutAsking) {
        check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)));
    }
    constexpr std::int64_t kMostBlocks = 2147483647;
    if (blocks > kMostBlocks) check(cudaErrorInvalidConfiguration);
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(blocks));
    config.blockDim = dim3(static_cast<unsigned>(threads));
    config.dynamicSmemBytes = shared;
    config.stream = static_cast<cudaStream_t>(stream);
    check(cudaLaunchKernelEx(&config, kernel, arguments...));
}

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), std::int64_t blocks, int threads, void* stream,
            const Arguments&... arguments) {
    launch_with_shared(kernel, blocks, threads, 0, stream, arguments...);
}

}  // namespace lapcore::cuda
