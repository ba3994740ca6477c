// The one way CPU kernels use several threads.
#pragma once

#include <cstdint>
#include <functional>

namespace lapcore {

// Calls task(0) .. task(count - 1), each once, on up to `threads` threads. Rethrows the first exception.
// Runs on the OpenMP pool that torch already has in the process (see threads.cpp); without one, on plain threads.
void parallel_for(std::int64_t count, int threads, const std::function<void(std::int64_t)>& task);

}  // namespace lapcore
