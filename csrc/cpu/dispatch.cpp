#include "cpu/dispatch.h"

#include <atomic>
#include <stdexcept>

namespace lapcore {

namespace baseline {
extern const Kernels kernels;
}
#if defined(LAPCORE_X86)
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
#endif

namespace {

std::vector<const Kernels*> runnable() {
    std::vector<const Kernels*> found{&baseline::kernels};
#if defined(LAPCORE_X86)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("x86-64-v3")) found.push_back(&avx2::kernels);
    if (__builtin_cpu_supports("x86-64-v4")) found.push_back(&avx512::kernels);
#endif
    return found;
}

std::atomic<const Kernels*>& chosen() {
    static std::atomic<const Kernels*> current{runnable().back()};
    return current;
}

}  // namespace

const Kernels& kernels() { return *chosen().load(std::memory_order_relaxed); }

std::string isa() { return kernels().name; }

std::vector<std::string> isas() {
    std::vector<std::string> names;
    for (const auto* set : runnable()) names.emplace_back(set->name);
    return names;
}

void use_isa(const std::string& name) {
    for (const auto* set : runnable()) {
        if (name == set->name) {
            chosen() = set;
            return;
        }
    }
    throw std::invalid_argument("isa: this CPU or build has no '" + name + "'");
}

}  // namespace lapcore
