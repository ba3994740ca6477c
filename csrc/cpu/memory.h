// The memory of large outputs, and how they are written.
#pragma once

#include <cstddef>

#include "common/view.h"

namespace lapcore {

// Asks for huge pages, where the system leaves the choice to programs: a fresh output of 100 MB costs 25,000 page
// faults in pages of 4 KiB, which is several times what a kernel takes to fill it. NumPy does the same.
void prefer_huge_pages(void* data, std::size_t bytes);
void prefer_huge_pages(const View& view, std::size_t item_bytes);

// Whether an output is too large to be found in a cache by whoever reads it.
bool prefer_streaming(const View& view, std::size_t item_bytes);

// Memory for one large output. What is given back is kept, up to kKeptBytes in all, for the next that fits: fresh
// memory is cleared by the system page by page, which for a large image takes longer than to compute it.
class Block {
public:
    static constexpr std::size_t kKeptBytes = std::size_t{1} << 28;

    explicit Block(std::size_t bytes);  // throws std::bad_alloc
    ~Block();
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;

    void* data() const { return data_; }
    std::size_t bytes() const { return bytes_; }

private:
    void* data_;
    std::size_t bytes_, room_;
};

// Gives what is kept back to the system, and says how many bytes that were.
std::size_t release_kept_blocks();

}  // namespace lapcore
