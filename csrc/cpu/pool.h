// These threads are our own, and none is waited for before it has started. A caller offers its job to workers that are
// free, works itself, takes back the offers that nobody has accepted, and waits for the other workers alone. So a
// worker that the system does not run, because another process has its core, delays nobody.
#pragma once

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

#include "cpu/job.h"

namespace lapcore {

// To wake a thread costs whoever does it 10 us and takes 40, so both sides are patient before they sleep. A worker that
// waits for an offer yields its core to whoever wants it. A caller that waits for the last tasks spins: it would give
// away a whole time slice by yielding, where its worker is about to be done.
constexpr auto kWorkersPatience = std::chrono::microseconds(1000), kCallersPatience = std::chrono::microseconds(50);
constexpr int kMostWorkers = 255;

// Blocks all signals while it lives, for the workers that are created meanwhile inherit the mask: signals are for the
// program's own threads.
class SignalsBlocked {
public:
    SignalsBlocked() {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

private:
    sigset_t before_;
};

inline void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

inline void name_thread() {
#if defined(__linux__)
    pthread_setname_np(pthread_self(), "lapcore");
#endif
}

// Tells whether the condition came true in time.
template <class Condition, class Pause>
bool comes_true(const Condition& condition, std::chrono::microseconds patience, const Pause& pause) {
    using Clock = std::chrono::steady_clock;
    for (const auto end = Clock::now() + patience; Clock::now() < end; pause()) {
        if (condition()) return true;
    }
    return false;
}

// Threads wait here for a condition on atomics, and whoever made it true wakes them.
class Waiter {
public:
    template <class Condition>
    void wait(const Condition& condition) {
        std::unique_lock<std::mutex> lock(mutex_);
        ++asleep_;
        changed_.wait(lock, condition);
        --asleep_;
    }

    void wake() {
        if (asleep_ == 0) return;
        // A thread that counts as asleep may still be checking the condition.
        std::unique_lock<std::mutex>(mutex_).unlock();
        changed_.notify_all();
    }

private:
    std::atomic<int> asleep_{0};
    std::mutex mutex_;
    std::condition_variable changed_;
};

// A worker is a thread that works at jobs. It is never destroyed, so that the end of a process need not wait for it.
class Worker {
public:
    // Throws std::system_error where the system gives no further thread.
    Worker() { std::thread(&Worker::run, this).detach(); }

    // Offers the job to the worker if it is free, and tells whether it was.
    bool offer(const Job& job) {
        State free = kFree;
        if (!state_.compare_exchange_strong(free, offered(job))) return false;
        offers_.wake();
        return true;
    }

    // Takes back the offer, or waits until the worker has left the job.
    void finish(const Job& job) {
        State unseen = offered(job);
        if (state_.compare_exchange_strong(unseen, kFree)) return;
        const auto left = [&] { return state_ != working(job); };
        if (!comes_true(left, kCallersPatience, relax)) results_.wait(left);
    }

private:
    using State = std::uintptr_t;
    static constexpr State kFree = 0,
                           kWorking = 1;  // any other state is the address of a job, with kWorking added or not
    static State offered(const Job& job) { return reinterpret_cast<State>(&job); }
    static State working(const Job& job) { return offered(job) | kWorking; }

    void run() {
        name_thread();
        Affinity affinity;
        for (;;) {
            State offer = kFree;
            const auto has_offer = [&] { return (offer = state_) != kFree; };
            if (!comes_true(has_offer, kWorkersPatience, std::this_thread::yield)) offers_.wait(has_offer);
            if (!state_.compare_exchange_strong(offer, offer | kWorking)) continue;
            Job& job = *reinterpret_cast<Job*>(offer);
            if (!(affinity == job.affinity())) {
                affinity = job.affinity();
                affinity.apply();
            }
            job.work();
            state_ = kFree;
            results_.wake();
        }
    }

    std::atomic<State> state_{kFree};
    Waiter offers_, results_;
};

// The pool holds the workers of this process, as many as any job has asked for.
class Pool {
public:
    void run(Job& job, int helpers) {
        helpers = std::min(helpers, kMostWorkers);
        grow(helpers);
        Worker* offered[kMostWorkers];
        int count = 0;
        for (int i = 0; i < size_ && count < helpers && !job.all_claimed(); ++i) {
            if (workers_[i]->offer(job)) offered[count++] = workers_[i];
        }
        job.work();
        for (int i = 0; i < count; ++i) offered[i]->finish(job);
    }

private:
    void grow(int wanted) {
        if (size_ >= wanted) return;
        const SignalsBlocked blocked;
        const std::lock_guard<std::mutex> lock(growing_);
        try {
            for (int i = size_; i < wanted; size_ = ++i) workers_[i] = new Worker;
        } catch (const std::system_error&) {
            // The workers that are there share the work.
        }
    }

    std::array<Worker*, kMostWorkers> workers_{};
    std::atomic<int> size_{0};
    std::mutex growing_;
};

}  // namespace lapcore
