"""Finding and publishing checkpoints: what is here is used, the network asked last, or never."""

from types import SimpleNamespace
from unittest.mock import Mock

import huggingface_hub
import huggingface_hub.constants
import pytest
import torch
import yaml
from small import make_encoder, make_model

from satclip_lib.checkpoints import download
from satclip_lib.checkpoints.download import (
    BUNDLED_MODEL,
    PINNED_REVISIONS,
    PUBLISHED_MODELS,
    find_checkpoint,
)
from satclip_lib.checkpoints.published import save_published
from satclip_lib.checkpoints.store import (
    load_config,
    load_location_encoder,
    push_to_hub,
    save_pretrained,
)
from satclip_lib.embedding.embed import embed

pytestmark = pytest.mark.usefixtures("no_network")
LONLAT = torch.tensor([[2.35, 48.86], [139.69, 35.69]])
COMMIT = "c0ffee" * 6 + "c0ff"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of huggingface_hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def online(monkeypatch):
    """Downloads are allowed (and still have nowhere to go)."""
    monkeypatch.delenv("SATCLIP_OFFLINE")


def _snapshot(cache, repo_id, commit=COMMIT):
    """Where the cache has the files of a commit, which "main" now is."""
    folder = cache / f"models--{repo_id.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text(commit)
    return folder / "snapshots" / commit


def _fake_download(monkeypatch, cache, source):
    """A hf_hub_download that puts files in the cache as the real one does; its calls are listed."""
    calls = []

    def fetch(repo_id, file_name, *, revision=None):
        calls.append((repo_id, file_name, revision))
        path = _snapshot(cache, repo_id) / file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((source / file_name).read_bytes())
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    return calls


def test_the_six_published_models_are_known():
    """Names and Hugging Face ids are those of the authors; pinned commits are whole hashes."""
    assert len(PUBLISHED_MODELS) == 6
    assert PUBLISHED_MODELS["satclip-vit16-l40"] == "microsoft/SatCLIP-ViT16-L40"
    assert PUBLISHED_MODELS["satclip-resnet18-l10"] == "microsoft/SatCLIP-ResNet18-L10"
    assert PINNED_REVISIONS.keys() <= PUBLISHED_MODELS.keys()
    assert all(len(commit) == 40 and int(commit, 16) for commit in PINNED_REVISIONS.values())


@pytest.mark.parametrize("name", PUBLISHED_MODELS)
def test_published_models_load_from_the_cache(cache, online, name):
    """Name and Hugging Face id, in any case, find the cached file; no network is asked."""
    repo_id = PUBLISHED_MODELS[name]
    folder = _snapshot(cache, repo_id, PINNED_REVISIONS.get(name, COMMIT))
    path = save_published(make_encoder(), folder / f"{name}.ckpt")
    cached = huggingface_hub.try_to_load_from_cache(
        repo_id, path.name, cache_dir=cache, revision=PINNED_REVISIONS.get(name)
    )
    assert cached == str(path)  # so the cache is laid out as huggingface_hub lays it out
    for spelling in (name, repo_id, name.upper()):
        assert torch.equal(load_location_encoder(spelling)(LONLAT), make_encoder()(LONLAT))


def test_a_revision_is_a_commit_or_a_branch(cache):
    """A given commit is taken instead of main; one that is not cached is not found."""
    name, repo_id = "satclip-resnet50-l10", "microsoft/SatCLIP-ResNet50-L10"
    for seed, commit in enumerate(("a" * 40, "b" * 40)):
        save_published(make_encoder(seed), _snapshot(cache, repo_id, commit) / f"{name}.ckpt")
    for revision, seed in (("a" * 40, 0), ("b" * 40, 1), ("main", 1), (None, 1)):
        loaded = load_location_encoder(name, revision=revision)
        assert torch.equal(loaded(LONLAT), make_encoder(seed)(LONLAT))
    with pytest.raises(FileNotFoundError, match="SATCLIP_OFFLINE forbids it"):
        load_location_encoder(name, revision="c" * 40)


