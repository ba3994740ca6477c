// PyTorch's own threads spin for milliseconds after each of its operations, so that right after one, others cannot have
// their cores, while they themselves are at once at work. But a parallel region ends with a barrier that waits for
// every one of them, also for one that the system does not run: where that has happened, they are left alone for a
// while.
#pragma once

#include <dlfcn.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <utility>

#include "cpu/job.h"

namespace lapcore {

class OpenMP {
public:
    // Does the job and tells so, or refuses it: while it does another, and for a while after it lost time.
    bool run(Job& job, int threads) {
        const auto start = Clock::now();
        if (!entry_ || start.time_since_epoch().count() < refused_until_ || in_use_.exchange(true)) return false;
        Region region{job};
        entry_(work, &region, static_cast<unsigned>(threads), 0);
        judge(region, start);
        in_use_ = false;
        return true;
    }

private:
    using Clock = std::chrono::steady_clock;
    // GCC's libgomp defines it, LLVM's and Intel's libomp export it for compatibility.
    using Entry = void (*)(void (*)(void*), void*, unsigned, unsigned);

    struct Region {
        Job& job;
        const std::thread::id caller = std::this_thread::get_id();
        Clock::duration worked{};  // counts the caller's processor time
    };

    static void work(void* data) {
        Region& region = *static_cast<Region*>(data);
        if (std::this_thread::get_id() != region.caller) return region.job.work();
        const auto start = processor_time();
        region.job.work();
        region.worked = processor_time() - start;
    }

    // Gives the processor time that the calling thread has used.
    static Clock::duration processor_time() {
        timespec time{};
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
        return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
    }

    // The caller lost its core to others, or waited for longer than last tasks take, and that twice within kSoon. A
    // refusal is longer than the last one, if that had just ended.
    void judge(const Region& region, Clock::time_point start) {
        const auto now = Clock::now();
        const auto lost = now - start - region.worked;
        if (lost < kLoss || lost < region.worked / 8) return;
        if (now - std::exchange(last_loss_, now) > kSoon) return;
        const bool again = now.time_since_epoch() < Clock::duration(refused_until_) + refusal_;
        refusal_ = again ? std::min<Clock::duration>(2 * refusal_, kLongestRefusal) : kShortestRefusal;
        refused_until_ = (now.time_since_epoch() + refusal_).count();
    }

    static constexpr Clock::duration kLoss = std::chrono::milliseconds(1), kSoon = std::chrono::milliseconds(20);
    static constexpr Clock::duration kShortestRefusal = std::chrono::milliseconds(100),
                                     kLongestRefusal = std::chrono::milliseconds(3200);

    const Entry entry_ = reinterpret_cast<Entry>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    std::atomic<bool> in_use_{false};
    std::atomic<Clock::rep> refused_until_{0};
    // These belong to whoever has it in use.
    Clock::duration refusal_ = kShortestRefusal;
    Clock::time_point last_loss_{};
};

}  // namespace lapcore
