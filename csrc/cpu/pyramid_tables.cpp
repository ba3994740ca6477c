// Any pair of 1-D operators, given as tables of taps: one along the columns, one along the rows. Sums run over the taps
// in the order of the tables.
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "cpu/pyramid.h"
#include "cpu/worker.h"

namespace lapcore::LAPCORE_ISA {

void apply_tables(const PyramidCall& call, const TapTable& rows, const TapTable& columns, const View& src,
                  const View* base, double alpha, const View& dst);

namespace {

template <class C>
struct Table {
    std::int64_t taps, n;
    std::vector<std::int32_t> index;
    const C* weight;

    Table(const TapTable& table, std::int64_t n, std::int64_t n_src)
        : taps(table.count), n(n), index(table.count * n), weight(static_cast<const C*>(table.weight)) {
        if (n_src >= INT32_MAX) throw std::invalid_argument("src: sides of 2^31 - 1 and more need filter 'binomial'");
        for (std::size_t e = 0; e < index.size(); ++e) index[e] = static_cast<std::int32_t>(table.index[e]);
    }
};

// The line of output row i: sum_k weight[k, i] row(index[k, i]).
template <class C>
void combine(const Table<C>& rows, std::int64_t i, const Rows<C>& source, std::int64_t width, C* line) {
    std::fill(line, line + width, C(0));
    for (std::int64_t k = 0; k < rows.taps; ++k) {
        const C weight = rows.weight[k * rows.n + i];
        if (weight == 0) continue;
        const C* row = source(rows.index[k * rows.n + i]);
        for (std::int64_t x = 0; x < width; ++x) line[x] += row[x] * weight;
    }
}

// out[x] = sum_k weight[k, x] line[index[k, x]]; the line has a zero behind its end.
template <class C>
void along(const Table<C>& columns, const C* line, C* out) {
    std::fill(out, out + columns.n, C(0));
    for (std::int64_t k = 0; k < columns.taps; ++k) {
        const std::int32_t* index = columns.index.data() + k * columns.n;
        const C* weight = columns.weight + k * columns.n;
        for (std::int64_t x = 0; x < columns.n; ++x) out[x] += line[index[x]] * weight[x];
    }
}

template <class F>
void apply(const PyramidCall& call, const TapTable& row_taps, const TapTable& column_taps, const View& src,
           const View* base, double alpha, const View& dst) {
    using C = typename F::Sum;
    const Size from = size_of(src), to = size_of(dst);
    const Table<C> rows(row_taps, to.h, from.h), columns(column_taps, to.w, from.w);
    over_strips(src, to.h, to.w, call.threads, [&](std::int64_t plane, std::int64_t first, std::int64_t last) {
        Worker<F> worker(std::max(from.w, to.w), 1);
        const Buffer<C> line(from.w + 1), out_row(to.w);  // a base may be where the outputs go
        C* const out = out_row.get();
        const Rows<C> source = worker.rows(plane_of(src, call.dtype, plane), from.w, 0);
        const Rows<C> added = worker.rows(plane_of(base ? *base : dst, call.dtype, plane), to.w, 1);
        const Plane target = plane_of(dst, call.dtype, plane);
        line.get()[from.w] = 0;
        for (std::int64_t i = first; i < last; ++i) {
            combine(rows, i, source, from.w, line.get());
            along(columns, line.get(), out);
            if (base) {
                const C* row = added(i);
                for (std::int64_t x = 0; x < to.w; ++x) out[x] = row[x] + static_cast<C>(alpha) * out[x];
            }
            store_samples(out, to.w, target, i);
        }
    });
}

}  // namespace

void apply_tables(const PyramidCall& call, const TapTable& rows, const TapTable& columns, const View& src,
                  const View* base, double alpha, const View& dst) {
    switch (call.dtype) {
        case DType::float16:
        case DType::bfloat16:
        case DType::float32: return apply<Float>(call, rows, columns, src, base, alpha, dst);
        case DType::float64: return apply<Double>(call, rows, columns, src, base, alpha, dst);
        default: throw std::invalid_argument("src: integers need filter 'binomial'");
    }
}

}  // namespace lapcore::LAPCORE_ISA
