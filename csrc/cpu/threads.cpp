// A second OpenMP runtime, or a pool of our own, would fight torch's spinning workers for the cores in mixed work. So
// the parallel-region entry of the runtime that torch has loaded into the process is looked up and used: GOMP_parallel,
// which GCC's libgomp defines and LLVM's and Intel's libomp export for compatibility.
#include "cpu/threads.h"

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace lapcore {
namespace {

using GompParallel = void (*)(void (*)(void*), void*, unsigned, unsigned);

GompParallel find_openmp() {
    static const auto entry = reinterpret_cast<GompParallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    return entry;
}

struct Region {
    const std::function<void(std::int64_t)>& task;
    std::int64_t count;
    std::atomic<std::int64_t> next{0};
    std::mutex mutex;
    std::exception_ptr error;

    void work() {
        try {
            for (std::int64_t i = next++; i < count; i = next++) task(i);
        } catch (...) {
            const std::lock_guard<std::mutex> lock(mutex);
            if (!error) error = std::current_exception();
            next = count;
        }
    }
};

void work(void* region) { static_cast<Region*>(region)->work(); }

void run_plain(Region& region, int threads) {
    std::vector<std::thread> others;
    for (int t = 1; t < threads; ++t) others.emplace_back(work, &region);
    region.work();
    for (auto& other : others) other.join();
}

}  // namespace

void parallel_for(std::int64_t count, int threads, const std::function<void(std::int64_t)>& task) {
    threads = static_cast<int>(std::min<std::int64_t>(threads, count));
    if (threads <= 1) {
        for (std::int64_t i = 0; i < count; ++i) task(i);
        return;
    }
    Region region{task, count, {}, {}, {}};
    if (const auto openmp = find_openmp()) {
        openmp(work, &region, static_cast<unsigned>(threads), 0);
    } else {
        run_plain(region, threads);
    }
    if (region.error) std::rethrow_exception(region.error);
}

}  // namespace lapcore
