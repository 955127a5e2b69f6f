"""What images show near a place: the map in a checkpoint, and what users get of it."""

import copy
import itertools
import json

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from numpy.polynomial import legendre
from safetensors.torch import load_file, save_file
from small import make_encoder, make_model

from satclip_lib.checkpoints.download import BUNDLED_MODEL, CheckpointError, find_checkpoint
from satclip_lib.checkpoints.store import (
    RETRIEVAL_NAME,
    hash_checkpoint,
    load_config,
    load_location_encoder,
    load_training_lonlat,
    save_pretrained,
    save_training_lonlat,
)
from satclip_lib.cli import main
from satclip_lib.embedding.embed import embed
from satclip_lib.embedding.grid import embed_grid
from satclip_lib.embedding.retrieval import Retrieval, load_retrieval, save_retrieval
from satclip_lib.embedding.similar import compare_with, find_similar
from satclip_lib.embedding.sklearn import LocationEmbedder
from satclip_lib.sphere import compute_distance_km, lonlat_to_unit_vectors
from satclip_lib.training.image_components import order_dimensions
from satclip_lib.training.recipes import RECIPES
from tools.save_model import COMMAND

PLACES = np.array([[2.35, 48.86], [139.69, 35.69], [-180, 10], [179.999, 10], [0, 90], [0, -90]])


def make_images(num_images=400, seed=0):
    """Places all over the globe, and features of which the first depends on the place."""
    rng = np.random.default_rng(seed)
    lonlat = np.stack([rng.uniform(-180, 180, num_images), rng.uniform(-80, 80, num_images)], 1)
    features = rng.normal(size=(num_images, 6)).astype(np.float32)
    features[:, 0] += 5 * np.cos(np.radians(lonlat[:, 0]))
    return lonlat, features


@pytest.fixture(scope="module")
def retrieval():
    """A small map."""
    return Retrieval.fit(*make_images(), num_components=3, num_features=8, num_local=5)


@pytest.fixture
def checkpoint(tmp_path, retrieval):
    """A whole checkpoint with an ordered embedding, a map and its training places."""
    folder = save_pretrained(make_encoder(ordered=True), tmp_path / "model")
    save_retrieval(folder, retrieval)
    save_training_lonlat(folder, make_images()[0])
    return folder


def test_zonal_numbers_are_legendre_polynomials(retrieval):
    """Of degrees 1 to 4 in the sine of the latitude, by NumPy."""
    zonal = retrieval(torch.tensor(PLACES))[:, :4].numpy()
    sine = np.sin(np.radians(PLACES[:, 1]))
    expected = [legendre.legval(sine, np.eye(5)[degree]) for degree in range(1, 5)]
    np.testing.assert_allclose(zonal, np.transpose(expected), atol=1e-6)


def find_components(lonlat, features, num_components):
    """Principal components of all images, standardised; their signs are free."""
    centred = (features - features.mean(axis=0)).astype(np.float64)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    return centred @ axes[:num_components].T / singular[:num_components] * np.sqrt(len(lonlat))


def test_a_node_is_the_mean_of_the_nearest_images():
    """By a loop over all images, for nodes of the map; off by half a step of its integers."""
    lonlat, features = make_images()
    found = Retrieval.fit(lonlat, features, num_components=2, num_features=2)
    components = find_components(lonlat, features, 2)
    for lon, lat in np.round(lonlat[:5] * 4) / 4:
        distance_km = compute_distance_km(lonlat, np.array([[lon, lat]]))
        chord = 2 * np.sin(distance_km / 6371.0088 / 2)
        nearest = np.argsort(chord)[:4]
        weight = (chord[nearest] + 1e-3) ** -2.0
        expected = weight @ components[nearest] / weight.sum()
        node = found.look_up(torch.tensor([[lon, lat]])).numpy()[0, 2:]
        np.testing.assert_allclose(np.abs(node), np.abs(expected), atol=0.51 / 12)


