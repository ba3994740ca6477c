// A job is what several threads share.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>

#include "cpu/affinity.h"

namespace lapcore {

// A job has tasks, which whoever works at it claims one by one.
class Job {
public:
    Job(std::int64_t count, const std::function<void(std::int64_t)>& task, const Affinity& affinity)
        : count_(count), task_(task), affinity_(affinity) {}

    void work() {
        try {
            for (std::int64_t i = next_++; i < count_; i = next_++) task_(i);
        } catch (...) {
            next_ = count_;
            if (!failed_.exchange(true)) error_ = std::current_exception();
        }
    }

    bool all_claimed() const { return next_ >= count_; }
    const Affinity& affinity() const { return affinity_; }

    void rethrow() const {
        if (error_) std::rethrow_exception(error_);
    }

private:
    const std::int64_t count_;
    const std::function<void(std::int64_t)>& task_;
    const Affinity& affinity_;
    std::atomic<std::int64_t> next_{0};
    std::atomic<bool> failed_{false};
    std::exception_ptr error_;
};

}  // namespace lapcore
