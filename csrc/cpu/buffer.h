// Memory for rows. Included once per instruction set.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace lapcore::LAPCORE_ISA {

// Uninitialised memory, aligned to a cache line, with room for a vector before and after what is asked for.
template <class C>
class Buffer {
public:
    Buffer() = default;
    explicit Buffer(std::int64_t count) {
        const std::size_t bytes = (std::size_t(count) * sizeof(C) + 2 * kLine + kLine - 1) / kLine * kLine;
        memory_.reset(static_cast<char*>(std::aligned_alloc(kLine, bytes)));
        if (!memory_) throw std::bad_alloc();
    }
    explicit operator bool() const { return memory_ != nullptr; }
    C* get() const { return reinterpret_cast<C*>(memory_.get() + kLine); }

private:
    static constexpr std::size_t kLine = 64;
    struct Free {
        void operator()(char* p) const { std::free(p); }
    };
    std::unique_ptr<char, Free> memory_;
};

}  // namespace lapcore::LAPCORE_ISA
