// Drives parallel_for alone, for ThreadSanitizer and for states that Python cannot bring about. Prints nothing and ends
// with 0 if all holds.
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "cpu/threads.h"

using lapcore::parallel_for;

namespace {

void check(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "does not hold: %s\n", what);
    std::_Exit(1);
}

// Every task writes where no other does, without a lock: a task that runs twice, or after the call, is a race.
void each_once(std::int64_t count, int threads) {
    std::vector<int> calls(static_cast<std::size_t>(count), 0);
    parallel_for(count, threads, [&](std::int64_t i) { ++calls[static_cast<std::size_t>(i)]; });
    for (const int n : calls) check(n == 1, "each task is called once");
}

void counts() {
    for (int round = 0; round < 200; ++round) {
        for (const std::int64_t count : {0, 1, 2, 3, 7, 64, 1000}) {
            for (const int threads : {-1, 0, 1, 2, 3, 8}) each_once(count, threads);
        }
    }
}

void callers() {
    std::vector<std::thread> all;
    for (int t = 0; t < 16; ++t) {
        all.emplace_back([] {
            for (int round = 0; round < 200; ++round) each_once(1 + round % 50, 1 + round % 5);
        });
    }
    for (auto& each : all) each.join();
}

void nested() {
    std::atomic<std::int64_t> sum{0};
    parallel_for(20, 4, [&](std::int64_t) { parallel_for(20, 4, [&](std::int64_t j) { sum += j; }); });
    check(sum == 20 * 190, "tasks may have tasks");
}

void exceptions() {
    for (int round = 0; round < 300; ++round) {
        std::string caught;
        try {
            parallel_for(1000, 4, [&](std::int64_t i) {
                if (i == round) throw std::runtime_error("task");
            });
        } catch (const std::runtime_error& error) {
            caught = error.what();
        }
        check(caught == "task", "an exception reaches the caller");
        each_once(100, 4);
    }
}

// Workers, which are patient for 1 ms, go to sleep between these calls.
void pauses() {
    for (int round = 0; round < 50; ++round) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        each_once(64, 4);
    }
}

bool child_works() {
    const pid_t child = fork();
    if (child == 0) {
        each_once(1000, 4);
        std::_Exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void forks() {
    std::atomic<bool> stop{false};
    std::vector<std::thread> busy;
    for (int t = 0; t < 3; ++t) {
        busy.emplace_back([&] {
            while (!stop) each_once(200, 4);
        });
    }
    for (int round = 0; round < 100; ++round) check(child_works(), "a forked child computes");
    stop = true;
    for (auto& each : busy) each.join();
    check(child_works(), "a forked child computes after the calls");
    each_once(1000, 4);
}

// Tasks see no other processors than their caller may use.
void affinity() {
    cpu_set_t all, one;
    sched_getaffinity(0, sizeof(all), &all);
    if (CPU_COUNT(&all) < 2) return;
    CPU_ZERO(&one);
    int last = CPU_SETSIZE - 1;
    while (!CPU_ISSET(last, &all)) --last;
    CPU_SET(last, &one);
    const auto sees = [](const cpu_set_t& wanted) {
        std::atomic<bool> equal{true};
        parallel_for(64, 4, [&](std::int64_t) {
            cpu_set_t mine;
            sched_getaffinity(0, sizeof(mine), &mine);
            if (!CPU_EQUAL(&mine, &wanted)) equal = false;
            std::this_thread::sleep_for(std::chrono::microseconds(200));
        });
        return equal.load();
    };
    for (int round = 0; round < 5; ++round) {
        check(sees(all), "tasks run where the caller may");
        sched_setaffinity(0, sizeof(one), &one);
        check(sees(one), "tasks follow the caller to one processor");
        sched_setaffinity(0, sizeof(all), &all);
    }
}

}  // namespace

int main(int count, char** names) {
    const struct {
        const char* name;
        void (*run)();
    } checks[] = {{"counts", counts}, {"callers", callers}, {"nested", nested},    {"exceptions", exceptions},
                  {"pauses", pauses}, {"forks", forks},     {"affinity", affinity}};
    for (const auto& each : checks) {
        if (count == 2 && std::strcmp(names[1], each.name) == 0) {
            each.run();
            return 0;
        }
    }
    std::fprintf(stderr, "which check?\n");
    return 2;
}
