"""The benchmark: same points for all, no leaks, and a reason for whatever is not scored."""

import inspect
from dataclasses import replace
from pathlib import Path
from threading import Lock

import numpy as np
import pandas as pd
import pytest
from cells import ROOT
from sklearn.metrics import r2_score

from satclip_lib.data.land import sample_land_lonlat
from satclip_lib.data.natural_earth import lookup_regions
from satclip_lib.evaluation import prediction
from satclip_lib.evaluation.baselines import Encoder
from satclip_lib.evaluation.benchmark import OWN_PROBE, POOLED, run_benchmark, score_tasks
from satclip_lib.evaluation.prediction import predict
from satclip_lib.evaluation.scoring import NUM_DRAWS
from satclip_lib.evaluation.splits import CONTINENTS, make_splits
from satclip_lib.evaluation.tasks import Task, TaskData
from satclip_lib.sphere import lonlat_to_unit_vectors
from tools.edges import find_sources

UNIT_VECTORS = Encoder("unit vector", lonlat_to_unit_vectors)
COLUMNS = {
    "task", "seed", "source", "probe", "protocol", "part", "encoder", "metric", "score", "z_mse",
    "macro_f1", "num_test", "label_km",
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_files(monkeypatch):
    """Labels that do not come with the package are absent."""
    monkeypatch.delenv("SATCLIP_DATA_MIRROR", raising=False)


def _make_data(target, lonlat):
    """A task of our own making; integers are classes."""
    is_classes = np.issubdtype(target.dtype, np.integer)
    kind = "classification" if is_classes else "regression"
    task = Task(name="made up", kind=kind, target_name="number", citation="", licence="")
    names = tuple(map(str, range(target.max() + 1))) if is_classes else None
    return TaskData(task, lonlat, target, names, "made up")


LAND = sample_land_lonlat(1500, seed=0)


def test_every_combination_is_scored_once():
    """The table has a row for each task, protocol, probe, encoder and seed, and its columns."""
    asked = []

    def make(seed):  # so that untrained networks may differ
        asked.append(seed)
        return [UNIT_VECTORS, Encoder("raw", lambda lonlat: lonlat)]

    result = run_benchmark(
        make,
        ["climate_zone", "population_density"],
        protocols=["random", "Africa"],
        probes=["linear", "knn"],
        num_points=400,
        seeds=[0, 1],
    )
    scores = result.scores
    assert set(scores) == COLUMNS and len(scores) == 2**5 and set(asked) == {0, 1}
    keys = ["task", "protocol", "probe", "encoder", "seed"]
    assert not scores.duplicated(keys).any()
    assert np.isfinite(scores.score).all() and scores.source.str.len().gt(10).all()
    metrics = dict(zip(scores.task, scores.metric, strict=True))
    assert metrics == {"climate_zone": "accuracy", "population_density": "R2"}
    assert result.draws.shape == (len(scores), NUM_DRAWS)
    assert result.absent.empty and list(result.absent) == ["task", "protocol", "reason"]


def test_tasks_without_labels_come_with_a_reason():
    """Labels that cannot be had are reported once, whatever the seeds; the others are scored."""
    tasks = ["habitat", "climate_zone", "inaturalist_2018"]
    options = {"protocols": ["random"], "probes": ["knn"], "num_points": 300, "seeds": [0, 1]}
    result = run_benchmark([UNIT_VECTORS], tasks, **options)
    assert result.absent.task.tolist() == ["habitat", "inaturalist_2018"]
    assert set(result.absent.protocol) == {"all"}
    assert result.absent.reason.str.contains("SATCLIP_DATA_MIRROR").all()
    assert set(result.scores.task) == {"climate_zone"}
    nothing = run_benchmark([UNIT_VECTORS], ["habitat"])
    assert len(nothing.scores) == 0 and nothing.absent.task.tolist() == ["habitat"]


def test_countries_of_another_continent_need_shots():
    """Held-out continents bring 1 % of their points for tasks whose classes are local."""
    data = _make_data(lonlat_to_unit_vectors(LAND)[:, 2], LAND)
    with_shots = replace(data, task=replace(data.task, has_local_classes=True))
    for task, explicit in ((with_shots, "Asia+1%"), (data, "Asia")):
        expected, given = (
            score_tasks([t], [UNIT_VECTORS], protocols=[p], probes=["knn"], seed=0)[0][0]["score"]
            for t, p in ((data, explicit), (task, "Asia"))
        )
        assert given == expected


def test_classes_of_another_continent_cannot_be_learnt():
    """A protocol under which no test point has a class of the training points is left out."""
    continent = lookup_regions(LAND).continent.fillna("none").to_numpy(dtype=str)
    data = _make_data(np.unique(continent, return_inverse=True)[1], LAND)
    result = run_benchmark([UNIT_VECTORS], [data], protocols=["random", "Asia"], probes=["knn"])
    assert result.scores.protocol.tolist() == ["random"]
    ((task, protocol, reason),) = result.absent.itertuples(index=False)
    assert (task, protocol) == ("made up", "Asia") and "no test point has a class" in reason


def test_a_protocol_that_the_points_do_not_allow_is_left_out():
    """Continents are absent, with the reason, for points in one; a misspelt one is an error."""
    with pytest.raises(ValueError, match="unknown protocol 'Atlantis'"):
        run_benchmark([UNIT_VECTORS], ["climate_zone"], protocols=["Atlantis"])
    lonlat = np.random.default_rng(0).uniform([-120, 35], [-80, 45], size=(300, 2))
    data = _make_data(lonlat[:, 0].copy(), lonlat)
    result = run_benchmark([UNIT_VECTORS], [data], protocols=["blocks", "continents"])
    assert set(result.scores.protocol) == {"blocks"}
    assert result.absent.protocol.tolist() == ["continents"]
    assert "these are on North America" in result.absent.reason[0]


def test_each_continent_has_its_score():
    """The rows of "continents" are those of the six continents, then all points together."""
    target = lonlat_to_unit_vectors(LAND)[:, 2] + np.random.default_rng(0).normal(size=1500)
    data = _make_data(target, LAND)
    rows, _ = score_tasks(
        [data], [UNIT_VECTORS], protocols=["continents", *CONTINENTS], probes=["knn"], seed=0
    )
    together, pooled, alone = rows[:6], rows[6], rows[7:]
    assert [row["part"] for row in together] == list(CONTINENTS)
    for one, other in zip(together, alone, strict=True):
        assert one["part"] == other["part"] and one["num_test"] == other["num_test"]
        assert one["score"] == pytest.approx(other["score"])
        assert one["label_km"] == pytest.approx(other["label_km"]) and one["label_km"] > 300
    splits = make_splits("continents", LAND)
    tested = np.concatenate([split.test for split in splits])
    predicted = predict(data, lonlat_to_unit_vectors(LAND), splits=splits, probe="knn")
    assert pooled["part"] == POOLED and pooled["num_test"] == len(tested)
    assert pooled["score"] == pytest.approx(r2_score(target[tested], predicted))


def test_what_has_been_predicted_is_not_fitted_again(tmp_path, monkeypatch):
    """A second run reads the same scores; other embeddings, labels, seeds or probes do not."""
    data = _make_data(LAND[:, 1].copy(), LAND)
    fitted = []
    fit = prediction.fit_predict

    def spy(probe, *args, **kwargs):
        fitted.append(probe)
        return fit(probe, *args, **kwargs)

    monkeypatch.setattr(prediction, "fit_predict", spy)

    def run(encoder=UNIT_VECTORS, task=data, probe="knn", seed=0):
        return run_benchmark(
            [encoder], [task], protocols=["random"], probes=[probe], seeds=[seed], cache=tmp_path
        ).scores

    first = run()
    pd.testing.assert_frame_equal(first, run())
    assert fitted == ["knn"]
    run(encoder=Encoder("other", lambda points: 1.01 * lonlat_to_unit_vectors(points)))
    run(task=_make_data(LAND[:, 1] + 1e-9, LAND))
    run(seed=1)
    run(probe="linear")
    assert fitted == ["knn", "knn", "knn", "knn", "linear"]
    monkeypatch.setattr(prediction, "_code_version", lambda: "new code")
    run()
    assert len(fitted) == 6
    assert not list(tmp_path.rglob(".partial-*"))


def test_kept_predictions_are_of_the_code_that_made_them(monkeypatch):
    """An edit of any module, and a new version of any package, changes the name of the file."""
    read, version = inspect.getsource, prediction.version
    compute = prediction._code_version.__wrapped__
    before = compute()
    for changed in (*prediction.CODE, *prediction.PACKAGES):
        monkeypatch.setattr(inspect, "getsource", lambda m, c=changed: read(m) + "#" * (m is c))
        monkeypatch.setattr(prediction, "version", lambda p, c=changed: version(p) + "+" * (p == c))
        assert compute() != before, changed


def test_no_module_that_predictions_depend_on_is_forgotten():
    """All modules that probes import, with theirs, but splits, which are hashed themselves."""

    def list_sources(name: str) -> set[Path]:
        other = ("__init__.py", "files.py", "progress.py")
        found = find_sources(f"import satclip_lib.evaluation.{name}")
        return {path for path in found if path.name not in other}

    code = {Path(module.__file__).relative_to(ROOT) for module in prediction.CODE}
    needed = list_sources("probes")
    assert needed - list_sources("splits") <= code <= needed


def test_processes_give_the_same_numbers():
    """Each makes encoders that cannot be sent to it; each seed has numbers of its own."""

    def make(seed):
        lock = Lock()

        def encode(lonlat):
            with lock:
                return lonlat_to_unit_vectors(lonlat)

        return [Encoder("unit vector", encode)]

    options = {"protocols": ["random"], "probes": ["linear"], "num_points": 200, "seeds": [0, 1]}
    tasks = ["climate_zone", "population_density"]
    one, two = (run_benchmark(make, tasks, num_jobs=n, **options) for n in (1, 2))
    pd.testing.assert_frame_equal(one.scores, two.scores, rtol=1e-9)
    np.testing.assert_allclose(one.draws, two.draws, rtol=1e-5)
    assert one.scores.score.nunique() == 4


def test_an_encoder_may_bring_its_own_probe():
    """Nearest neighbours on the globe are scored once, whatever probes the others have."""
    nearest = Encoder("nearest", lambda points: points, own_probe="great circle")
    data = _make_data(LAND[:, 1].copy(), LAND)
    result = run_benchmark([UNIT_VECTORS, nearest], [data], protocols=["random"])
    of_encoder = result.scores.groupby("encoder").probe.apply(list)
    assert of_encoder["nearest"] == [OWN_PROBE]
    assert of_encoder["unit vector"] == ["linear", "knn"]
