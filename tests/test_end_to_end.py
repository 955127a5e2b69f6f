"""The network trained on the task itself: it learns."""

import numpy as np
from sklearn.metrics import r2_score

from satclip_lib.data.land import sample_land_lonlat
from satclip_lib.evaluation.end_to_end import EndToEnd


def test_learns_what_depends_on_the_place():
    """A smooth field is predicted at places that were not trained on, in its own units."""
    lonlat = sample_land_lonlat(500, seed=0)
    field = 300 + 40 * np.cos(np.radians(lonlat[:, 1])) + 10 * np.sin(np.radians(lonlat[:, 0]))
    small = {"hidden_dim": 32, "num_steps": 60}
    model = EndToEnd(kind="regression", **small).fit(lonlat[:400], field[:400])
    assert r2_score(field[400:], model.predict(lonlat[400:])) > 0.8
    hemisphere = np.where(lonlat[:, 1] > 15, 7, 2)
    model = EndToEnd(kind="classification", **small).fit(lonlat[:400], hemisphere[:400])
    predicted = model.predict(lonlat[400:])
    assert set(predicted) == {2, 7} and np.mean(predicted == hemisphere[400:]) > 0.9