def test_a_node_has_the_image_of_its_place():
    """It is asked for near the training images alone."""
    lonlat, features = make_images()
    lonlat[:2] = [[20.1, 5.2], [179.9, 61.0]]
    asked = []

    def features_at(places):
        asked.append(places)
        return np.cos(np.radians(places)) @ np.arange(12.0).reshape(2, 6) + features.mean(axis=0)

    found = Retrieval.fit(lonlat, features, features_at=features_at, num_components=2)
    centred = np.cos(np.radians([[20.0, 5.25], [-179.75, 61.0]])) @ np.arange(12.0).reshape(2, 6)
    axes = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    expected = centred @ axes[2][:2].T / axes[1][:2] * np.sqrt(len(lonlat))
    nodes = found.look_up(torch.tensor([[20.0, 5.25], [-179.75, 61.0]])).numpy()[:, 2:]
    np.testing.assert_allclose(np.abs(nodes), np.abs(expected).clip(max=4), atol=0.51 / 12)
    asked = np.concatenate(asked)
    off_km = [compute_distance_km(lonlat, x[None]).min() for x in asked[::50]]
    assert max(off_km) <= 100.1 and len(asked) > 10_000
    assert np.mod(asked * 4, 1).max() == 0  # nodes, a quarter of a degree


def with_nodes(retrieval, has_image, seed=0):
    """The same with other nodes on the map, and their numbers."""
    nodes = np.random.default_rng(seed).integers(-48, 49, (721, 1440, 3)) * has_image[..., None]
    made = copy.deepcopy(retrieval)
    made.components.copy_(torch.from_numpy(np.dstack([nodes, has_image]).astype(np.int8)))
    made.prepare()
    return made, nodes


def test_a_place_without_images_is_read_at_the_nearest_node(retrieval):
    """By the distances to all nodes with an image; on the sphere, and across the date line."""
    has_image = np.zeros((721, 1440), bool)
    for row, column in ((100, 3), (360, 700), (505, 1437), (700, 20)):
        has_image[row : row + 5, column : column + 3] = True
    islands, values = with_nodes(retrieval, has_image)
    rows, columns = np.nonzero(has_image)
    nodes = np.stack([columns / 4 - 180, 90 - rows / 4], axis=1)
    places = np.array([[180, -36], [-179.9, 70], [0, -90], [0, 90], [-179, -40], [20, 0.5]])
    for place in places.astype(np.float64):
        nearest = compute_distance_km(nodes, np.tile(place, (len(nodes), 1))).argmin()
        found, there = islands.look_up(torch.from_numpy(np.stack([place, nodes[nearest]])))
        torch.testing.assert_close(found, there)
        np.testing.assert_allclose(
            found[3:], values[rows[nearest], columns[nearest]] / 12, rtol=1e-6
        )


def test_what_has_no_image_has_no_weight(retrieval):
    """Beside the sea a place, and its surroundings, are the mean of the nodes on land alone."""
    on_land = np.random.default_rng(1).random((721, 1440)) < 0.3
    chosen = ((300, 10), (240, 0), (2, 1438), (718, 700))  # even ones are of both maps
    for at in chosen:
        on_land[at] = True
    coast, nodes = with_nodes(retrieval, on_land)
    for row, column in chosen:
        lonlat = torch.tensor([[column / 4 - 180, 90 - row / 4]])
        found = coast.look_up(lonlat).numpy()[0]
        at = np.ix_(np.arange(row - 2, row + 3), np.arange(column - 2, column + 3) % 1440)
        around = nodes[at][on_land[at]].mean(axis=0)
        np.testing.assert_allclose(found, np.append(around, nodes[row, column]) / 12, rtol=1e-5)
        middle = coast.look_up(lonlat + torch.tensor([0.125, -0.125])).numpy()[0, 3:]
        corners = np.ix_([row, row + 1], [column, (column + 1) % 1440])
        expected = nodes[corners][on_land[corners]].mean(axis=0) / 12
        np.testing.assert_allclose(middle, expected, rtol=1e-5)


