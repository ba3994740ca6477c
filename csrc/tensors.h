// How the functions of lapcore._C take tensors: as addresses, shapes and strides.
#pragma once

#include <pybind11/stl.h>

#include <cstdint>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "common/gaussian.h"
#include "common/random.h"
#include "common/taps.h"
#include "common/view.h"

namespace lapcore {

struct Tensor {
    std::uintptr_t address = 0;
    std::vector<std::int64_t> shape, strides;
};
using TapsTensor = std::tuple<std::uintptr_t, std::uintptr_t, std::int64_t>;  // index, weight, how many

using SeedsTensor = std::tuple<std::uintptr_t, std::int64_t, bool, std::int64_t>;  // address, stride, per row, stream
using RowsTensor = std::pair<std::uintptr_t, std::int64_t>;                        // address, stride of a row

inline void* pointer(std::uintptr_t address) { return reinterpret_cast<void*>(address); }

inline View view_of(const Tensor& tensor) { return {pointer(tensor.address), tensor.shape, tensor.strides}; }

inline std::vector<View> views_of(const std::vector<Tensor>& tensors) {
    std::vector<View> views;
    for (const Tensor& tensor : tensors) views.push_back(view_of(tensor));
    return views;
}

inline TapTable table_of(const TapsTensor& taps) {
    const auto& [index, weight, count] = taps;
    return {static_cast<const std::int64_t*>(pointer(index)), pointer(weight), count};
}

inline Seeds seeds_of(const SeedsTensor& seeds) {
    const auto& [address, stride, per_row, stream] = seeds;
    return {static_cast<const std::int64_t*>(pointer(address)), stride, per_row, std::uint64_t(stream)};
}

inline Rows rows_of(const RowsTensor& rows) { return {pointer(rows.first), rows.second}; }
inline Rows rows_of(const std::optional<RowsTensor>& rows) { return rows ? rows_of(*rows) : Rows{}; }

}  // namespace lapcore

// Tuples are taken apart by hand: for the small images of a call, pybind11's general way costs as much as the kernel.
namespace pybind11::detail {
template <>
struct type_caster<lapcore::Tensor> {
    PYBIND11_TYPE_CASTER(lapcore::Tensor, const_name("tuple[int, tuple[int, ...], tuple[int, ...]]"));

    bool load(handle source, bool) {
        PyObject* const tuple = source.ptr();
        if (!PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) != 3) return false;
        value.address = PyLong_AsSize_t(PyTuple_GET_ITEM(tuple, 0));
        const bool loaded = load_ints(PyTuple_GET_ITEM(tuple, 1), value.shape) &&
                            load_ints(PyTuple_GET_ITEM(tuple, 2), value.strides) && !PyErr_Occurred();
        PyErr_Clear();  // of an item that is no integer, or too large a one: no overload takes it
        return loaded;
    }

private:
    static bool load_ints(PyObject* tuple, std::vector<std::int64_t>& ints) {
        if (!PyTuple_Check(tuple)) return false;
        const Py_ssize_t count = PyTuple_GET_SIZE(tuple);
        ints.resize(std::size_t(count));
        for (Py_ssize_t i = 0; i < count; ++i) ints[std::size_t(i)] = PyLong_AsLongLong(PyTuple_GET_ITEM(tuple, i));
        return true;
    }
};
}  // namespace pybind11::detail
