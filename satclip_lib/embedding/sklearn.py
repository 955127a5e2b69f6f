"""A location encoder as a scikit-learn transformer."""

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import (
    _check_feature_names_in,
    check_array,
    check_is_fitted,
    validate_data,
)
from torch import nn

from satclip_lib.checkpoints.download import BUNDLED_MODEL
from satclip_lib.embedding.coordinates import find_lonlat
from satclip_lib.embedding.embed import NAME, check_num_dims, embed, resolve_encoder
from satclip_lib.embedding.retrieval import load_retrieval


class LocationEmbedder(TransformerMixin, BaseEstimator):
    """Turns longitude and latitude, degrees, into embeddings, inside a scikit-learn pipeline.

    Nothing is learned from the data: ``fit`` loads the model, checks that ``X`` holds two columns
    of numbers, and embeds the first location. A fitted embedder can be pickled with its weights.

    Args:
        model: What :func:`satclip_lib.load_location_encoder` takes, or a location encoder in eval
            mode. The default is the small model that travels with the package.
        num_dims: Number of first dimensions of an ordered embedding to keep; None keeps all.
        retrieval: Whether the groups ``zonal``, ``retrieved`` and ``local`` come before the
            embedding, see :func:`embed`.
        columns: Which two columns are longitude and latitude: positions, or names where ``X`` is a
            ``DataFrame``; the others are left out. None takes the columns called lon and lat, by
            the rule of :func:`embed`; where columns have no names, ``X`` must have only these two,
            longitude first.
        missing: How to treat NaN: "raise" an error, or "propagate" it to the embedding.
        wrap_longitude: Whether longitudes beyond 180 degrees are accepted.
        batch_size: Number of locations per forward pass; None takes as many as suit the device.

    Attributes:
        encoder_: The location encoder.
        retrieval_: The map of image components; None without ``retrieval``.
        n_features_in_: Number of columns of ``X`` in ``fit``.
        feature_names_in_: Names of these columns, where they are all strings.

    Example:
        >>> embedder = LocationEmbedder("satclip-resnet18-l40")
        >>> climate = make_pipeline(embedder, StandardScaler(), RidgeCV())
        >>> cross_val_score(climate, table[["lon", "lat"]], table.temperature_c)
    """

    def __init__(
        self,
        model: nn.Module | Path | str = BUNDLED_MODEL,
        *,
        num_dims: int | None = None,
        retrieval: bool = False,
        columns: tuple[Any, Any] | None = None,
        missing: str = "raise",
        wrap_longitude: bool = False,
        batch_size: int | None = None,
    ):
        self.model = model
        self.num_dims = num_dims
        self.retrieval = retrieval
        self.columns = columns
        self.missing = missing
        self.wrap_longitude = wrap_longitude
        self.batch_size = batch_size

    def fit(self, X: Any, y: Any = None) -> "LocationEmbedder":
        """Load the model.

        Args:
            X: Locations, ``(num_points, 2)`` degrees, or more columns with ``columns``.
            y: Not used.

        Raises:
            ValueError: If the model has no ordered embedding or map of images that is asked for,
                or ``X`` has no columns of longitude and latitude.
        """
        lonlat = self._read(X, reset=True)
        self.encoder_ = resolve_encoder(self.model)
        check_num_dims(self.num_dims, self.encoder_)
        self.retrieval_ = load_retrieval(self.model) if self.retrieval else None
        self._n_features_out = self._embed(lonlat[:1]).shape[1]
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Embed locations, ``(num_points, num_features)``, see :meth:`get_feature_names_out`.

        Raises:
            NotFittedError: Before ``fit``.
            ValueError: If ``X`` has other columns than in ``fit``, or a row is no location.
        """
        check_is_fitted(self)
        return self._embed(self._read(X, reset=False))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the columns of ``transform``: those of retrieval, then embedding_0, ..."""
        check_is_fitted(self)
        _check_feature_names_in(self, input_features)
        groups = self.retrieval_.groups if self.retrieval_ else {}
        groups = groups | {NAME: self._n_features_out - sum(groups.values())}
        names = [f"{group}_{i}" for group, count in groups.items() for i in range(count)]
        return np.array(names, dtype=object)

    def _read(self, X: Any, *, reset: bool) -> np.ndarray:
        """Two columns of numbers out of ``X``, whatever else is in it."""
        finite = "allow-nan" if self.missing == "propagate" else True
        options = {"dtype": np.float64, "ensure_all_finite": finite}
        is_table = hasattr(X, "iloc")  # other columns may hold text
        least = 2 if reset else 1  # later it is the number that must be the same
        options |= {"skip_check_array": True} if is_table else {"ensure_min_features": least}
        X = validate_data(self, X, reset=reset, **options)
        positions = self._find_columns(X.shape[1])
        if not is_table:
            return X[:, positions]
        return check_array(X.iloc[:, positions], dtype=np.float64, ensure_all_finite=finite)

    def _find_columns(self, num_columns: int) -> list[int]:
        """Positions of longitude and latitude, by their names where there are names."""
        names = getattr(self, "feature_names_in_", None)
        if self.columns is not None and not any(isinstance(c, str) for c in self.columns):
            return list(self.columns)
        if names is not None or self.columns is not None:
            return list(find_lonlat([] if names is None else list(names), columns=self.columns))
        if num_columns != 2:
            raise ValueError(
                f"X must have two columns, longitude and latitude, got {num_columns}: say which "
                "with columns=(longitude, latitude)"
            )
        return [0, 1]

    def _embed(self, lonlat: np.ndarray) -> np.ndarray:
        return embed(
            lonlat,
            self.encoder_,
            num_dims=self.num_dims,
            retrieval=self.retrieval_ or False,
            missing=self.missing,
            wrap_longitude=self.wrap_longitude,
            batch_size=self.batch_size,
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "propagate"
        tags.transformer_tags.preserves_dtype = []  # embeddings have the dtype of the model
        return tags
