// The CUDA that our kernels use, on a CPU: every CUDA thread of a block is a host thread, __syncthreads a real barrier,
// and shared memory a static array, so that AddressSanitizer and ThreadSanitizer see what the kernel does. Blocks run
// one after another. Lanes of a warp meet at barriers of their own to exchange registers.
#pragma once

#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline

using std::max;
using std::min;

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

template <class T>
T __ldg(const T* at) {
    return *at;
}
template <class T>
void __stcg(T* at, T value) {
    *at = value;
}

inline thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

// Two barriers by turns: ThreadSanitizer lets a thread that leaves one late see all that entered it since, so that with
// a single one a missing __syncthreads would go unnoticed.
struct ShimBarriers {
    pthread_barrier_t barriers[2];

    explicit ShimBarriers(unsigned threads) {
        for (auto& barrier : barriers) pthread_barrier_init(&barrier, nullptr, threads);
    }
    ShimBarriers(const ShimBarriers&) = delete;
    ~ShimBarriers() {
        for (auto& barrier : barriers) pthread_barrier_destroy(&barrier);
    }
    void wait(int& turn) {
        pthread_barrier_wait(&barriers[turn]);
        turn ^= 1;
    }
};

struct ShimMatrices {
    float a[16][16], b[16][8];
};

struct ShimWarp {
    ShimBarriers barriers;
    double lanes[2][32];
    ShimMatrices matrices[2];
    explicit ShimWarp(unsigned threads) : barriers(threads) {}
};

inline thread_local ShimBarriers* shim_block = nullptr;
inline thread_local ShimWarp* shim_warp = nullptr;
inline thread_local int shim_block_turn = 0, shim_warp_turn = 0;
inline thread_local unsigned shim_lane = 0, shim_lanes = 0;
inline thread_local unsigned char* shim_dynamic = nullptr;

inline void __syncthreads() { shim_block->wait(shim_block_turn); }

// Every lane of the warp gives a value and takes that of another one. The two rows of slots are used by turns: a lane
// writes to one again only past a barrier that all have reached after reading it.
template <class T>
T shim_exchange(T value, unsigned from) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(double));
    double (&slots)[32] = shim_warp->lanes[shim_warp_turn];
    std::memcpy(&slots[shim_lane], &value, sizeof value);
    shim_warp->barriers.wait(shim_warp_turn);
    std::memcpy(&value, &slots[from < shim_lanes ? from : shim_lane], sizeof value);
    return value;
}

template <class T>
T __shfl_sync(unsigned, T value, int lane) {
    return shim_exchange(value, static_cast<unsigned>(lane));
}

template <class T>
T __shfl_up_sync(unsigned, T value, unsigned delta) {
    return shim_exchange(value, shim_lane - delta);
}

template <class T>
T __shfl_down_sync(unsigned, T value, unsigned delta) {
    return shim_exchange(value, shim_lane + delta);
}

template <class T>
T __shfl_xor_sync(unsigned, T value, unsigned mask) {
    return shim_exchange(value, shim_lane ^ mask);
}

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9 };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount = 16, cudaDevAttrMaxSharedMemoryPerBlockOptin = 97 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
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

// One multiprocessor, with the shared memory of a Hopper card.
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
    *value = attribute == cudaDevAttrMultiProcessorCount ? 1 : 227 * 1024;
    return cudaSuccess;
}

// What a kernel may have of shared memory; 48 KiB until it asks for more.
template <class Kernel>
std::size_t& shim_shared_limit(Kernel* kernel) {
    static std::vector<std::pair<Kernel*, std::size_t>> limits;
    for (auto& [known, bytes] : limits)
        if (known == kernel) return bytes;
    limits.reserve(64);
    return limits.emplace_back(kernel, 48 * 1024).second;
}

template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel* kernel, cudaFuncAttribute, int value) {
    if (value > 227 * 1024) return cudaErrorInvalidValue;
    shim_shared_limit(kernel) = static_cast<std::size_t>(value);
    return cudaSuccess;
}

// Host threads that stay from launch to launch; sanitizers take long to make new ones.
class ShimTeam {
public:
    ~ShimTeam() {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            stopping_ = true;
        }
        started_.notify_all();
        for (auto& thread : threads_) thread.join();
    }

    // Runs job(t) for every t below count, on a thread each.
    void run(unsigned count, const std::function<void(unsigned)>& job) {
        std::unique_lock<std::mutex> lock(mutex_);
        while (threads_.size() < count) {
            threads_.emplace_back(
                [this, t = static_cast<unsigned>(threads_.size()), seen = launch_] { work(t, seen); });
        }
        job_ = &job;
        count_ = busy_ = count;
        ++launch_;
        started_.notify_all();
        finished_.wait(lock, [&] { return busy_ == 0; });
    }

private:
    void work(unsigned t, unsigned seen) {
        std::unique_lock<std::mutex> lock(mutex_);
        while (true) {
            started_.wait(lock, [&] { return stopping_ || launch_ != seen; });
            if (stopping_) return;
            seen = launch_;
            if (t >= count_) continue;
            const std::function<void(unsigned)>& job = *job_;
            lock.unlock();
            job(t);
            lock.lock();
            if (--busy_ == 0) finished_.notify_one();
        }
    }

    std::vector<std::thread> threads_;
    std::mutex mutex_;
    std::condition_variable started_, finished_;
    const std::function<void(unsigned)>* job_ = nullptr;
    unsigned count_ = 0, busy_ = 0, launch_ = 0;
    bool stopping_ = false;
};

inline ShimTeam shim_team;

// A launch on the stream 13 is refused, so that the way of an error can be tested.
template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               const Arguments&... arguments) {
    const dim3 grid = config->gridDim, block = config->blockDim;
    const unsigned threads = block.x * block.y * block.z;
    const bool refused = config->stream == reinterpret_cast<cudaStream_t>(13);
    if (refused || config->dynamicSmemBytes > shim_shared_limit(kernel) || threads == 0 || threads > 1024 ||
        grid.x == 0 || grid.y > 65535 || grid.z > 65535 || grid.y == 0 || grid.z == 0) {
        return cudaErrorInvalidConfiguration;
    }
    ShimBarriers barriers(threads);
    std::vector<std::unique_ptr<ShimWarp>> warps;
    for (unsigned t = 0; t < threads; t += 32) warps.push_back(std::make_unique<ShimWarp>(std::min(32u, threads - t)));
    const std::unique_ptr<unsigned char[]> dynamic(new unsigned char[config->dynamicSmemBytes]);
    std::memset(dynamic.get(), 0xff, config->dynamicSmemBytes);  // NaN in every dtype
    shim_team.run(threads, [&](unsigned t) {
        threadIdx = dim3(t % block.x, t / block.x % block.y, t / block.x / block.y);
        blockDim = block;
        gridDim = grid;
        shim_block = &barriers;
        shim_warp = warps[t / 32].get();
        shim_block_turn = shim_warp_turn = 0;
        shim_lane = t % 32;
        shim_lanes = std::min(32u, threads - t / 32 * 32);
        shim_dynamic = dynamic.get();
        for (unsigned b = 0; b < grid.x * grid.y * grid.z; ++b) {
            blockIdx = dim3(b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y);
            kernel(arguments...);
            __syncthreads();  // the next block uses the same shared memory
        }
    });
    return cudaSuccess;
}

namespace lapcore::cuda {
inline unsigned char* dynamic_shared() { return shim_dynamic; }
}  // namespace lapcore::cuda
