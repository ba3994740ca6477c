// Kernels run while other Python threads do.
#pragma once

#include <pybind11/pybind11.h>

namespace lapcore {

// Releases the GIL while it lives. At the end of the interpreter a daemon thread that wants the GIL back is unwound
// instead, through this destructor: in pybind11's gil_scoped_release, which may not throw, that ends the process.
class WithoutGil {
public:
    WithoutGil() : state_(PyEval_SaveThread()) {}
    ~WithoutGil() noexcept(false) { PyEval_RestoreThread(state_); }
    WithoutGil(const WithoutGil&) = delete;
    WithoutGil& operator=(const WithoutGil&) = delete;

private:
    PyThreadState* const state_;
};

}  // namespace lapcore
