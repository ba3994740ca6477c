#include "cpu/threads.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>

#include "cpu/affinity.h"
#include "cpu/openmp.h"
#include "cpu/pool.h"

namespace lapcore {
namespace {

// The threads that a process has for its jobs. They are never destroyed: the end of a process need not wait for them.
struct Threads {
    OpenMP openmp;
    Pool pool;
};

// Tells whether this process was forked by another and is still its program, also where that was before this library
// was loaded. Source: Linux, include/linux/sched.h, PF_FORKNOEXEC, and proc(5), field 9 of /proc/pid/stat.
bool is_forked() {
    std::ifstream file("/proc/self/stat");
    std::string line;
    std::getline(file, line);
    std::istringstream fields(line.substr(line.rfind(')') + 1));
    std::string skipped;
    for (int field = 3; field < 9; ++field) fields >> skipped;
    unsigned long flags = 0;
    return line.rfind(')') != std::string::npos && fields >> flags && (flags & 0x40);
}

std::atomic<Threads*> current{nullptr};
std::atomic<bool> forked{is_forked()};

// A forked child has none of its parent's threads, and may have inherited locks that one of them held. It begins anew,
// without OpenMP, whose runtime would wait for the parent's.
[[maybe_unused]] const int at_fork = pthread_atfork(nullptr, nullptr, [] {
    current = nullptr;
    forked = true;
});

Threads& of_this_process() {
    Threads* found = current;
    if (found) return *found;
    auto fresh = std::make_unique<Threads>();
    return current.compare_exchange_strong(found, fresh.get()) ? *fresh.release() : *found;
}

}  // namespace

void parallel_for(std::int64_t count, int threads, const std::function<void(std::int64_t)>& task) {
    if (threads > 1 && count > 1) {
        const Affinity affinity;
        const int useful = affinity.limit(static_cast<int>(std::min<std::int64_t>(threads, count)));
        if (useful > 1) {
            Job job(count, task, affinity);
            Threads& of_process = of_this_process();
            if (forked || !of_process.openmp.run(job, useful)) of_process.pool.run(job, useful - 1);
            job.rethrow();
            return;
        }
    }
    for (std::int64_t i = 0; i < count; ++i) task(i);
}

}  // namespace lapcore
