"""The vector quantisation oracle against small cases done by hand."""

from __future__ import annotations

import numpy as np

from tests.oracle import vector_quantize as oracle


def test_distances_by_hand():
    z, codebook = np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[3.0, 4.0], [0.0, 0.0], [-1.0, 1.0]])
    assert oracle.distances(z, codebook).tolist() == [[25, 0, 2], [0, 25, 25]]
    assert (
        oracle.distances(z[:0], codebook).shape == (0, 3)
        and oracle.distances(z[:, :0], codebook[:, :0]).tolist() == [[0] * 3] * 2
    )


def test_every_code_is_nearest_to_itself():
    codebook = np.random.default_rng(0).normal(size=(40, 7)).astype(np.float32)
    quantized, indices = oracle.vector_quantize(codebook, codebook)
    assert indices.tolist() == list(range(40)) and quantized.dtype == np.float32 and (quantized == codebook).all()


def test_a_line_is_cut_at_midpoints_and_ties_go_to_the_lowest():
    codebook = np.array([[4.0], [0.0], [2.0], [0.0]])
    z = np.array([[-9.0], [0.9], [1.0], [1.1], [3.0], [3.1]])
    assert oracle.vector_quantize(z, codebook)[1].tolist() == [1, 1, 1, 2, 0, 0]


def test_nan_is_never_nearest():
    codebook = np.array([[np.nan, 0.0], [5.0, 5.0], [1.0, 1.0]])
    z = np.array([[0.0, 0.0], [np.nan, 0.0], [np.inf, 0.0]])
    assert oracle.vector_quantize(z, codebook)[1].tolist() == [2, 0, 0]


def test_excess_is_zero_at_the_nearest_and_positive_elsewhere():
    rng = np.random.default_rng(1)
    z, codebook = rng.normal(size=(30, 5)), rng.normal(size=(9, 5))
    indices = oracle.vector_quantize(z, codebook)[1]
    assert (oracle.excess(z, codebook, indices) == 0).all()
    assert (oracle.excess(z, codebook, (indices + 1) % 9) > 0).all()


def test_magnitude_covers_what_a_search_compares():
    rng = np.random.default_rng(2)
    z, codebook = rng.normal(size=(30, 5)), rng.normal(size=(9, 5))
    compared = np.square(codebook).sum(axis=1) / 2 - z @ codebook.T
    assert (abs(compared).max(axis=1) <= oracle.magnitude(z, codebook)).all()
    np.testing.assert_array_equal(compared.argmin(axis=1), oracle.vector_quantize(z, codebook)[1])