def test_between_nodes_it_is_bilinear_and_wraps(retrieval):
    """In the middle of four nodes it is their mean, also across the date line."""
    full, _ = with_nodes(retrieval, np.ones((721, 1440), bool))
    for step, part in ((0.25, slice(3, None)), (0.5, slice(3))):
        for lon in (10.0, 180 - step):
            corners = torch.tensor(
                [[x, y] for x in (lon, lon + step - 360 * (lon > 179)) for y in (20.0, 20 + step)]
            )
            middle = full.look_up(torch.tensor([[lon + step / 2, 20 + step / 2]]))[0, part]
            torch.testing.assert_close(middle, full.look_up(corners)[:, part].mean(dim=0))
    west, east = retrieval(torch.tensor([[-180.0, 5.0], [180.0, 5.0]]))
    torch.testing.assert_close(west, east)


def test_retrieved_numbers_stand_for_two_sums_of_gaussian_kernels():
    """Inner products of many random features approach the mean kernel of two and two inputs."""
    lonlat, features = make_images()
    many = Retrieval.fit(lonlat, features, num_components=4, num_features=75_000, num_local=1)
    assert ((many.weight[:, :4] != 0).sum(dim=1) == 2).all()
    counts = (many.weight[:, 4:] != 0).sum(dim=0)
    assert counts.tolist() == [25_000] * 4 + [12_500] * 4  # each input as often, around and there
    places = torch.tensor(PLACES[:3])
    zonal = (many(places)[:, :4] - many.zonal_mean) / many.zonal_std
    x = torch.cat([zonal, many.look_up(places)], dim=1)
    found = many(places)[:, 4:-1]
    for part, shown in ((slice(50_000), (4, 5, 6, 7)), (slice(50_000, None), (8, 9, 10, 11))):
        kernels = [
            torch.exp(-0.5 * (0.6 * torch.cdist(x[:, inputs], x[:, inputs])) ** 2)
            for latitude in itertools.combinations((0, 1, 2, 3), 2)
            for components in itertools.combinations(shown, 2)
            if (inputs := [*latitude, *components])
        ]
        product = 2 * found[:, part] @ found[:, part].T / len(found[0, part])
        torch.testing.assert_close(product, torch.stack(kernels).mean(dim=0), atol=0.02, rtol=0)


def test_local_numbers_stand_for_distance():
    """Inner products approach the mean of Gaussian kernels from 0.3 to 10 degrees, in log steps."""
    many = Retrieval.fit(*make_images(), num_features=1, num_local=50_000)
    places = np.array([[10.0, 60.0], [10.0, 60.4], [12.0, 60.0], [10.0, 67.0], [-170.0, 60.0]])
    unit = lonlat_to_unit_vectors(places)
    chord = np.linalg.norm(unit[:, None] - unit, axis=2)
    lengths = np.radians(np.geomspace(0.3, 10, 2001))
    expected = np.exp(-0.5 * (chord[..., None] / lengths) ** 2).mean(axis=2)
    found = many(torch.from_numpy(places))[:, 5:]
    np.testing.assert_allclose(2 * found @ found.T / 50_000, expected, atol=0.02)


