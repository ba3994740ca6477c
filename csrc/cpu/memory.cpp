#include "cpu/memory.h"

#include <pthread.h>

#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace lapcore {
namespace {

constexpr std::size_t kHugePage = std::size_t{1} << 21;
constexpr std::size_t kWorthwhile = 2 * kHugePage;
constexpr std::size_t kGrain = std::size_t{1} << 16;
constexpr std::size_t kStreamed = std::size_t{1} << 24;

// What a block's size is rounded up to.
std::size_t grain_of(std::size_t bytes) { return bytes < kWorthwhile ? kGrain : kHugePage; }

std::size_t bytes_of(const View& view, std::size_t item_bytes) {
    return std::size_t(view.planes() * view.height() * view.width()) * item_bytes;
}

bool contiguous(const View& view) {
    std::int64_t expected = 1;
    for (std::size_t d = view.shape.size(); d-- > 0;) {
        if (view.shape[d] != 1 && view.strides[d] != expected) return false;
        expected *= view.shape[d];
    }
    return true;
}

struct Kept {
    void* data;
    std::size_t room;
};

// Never destroyed: blocks may outlive the statics of this library.
struct Store {
    std::mutex mutex;
    std::vector<Kept> blocks;  // in the order they came back
    std::size_t bytes = 0;
};

Store& store() {
    static Store* const only = new Store;
    return *only;
}

// A child that is forked while another thread holds the lock would never get it.
[[maybe_unused]] const int at_fork =
    pthread_atfork([] { store().mutex.lock(); }, [] { store().mutex.unlock(); }, [] { store().mutex.unlock(); });

// A kept block with room for that many bytes, and for not many more; {} if there is none.
Kept take(std::size_t bytes) {
    Store& kept = store();
    const std::lock_guard<std::mutex> lock(kept.mutex);
    for (std::size_t i = kept.blocks.size(); i-- > 0;) {
        const Kept block = kept.blocks[i];
        if (block.room < bytes || block.room - bytes > bytes / 4 + grain_of(bytes)) continue;
        kept.blocks.erase(kept.blocks.begin() + std::ptrdiff_t(i));
        kept.bytes -= block.room;
        return block;
    }
    return {};
}

}  // namespace

Block::Block(std::size_t bytes) : bytes_(bytes) {
    const Kept kept = take(bytes);
    data_ = kept.data;
    room_ = kept.room;
    if (data_) return;
    const std::size_t grain = grain_of(bytes);
    room_ = (bytes + grain - 1) / grain * grain;
    data_ = std::aligned_alloc(grain, room_);
    if (!data_) throw std::bad_alloc();
    prefer_huge_pages(data_, room_);
}

Block::~Block() {
    std::vector<void*> surplus;
    {
        Store& kept = store();
        const std::lock_guard<std::mutex> lock(kept.mutex);
        kept.blocks.push_back({data_, room_});
        kept.bytes += room_;
        while (kept.bytes > kKeptBytes) {
            surplus.push_back(kept.blocks.front().data);
            kept.bytes -= kept.blocks.front().room;
            kept.blocks.erase(kept.blocks.begin());
        }
    }
    for (void* data : surplus) std::free(data);
}

std::size_t release_kept_blocks() {
    std::vector<Kept> all;
    {
        Store& kept = store();
        const std::lock_guard<std::mutex> lock(kept.mutex);
        all.swap(kept.blocks);
        kept.bytes = 0;
    }
    std::size_t bytes = 0;
    for (const Kept& block : all) {
        bytes += block.room;
        std::free(block.data);
    }
    return bytes;
}

void prefer_huge_pages(void* data, std::size_t bytes) {
#if defined(__linux__)
    if (bytes < kWorthwhile) return;
    const auto begin = (reinterpret_cast<std::uintptr_t>(data) + kHugePage - 1) / kHugePage * kHugePage;
    const auto end = (reinterpret_cast<std::uintptr_t>(data) + bytes) / kHugePage * kHugePage;
    if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
    (void)data;
    (void)bytes;
#endif
}

void prefer_huge_pages(const View& view, std::size_t item_bytes) {
    if (contiguous(view)) prefer_huge_pages(view.data, bytes_of(view, item_bytes));
}

bool prefer_streaming(const View& view, std::size_t item_bytes) { return bytes_of(view, item_bytes) >= kStreamed; }

}  // namespace lapcore