def test_the_pinned_commit_is_asked_for(cache, online, monkeypatch, tmp_path):
    """Downloads ask for the pinned commit where there is one, unless another is given."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("satclip-vit16-l40", "satclip-vit16-l10"):
        save_published(make_encoder(), source / f"{name}.ckpt")
    calls = _fake_download(monkeypatch, cache, source)
    assert load_location_encoder("satclip-vit16-l40")(LONLAT).shape == (2, 6)
    load_location_encoder("satclip-vit16-l10")
    load_location_encoder("satclip-vit16-l10")
    load_location_encoder("satclip-vit16-l10", revision="d" * 40)
    assert [(file_name, revision) for _, file_name, revision in calls] == [
        ("satclip-vit16-l40.ckpt", PINNED_REVISIONS["satclip-vit16-l40"]),
        ("satclip-vit16-l10.ckpt", None),
        ("satclip-vit16-l10.ckpt", "d" * 40),
    ]


def test_anybodys_model_loads_by_its_id(cache, online, monkeypatch, tmp_path):
    """A repository with our two files loads; both are taken from one commit."""
    source = save_pretrained(make_encoder(), tmp_path / "source")
    calls = _fake_download(monkeypatch, cache, source)
    assert torch.equal(load_location_encoder("somebody/places")(LONLAT), make_encoder()(LONLAT))
    assert calls == [
        ("somebody/places", "model.safetensors", None),
        ("somebody/places", "config.json", COMMIT),
    ]
    monkeypatch.setenv("SATCLIP_OFFLINE", "1")
    load_location_encoder("somebody/places")


def test_what_lies_here_comes_first(tmp_path, monkeypatch, online):
    """A folder here wins over a repository or model of the same name, and needs no network."""
    monkeypatch.chdir(tmp_path)
    folder = save_pretrained(make_encoder(), tmp_path / "somebody/places")
    save_pretrained(make_encoder(), tmp_path / "satclip-vit16-l10")
    files = [*folder.iterdir(), *map(str, folder.iterdir())]  # each stands for its folder
    for path in ("somebody/places", "satclip-vit16-l10", *files):
        assert torch.equal(load_location_encoder(path)(LONLAT), make_encoder()(LONLAT))


def test_unknown_names_list_the_known(tmp_path, online):
    """A misspelt name is answered with all names; a missing path is named as a path."""
    with pytest.raises(FileNotFoundError, match=r"'satclip-vit16-l41'.*satclip-vit16-l40"):
        load_location_encoder("satclip-vit16-l41")
    for path in ("models/nowhere.ckpt", str(tmp_path / "nowhere"), tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*nowhere"):
            load_location_encoder(path)


@pytest.mark.parametrize("name", ["somebody/places", "https://example.org/model.ckpt"])
def test_offline_nothing_is_asked(cache, monkeypatch, name, tmp_path):
    """With SATCLIP_OFFLINE=1 what is not cached is an error that says so; no socket is opened."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="SATCLIP_OFFLINE forbids it"):
        load_location_encoder(name)


def test_an_address_is_downloaded_once(online, monkeypatch, tmp_path):
    """An address, https only, is cached by the whole of it; files of one name do not mix."""
    source, calls = save_published(make_encoder(), tmp_path / "model.ckpt"), []

    def fetch(url, path, **_):
        calls.append(url)
        path.write_bytes(source.read_bytes())

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(download, "download_file", fetch)
    urls = [f"https://example.org/{folder}/model.ckpt?download=true" for folder in "ab"]
    for url in (*urls, *urls):
        assert torch.equal(load_location_encoder(url)(LONLAT), make_encoder()(LONLAT))
    assert calls == urls
    with pytest.raises(ValueError, match="must begin with https://"):
        load_location_encoder("http://example.org/model.ckpt")


def test_publishing_uploads_weights_config_and_card(monkeypatch, tmp_path):
    """What is uploaded loads again, and its card names the repository and the licence."""
    uploads, create_repo = [], Mock()

    def upload_folder(*, repo_id, folder_path):
        uploads.append({path.name: path.read_bytes() for path in folder_path.iterdir()})
        return SimpleNamespace(commit_url=f"https://huggingface.co/{repo_id}/commit/1")

    api = SimpleNamespace(create_repo=create_repo, upload_folder=upload_folder)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api)
    model = make_encoder()
    facts = {"licence": "cc-by-4.0", "patches": "S2-100K"}
    with pytest.raises(RuntimeError, match="SATCLIP_OFFLINE forbids publishing"):
        push_to_hub(model, "somebody/places")
    monkeypatch.delenv("SATCLIP_OFFLINE")
    url = push_to_hub(model, "somebody/places", provenance=facts, private=True)
    assert url == "https://huggingface.co/somebody/places/commit/1"
    create_repo.assert_called_once_with("somebody/places", private=True, exist_ok=True)
    (files,) = uploads
    assert files.keys() == {"config.json", "model.safetensors", "README.md"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert torch.equal(load_location_encoder(tmp_path)(LONLAT), model(LONLAT))
    push_to_hub(model, "somebody/places", checkpoint=BUNDLED_MODEL)
    folder = find_checkpoint(BUNDLED_MODEL)
    for name in ("retrieval.safetensors", "training_lonlat.npy"):
        assert uploads[1][name] == (folder / name).read_bytes()
    card = files["README.md"].decode()
    header = yaml.safe_load(card.split("---")[1])
    assert header["license"] == "cc-by-4.0" and "satclip" in header["tags"]
    assert 'load_location_encoder("somebody/places")' in card and "S2-100K" in card


def test_the_map_of_images_comes_from_the_hub_too(online, cache, monkeypatch):
    """Of the same commit as the weights; a model of the Hub that has none is refused."""
    source = find_checkpoint(BUNDLED_MODEL)
    calls = _fake_download(monkeypatch, cache, source)
    found = embed([[2.35, 48.86]], "somebody/places", retrieval=True)
    assert (found == embed([[2.35, 48.86]], retrieval=True)).all()
    assert calls[-1] == ("somebody/places", "retrieval.safetensors", COMMIT)
    (_snapshot(cache, "somebody/places") / "retrieval.safetensors").unlink()
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", None)  # which fails
    with pytest.raises(ValueError, match=r"no retrieval.safetensors"):
        embed([[2.35, 48.86]], "somebody/places", retrieval=True)


def test_the_card_describes_the_model(tmp_path):
    """Every setting of the config is in the card, and the image encoder, where there is one."""
    model = make_model()
    folder = save_pretrained(model, tmp_path / "model", model_card=True)
    card = (folder / "README.md").read_text()
    for name, value in load_config(folder)["location_encoder"].items():
        assert f"| {name} | {value} |" in card
    assert '"name": "rcf"' in card and 'license: "mit"' in card
    code = card.split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")
    alone = save_pretrained(model.location_encoder, tmp_path / "alone", model_card=True)
    assert "none in this file" in (alone / "README.md").read_text()