def test_all_of_the_ways_in_agree(checkpoint, tmp_path):
    """Array, tensor, table, xarray, grid, scikit-learn and command line give the same numbers."""
    array = embed(PLACES, checkpoint, num_dims=4, retrieval=True)
    assert array.shape == (6, 4 + 8 + 5 + 4)
    with torch.inference_mode():
        first = load_location_encoder(checkpoint)(torch.tensor(PLACES))[:, :4]
    expected = torch.nn.functional.normalize(first, dim=1)
    np.testing.assert_allclose(array[:, -4:], expected, atol=1e-6)
    np.testing.assert_array_equal(
        array, embed(torch.tensor(PLACES), checkpoint, num_dims=4, retrieval=True).numpy()
    )
    table = pd.DataFrame(PLACES, columns=["lon", "lat"])
    frame = embed(table, checkpoint, num_dims=4, retrieval=True)
    sizes = {"zonal": 4, "retrieved": 8, "local": 5, "embedding": 4}
    names = [f"{group}_{i}" for group, size in sizes.items() for i in range(size)]
    assert [*frame] == names
    np.testing.assert_array_equal(frame.to_numpy(), array)
    embedder = LocationEmbedder(checkpoint, num_dims=4, retrieval=True).fit(table)
    assert [*embedder.get_feature_names_out()] == names
    np.testing.assert_array_equal(embedder.transform(table), array)
    table.to_csv(tmp_path / "in.csv", index=False)
    words = f"embed {tmp_path}/in.csv -o {tmp_path}/out.parquet --model {checkpoint} --dims 4"
    assert main([*words.split(), "--retrieval"]) == 0
    np.testing.assert_allclose(pd.read_parquet(tmp_path / "out.parquet")[names], array, atol=1e-6)
    axes = {"lat": [10.0, -5.0], "lon": [2.0, 3.0, 4.0]}
    template = xr.Dataset(coords=axes)
    grid = embed_grid(checkpoint, template=template, num_dims=4, retrieval=True).compute()
    points = np.array([[lon, lat] for lat in axes["lat"] for lon in axes["lon"]])
    scattered = embed(points, checkpoint, num_dims=4, retrieval=True).reshape(2, 3, 21)
    np.testing.assert_allclose(grid, scattered, atol=2e-6)
    np.testing.assert_allclose(
        embed(template, checkpoint, num_dims=4, retrieval=True), grid, atol=2e-6
    )


def test_missing_places_and_none(checkpoint):
    """NaN stays NaN in every group; no places give no rows."""
    places = np.vstack([PLACES, [[np.nan, 1.0]]])
    found = embed(places, checkpoint, retrieval=True, missing="propagate")
    assert np.isnan(found[-1]).all() and np.isfinite(found[:-1]).all()
    assert embed(np.empty((0, 2)), checkpoint, retrieval=True).shape[0] == 0


def test_what_cannot_be_had_is_refused(checkpoint, tmp_path):
    """An embedding without order or map, and too many dimensions, each with what to do."""
    plain = make_encoder()
    with pytest.raises(ValueError, match="which this one has not: leave num_dims out"):
        embed(PLACES, plain, num_dims=2)
    with pytest.raises(ValueError, match=r"from 1 to 6, got 7"):
        embed(PLACES, checkpoint, num_dims=7)
    with pytest.raises(ValueError, match="pass the folder of a checkpoint"):
        embed(PLACES, plain, retrieval=True)
    with pytest.raises(ValueError, match="retrieval needs"):
        LocationEmbedder(plain, retrieval=True).fit(PLACES)


DAMAGED = {
    "shape": lambda x: x.update(components=x["components"][1:].contiguous()),
    "type": lambda x: x.update(components=x["components"].float()),
    "NaN": lambda x: x["weight"][0].fill_(torch.nan),
    "nodes": lambda x: x.update(has_image=x["has_image"][:1000].contiguous()),
    "missing": lambda x: x.pop("bias"),
    "more": lambda x: x.update(other=torch.zeros(1)),
}


@pytest.mark.parametrize("damage", [*DAMAGED, "bytes", "folder"])
def test_a_damaged_map_is_refused(checkpoint, damage):
    """Whatever is wrong with it, the message names the file."""
    path = checkpoint / RETRIEVAL_NAME
    tensors = load_file(path)
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "bytes":
        path.write_bytes(b"\xff" * 100)
    else:
        DAMAGED[damage](tensors)
        save_file(tensors, path)
    with pytest.raises((CheckpointError, ValueError), match=RETRIEVAL_NAME):
        load_retrieval(checkpoint)


