// The one way CPU kernels use several threads.
#pragma once

#include <cstdint>
#include <functional>

namespace lapcore {

// Calls task(0) .. task(count - 1), each once, on up to `threads` threads of which the caller is one. Rethrows the
// first exception, after which no further task is begun. Which thread calls which task is left open.
void parallel_for(std::int64_t count, int threads, const std::function<void(std::int64_t)>& task);

}  // namespace lapcore
