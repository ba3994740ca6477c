// Which processors a thread may run on is asked and told here.
#pragma once

#if defined(__linux__)
#include <sched.h>
#endif

namespace lapcore {

#if defined(__linux__)

class Affinity {
public:
    // Asks for the calling thread's. Beyond CPU_SETSIZE processors the system refuses to tell, and nothing is known.
    Affinity() : known_(sched_getaffinity(0, sizeof(cpus_), &cpus_) == 0) {}

    // Tells how many of `threads` can run at once.
    int limit(int threads) const { return known_ && CPU_COUNT(&cpus_) < threads ? CPU_COUNT(&cpus_) : threads; }

    // Moves the calling thread to these processors.
    void apply() const {
        if (known_) sched_setaffinity(0, sizeof(cpus_), &cpus_);
    }

    bool operator==(const Affinity& other) const {
        return known_ == other.known_ && (!known_ || CPU_EQUAL(&cpus_, &other.cpus_));
    }

private:
    cpu_set_t cpus_;
    bool known_;
};

#else

class Affinity {
public:
    int limit(int threads) const { return threads; }
    void apply() const {}
    bool operator==(const Affinity&) const { return true; }
};

#endif

}  // namespace lapcore
