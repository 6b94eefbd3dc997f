"""Servables packed once for all tests that ask them: 40 items (all scored), 1,200 (hashed), one."""

import pytest

from tests.components.index_builder.packed import MAX_HISTORY, build


@pytest.fixture(scope="session")
def small(world, make_catalog, make_model, tmp_path_factory):
    model = make_model(make_catalog(40), max_history=MAX_HISTORY)
    return build(world, model, tmp_path_factory.mktemp("small"), top_k=6, num_candidates=15)


@pytest.fixture(scope="session")
def large(world, make_catalog, make_model, tmp_path_factory):
    model = make_model(make_catalog(1_200), max_history=MAX_HISTORY)
    config = {"top_k": 10, "num_candidates": 50, "min_recall": 0.9, "exact_below_items": 1_000}
    return build(world, model, tmp_path_factory.mktemp("large"), **config)


@pytest.fixture(scope="session")
def single(world, make_catalog, make_model, tmp_path_factory):
    """One item, and K and C larger than the catalog."""
    return build(
        world, make_model(make_catalog(1), max_history=MAX_HISTORY), tmp_path_factory.mktemp("single"), top_k=3
    )
