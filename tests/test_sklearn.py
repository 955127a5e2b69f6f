"""LocationEmbedder is a scikit-learn transformer, by scikit-learn's own checks."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import estimator_checks_generator
from small import make_encoder

from satclip_lib.checkpoints.store import save_pretrained
from satclip_lib.embedding.embed import embed
from satclip_lib.embedding.sklearn import LocationEmbedder


@pytest.fixture
def table():
    """Thirty places with a height."""
    rng = np.random.default_rng(0)
    columns = {"height_m": rng.random(30), "lat": rng.uniform(-90, 90, 30)}
    return pd.DataFrame(columns | {"lon": rng.uniform(-180, 180, 30)}, index=np.arange(30) + 100)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A small location encoder on disk."""
    return str(save_pretrained(make_encoder(), tmp_path_factory.mktemp("models") / "tiny"))


CHECKS = [
    (check, estimator)
    for missing in ("raise", "propagate")
    for estimator, check in estimator_checks_generator(
        LocationEmbedder("", columns=(0, 1), missing=missing, wrap_longitude=True), legacy=True
    )
    if missing == "raise" or "nan" in check.func.__name__ or "tags" in check.func.__name__
]
NO_LATITUDES = {"check_fit_idempotent", "check_fit_check_is_fitted", "check_n_features_in"}


@pytest.mark.parametrize(
    ("check", "estimator"), CHECKS, ids=[f"{c.func.__name__}-{e.missing}" for c, e in CHECKS]
)
def test_passes_the_checks_of_scikit_learn(check, estimator, checkpoint, shape_checks_off):
    """All of scikit-learn's checks pass but three, whose numbers near 100 are no latitudes."""
    estimator.set_params(model=checkpoint)
    if check.func.__name__ in NO_LATITUDES:
        with pytest.raises(ValueError, match=r"latitudes \(column 1\) lie outside"):
            check(estimator)
    else:
        check(estimator)


def test_keeps_what_the_three_left_out_are_about(table, checkpoint):
    """Fitting twice changes nothing, fitted embedders say so, and count their columns."""
    embedder = LocationEmbedder(checkpoint)
    for call in (embedder.transform, embedder.get_feature_names_out):
        with pytest.raises(NotFittedError):
            call(table[["lon", "lat"]])
    first = embedder.fit(table[["lon", "lat"]]).transform(table[["lon", "lat"]])
    assert embedder.n_features_in_ == 2
    again = embedder.fit(table[["lon", "lat"]]).transform(table[["lon", "lat"]])
    np.testing.assert_array_equal(again, first)


def test_embeds_as_embed_does(table):
    """Numbers are those of embed(), whatever the order of named columns."""
    encoder = make_encoder()
    expected = embed(table, encoder)
    for names in (["lon", "lat"], ["lat", "lon"]):
        found = LocationEmbedder(encoder).set_output(transform="pandas").fit_transform(table[names])
        pd.testing.assert_frame_equal(found, expected)


def test_positions_decide_where_names_are_silent(table):
    """Arrays are longitude first; other names need ``columns``."""
    encoder = make_encoder()
    lonlat = table[["lon", "lat"]].to_numpy()
    expected = embed(lonlat, encoder)
    np.testing.assert_array_equal(LocationEmbedder(encoder).fit_transform(lonlat), expected)
    named = table.rename(columns={"lon": "east", "lat": "north"})
    found = LocationEmbedder(encoder, columns=("east", "north")).fit_transform(named)
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match=r"two columns, longitude and latitude, got 3"):
        LocationEmbedder(encoder).fit(named.to_numpy())


def test_clones_and_pickles(table, tmp_path):
    """A clone is unfitted; a pickle gives the same numbers where the checkpoint is gone."""
    folder = save_pretrained(make_encoder(), tmp_path / "model")
    embedder = LocationEmbedder(folder).fit(table[["lon", "lat"]])
    expected = embedder.transform(table[["lon", "lat"]])
    assert not hasattr(clone(embedder), "encoder_")
    (folder / "model.safetensors").unlink()
    again = pickle.loads(pickle.dumps(embedder))
    np.testing.assert_array_equal(again.transform(table[["lon", "lat"]]), expected)


def test_is_one_of_many_columns(table):
    """In a ColumnTransformer, named outputs and the index of the table are kept."""
    columns = ColumnTransformer(
        [("place", LocationEmbedder(make_encoder()), ["lat", "lon"])],
        remainder="passthrough",
    ).set_output(transform="pandas")
    found = columns.fit_transform(table)
    assert list(found.columns) == [f"place__embedding_{i}" for i in range(6)] + [
        "remainder__height_m"
    ]
    assert found.index.equals(table.index)