def test_order_keeps_cosines_and_sorts():
    """Turned towers give the same logits; the images' second moments fall, and are uncorrelated."""
    model = make_model(ordered=True)
    images, lonlat = torch.rand(200, 3, 8, 8), torch.rand(50, 2) * 90
    with torch.inference_mode():
        before = model(images, lonlat)
        order_dimensions(model, model.compute_image_features(images))
        torch.testing.assert_close(model(images, lonlat), before, atol=1e-4, rtol=1e-4)
        found = torch.nn.functional.normalize(model.encode_images(images), dim=1).double()
    moments = (found.T @ found / len(found)).numpy()
    assert (np.diff(np.diag(moments)) <= 1e-9).all()
    np.testing.assert_allclose(moments, np.diag(np.diag(moments)), atol=1e-6)


def test_similar_places(checkpoint, capsys, caplog, tmp_path):
    """Sorted, apart from each other, and with the similarity of all places; also as a command."""
    lon, lat = make_images()[0][0].tolist()
    lonlat, similarity = compare_with(lon, lat, checkpoint)
    assert similarity[0] == similarity.max() == pytest.approx(1) and similarity.min() < 0
    found = find_similar(lon, lat, checkpoint, num_results=4, apart_km=2000)
    assert (found.similarity.diff()[1:] <= 0).all()
    for row in found.itertuples():
        index = np.flatnonzero((lonlat == [row.lon, row.lat]).all(axis=1))
        assert similarity[index] == pytest.approx(row.similarity)
    places = np.vstack([[lon, lat], found[["lon", "lat"]].to_numpy()])
    for number in range(len(places)):
        others = np.delete(places, number, axis=0)
        assert compute_distance_km(others, places[[number]]).min() >= 2000
    far = compute_distance_km(lonlat, places[:1]) >= 2000
    assert similarity[far].max() == pytest.approx(found.similarity[0])
    words = f"similar {lon} {lat} --model {checkpoint} -k 4 --apart 2000 --map {tmp_path}/map.png"
    assert main(words.split()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "lon,lat,similarity,distance_km" and len(lines) == 5
    assert (tmp_path / "map.png").read_bytes()[:4] == b"\x89PNG"
    assert main(["similar", "10", "95", "--model", str(checkpoint)]) == 1
    assert "latitude" in capsys.readouterr().err
    assert compute_distance_km(lonlat, np.array([[0.0, 90.0]])).min() > 500
    assert main(["similar", "0", "90", "--model", str(checkpoint)]) == 0
    assert "no image near longitude 0, latitude 90: the nearest is taken" in caplog.text


def test_the_model_of_the_package():
    """It is small, half-precision and ordered; its card and config say what made it."""
    folder = find_checkpoint(BUNDLED_MODEL)
    weights = load_file(folder / "model.safetensors")
    assert {x.dtype for x in weights.values()} == {torch.float16}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8e6
    provenance = load_config(folder)["provenance"]
    recipe = json.loads(json.dumps(provenance["pretraining"]["location_encoder"]))
    assert load_config(folder)["location_encoder"] == recipe
    ours = RECIPES["ours-l40"]
    assert load_location_encoder(folder).config == ours.location_encoder
    assert provenance["pretraining"]["retrieval"] and ours.retrieval
    card = (folder / "README.md").read_text()
    assert provenance["made by"] in card and provenance["what it is not"] in card
    assert f"`{hash_checkpoint(folder)}`" in card and f"`{COMMAND}`" in card
    assert card.count(f'"{BUNDLED_MODEL}"') == 2 and "`zonal`" in card and "\\{" not in card
    assert len(provenance["sha256 of the weights before rounding to float16"]) == 64
    assert len(load_training_lonlat(BUNDLED_MODEL)) > 30_000
