"""Image encoders: what they compute, that they stay frozen, and how weights come in."""

import json
import re
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import pytest
import torch
from parity.timm_reference import (
    FIXTURE,
    NUM_BANDS,
    SIZES_PX,
    compute_reference_outputs,
    describe_state_dict,
    make_formula_noise,
)

from satclip_lib.data.moco import describe_weights, make_moco_encoder
from satclip_lib.data.registry import load_registry
from satclip_lib.files import sha256_of_file
from satclip_lib.image_encoder import (
    BACKBONES,
    RandomConvolutionalFeatures,
    ResNet,
    VisionTransformer,
    load_backbone_weights,
    make_image_encoder,
    random_features,
)


def make_images(num_images: int, *, num_bands: int = 3, size_px: int = 8) -> torch.Tensor:
    """Images in [0, 1] that are smooth and coloured, as real ones are."""
    noise = make_formula_noise((num_images, num_bands, size_px, size_px), index=num_images)
    smooth = noise.cumsum(dim=1).cumsum(dim=2).cumsum(dim=3)
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


@pytest.fixture(scope="module")
def rcf() -> RandomConvolutionalFeatures:
    """Small random convolutional features for three bands."""
    return RandomConvolutionalFeatures.fit(make_images(50), num_random_features=16)


@pytest.fixture(scope="module", params=["rcf", "resnet18", "vit_small_patch16_224"])
def encoder_and_images(request):
    """One encoder of each kind with random weights, and four images it takes."""
    torch.manual_seed(0)
    if request.param == "rcf":
        return RandomConvolutionalFeatures.fit(make_images(50)), make_images(4)
    images = make_images(4, num_bands=NUM_BANDS, size_px=SIZES_PX[request.param])
    return make_image_encoder(request.param), images


def test_features_have_the_announced_shape(encoder_and_images):
    """Any batch, also of one or no image, becomes ``(batch, num_features)``."""
    encoder, images = encoder_and_images
    for count in (4, 1, 0):
        assert encoder(images[:count]).shape == (count, encoder.num_features)


def test_encoders_come_frozen(encoder_and_images):
    """They stay in eval mode and ask for no gradients; test_model trains with a frozen one."""
    encoder, _ = encoder_and_images
    assert encoder.is_frozen and not encoder.train().training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_config_makes_the_same_encoder_again(encoder_and_images):
    """Configuration through JSON and the state dict are all a checkpoint needs."""
    encoder, images = encoder_and_images
    twin = make_image_encoder(**json.loads(json.dumps(encoder.config)))
    twin.load_state_dict(encoder.state_dict())
    assert type(twin) is type(encoder)
    assert twin.config == encoder.config
    assert torch.equal(twin(images), encoder(images))


def test_unknown_name_lists_the_known_ones():
    """A wrong name, or depth, is answered with all right ones."""
    with pytest.raises(ValueError, match=r"rcf, resnet18, resnet50, vit_small.*got 'resnet34'"):
        make_image_encoder("resnet34")
    with pytest.raises(ValueError, match="18 or 50, got 34"):
        ResNet(34)


def test_wrong_images_are_refused(encoder_and_images, shape_checks_off):
    """Wrong bands, dimensions or dtype: the error says what came and what was expected."""
    encoder, images = encoder_and_images
    bands = encoder.num_bands
    with pytest.raises(ValueError, match=rf"\(batch, {bands}, .*got \(4, {bands - 1}, "):
        encoder(images[:, 1:])
    with pytest.raises(ValueError, match=rf"\(batch, {bands}, .*got \({bands}, "):
        encoder(images[0])
    with pytest.raises(ValueError, match=r"floating point.*got torch.uint8.*255"):
        encoder(images.byte())


def test_vision_transformer_takes_one_size():
    """Its position embedding is for 224 x 224 pixels; anything else is refused."""
    with pytest.raises(ValueError, match="224 x 224 pixels, got 224 x 256; crop or resize"):
        VisionTransformer()(torch.rand(1, NUM_BANDS, 224, 256))


@pytest.mark.parametrize("rows_at_once", [6, 4, 1])
def test_rcf_features_match_a_loop(rcf, rows_at_once, monkeypatch):
    """Filter by filter and place by place, the features are what the docstring says."""
    monkeypatch.setattr(random_features, "MAX_RESPONSES", rows_at_once * 6 * len(rcf.weight))
    image = make_images(60)[7]
    places = [image[:, y : y + 3, x : x + 3] for y in range(6) for x in range(6)]
    positive, negative = [], []
    for weight, bias in zip(rcf.weight, rcf.bias, strict=True):
        responses = torch.stack([(weight * place).sum() + bias for place in places])
        positive.append((responses - 0.5).clamp(min=0).mean())
        negative.append((-responses - 0.5).clamp(min=0).mean())
    bands = [*image.mean(dim=(1, 2)), *image.std(dim=(1, 2), correction=0)]
    expected = (torch.stack([*positive, *negative, *bands]) - rcf.feature_mean) / rcf.feature_std
    torch.testing.assert_close(rcf(image[None])[0], expected, rtol=1e-4, atol=1e-4)


def test_rcf_filters_whiten_what_they_see():
    """They are unit-length whitened patches, so responses have mean 0 and variance about 1."""
    images = make_images(400)
    encoder = RandomConvolutionalFeatures.fit(images, num_random_features=64)
    patches = np.lib.stride_tricks.sliding_window_view(images.double().numpy(), (3, 3), axis=(2, 3))
    patches = patches.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 27)  # places, bands * 3 * 3
    variances, axes = np.linalg.eigh(np.cov(patches.T))
    dewhitening = axes * np.sqrt(variances + 0.01 * variances.mean()) @ axes.T
    weight = encoder.weight.double().flatten(1).numpy()
    responses = patches @ weight.T + encoder.bias.double().numpy()
    assert patches.var(axis=0).max() < 0.1 < 0.5 < responses.var(axis=0).min()
    assert responses.var(axis=0).max() < 1.2
    assert abs(responses.mean(axis=0)).max() < 0.1
    np.testing.assert_allclose(np.linalg.norm(weight @ dewhitening, axis=1), 1, atol=0.02)


def test_rcf_features_are_standardised_over_the_fitting_images():
    """Over the images it was fitted on, every feature has mean 0 and standard deviation 1."""
    images = make_images(300)
    encoder = RandomConvolutionalFeatures.fit(images)
    features = encoder(images).double()
    assert features.shape == (300, 512 + 2 * 3)
    torch.testing.assert_close(features.mean(dim=0), torch.zeros(518).double(), rtol=0, atol=1e-4)
    torch.testing.assert_close(
        features.std(dim=0, correction=0), torch.ones(518).double(), rtol=0, atol=1e-3
    )


def test_rcf_of_scales_is_one_encoder_per_scale():
    """Each scale has the features of an encoder fitted to its bands alone, in one order."""
    images = make_images(60, num_bands=6)
    both = RandomConvolutionalFeatures.fit(images, num_random_features=16, num_scales=2)
    alone = [
        RandomConvolutionalFeatures.fit(part, num_random_features=8)(part)
        for part in images.split(3, dim=1)
    ]
    assert both.num_features == 16 + 2 * 6 and both.weight.shape == (8, 3, 3, 3)
    of_kinds = [features.split([4, 4, 3, 3], dim=1) for features in alone]  # +, -, mean, std
    expected = torch.cat([part for kind in zip(*of_kinds, strict=True) for part in kind], dim=1)
    torch.testing.assert_close(both(images), expected, rtol=1e-4, atol=1e-4)
    assert both.config["num_scales"] == 2


@pytest.mark.parametrize("value", [0.0, 0.4])
def test_rcf_fitted_on_constant_images_is_finite(value):
    """Images without any contrast can be fitted, and what is fitted can be used."""
    encoder = RandomConvolutionalFeatures.fit(torch.full((3, 3, 8, 8), value))
    assert all(buffer.isfinite().all() for buffer in encoder.buffers())
    assert encoder(make_images(4)).isfinite().all()
    assert encoder(make_images(4)).abs().max() < 10


def test_rcf_must_be_fitted_or_loaded():
    """Sizes alone give no features."""
    with pytest.raises(RuntimeError, match=r"RandomConvolutionalFeatures.fit\(images\)"):
        RandomConvolutionalFeatures(3)(make_images(2))


def test_rcf_refuses_what_it_cannot_use(rcf, shape_checks_off):
    """Wrong sizes and fitting images are named in the error."""
    fit, images = RandomConvolutionalFeatures.fit, make_images(4)
    with pytest.raises(ValueError, match=r"num_random_features even .* got 3, 7, 3, 1"):
        fit(images, num_random_features=7)
    with pytest.raises(ValueError, match=r"must be positive.* got 3, 512, 0, 1"):
        fit(images, kernel_size=0)
    with pytest.raises(ValueError, match=r"num_bands a multiple of num_scales, got 3, 512, 3, 2"):
        fit(images, num_scales=2)
    with pytest.raises(ValueError, match=r"at least one image, got \(0, 3, 8, 8\)"):
        fit(images[:0])
    with pytest.raises(ValueError, match=r"got torch.uint8"):
        fit(images.byte())
    with pytest.raises(ValueError, match="must be finite"):
        fit(images / 0)
    with pytest.raises(ValueError, match=r"kernel_size = 9 .* got 8 x 8"):
        fit(images, kernel_size=9)
    with pytest.raises(ValueError, match=r"kernel_size = 3 .* got 8 x 2"):
        rcf(images[:, :, :, :2])


@pytest.mark.parametrize("name", SIZES_PX)
def test_networks_are_timms(name):
    """Names, order and shapes of the state dict are timm's, and so are the features."""
    expected = json.loads(FIXTURE.read_text())["models"][name]
    encoder = make_image_encoder(name, num_bands=NUM_BANDS)
    assert describe_state_dict(encoder) == expected["state_dict"]
    outputs = compute_reference_outputs(encoder, size_px=SIZES_PX[name])
    torch.testing.assert_close(outputs, torch.tensor(expected["outputs"]), rtol=1e-4, atol=1e-4)


def test_backbone_weights_that_do_not_fit_are_named():
    """Missing, unexpected and wrongly shaped entries are all named, and nothing is loaded."""
    encoder = make_image_encoder("resnet18")
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    wrong = {key: value + 1 for key, value in before.items() if key != "bn1.bias"}
    wrong["conv1.weight"] = torch.zeros(64, 3, 7, 7)
    wrong["backbone.conv1.weight"] = torch.zeros(1)
    with pytest.raises(ValueError, match="does not fit resnet18 with 13 bands") as error:
        load_backbone_weights(encoder, wrong)
    assert "missing: bn1.bias;" in str(error.value)
    assert "unexpected: backbone.conv1.weight;" in str(error.value)
    assert "conv1.weight (64, 3, 7, 7) instead of (64, 13, 7, 7)" in str(error.value)
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, before[key])


def test_moco_weights_are_registered_for_all_networks():
    """Each network has weights at a pinned commit, and says what they were trained on."""
    for name in BACKBONES:
        file = load_registry()[f"moco/{name}.pth"]
        repo = f"torchgeo/{name}_sentinel2_all_moco"
        assert re.match(f"https://huggingface.co/{repo}/resolve/[0-9a-f]{{40}}/", file.url)
        assert "MoCo" in describe_weights(name)


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """A function that puts a file in the mirror and registers it as resnet18's weights."""

    def publish(saved: object, **row: str) -> None:
        path = tmp_path / "mirror/moco/resnet18.pth"
        path.parent.mkdir(parents=True)
        torch.save(saved, path)
        file = vars(load_registry()["moco/resnet18.pth"]) | {"sha256": sha256_of_file(path)} | row
        (tmp_path / "own.json").write_text(json.dumps([file]))
        monkeypatch.setenv("SATCLIP_REGISTRY", str(tmp_path / "own.json"))
        monkeypatch.setenv("SATCLIP_DATA_MIRROR", str(tmp_path / "mirror"))

    return publish


def test_moco_encoder_has_the_registered_weights(publish):
    """The file, but for a classifier, becomes a frozen encoder, and its row says what it is."""
    source = make_image_encoder("resnet18")
    classifiers = dict.fromkeys(("fc.weight", "head.weight"), torch.ones(2, 2))
    publish(source.state_dict() | classifiers, content="a test")
    encoder = make_moco_encoder("resnet18")
    images = make_images(2, num_bands=NUM_BANDS, size_px=64)
    assert torch.equal(encoder(images), source(images))
    assert encoder.is_frozen
    assert describe_weights("resnet18") == "a test"


def test_moco_file_cannot_run_code(publish):
    """Only tensors are unpickled; any other object in the file is an error."""
    publish({"conv1.weight": Path("any object")})
    with pytest.raises(UnpicklingError, match="Weights only load failed"):
        make_moco_encoder("resnet18")


def test_unknown_networks_have_no_moco_weights():
    """A misspelt network is answered with all there are."""
    for function in (make_moco_encoder, describe_weights):
        with pytest.raises(ValueError, match=r"one of resnet18, resnet50, vit.*got 'resnet1'"):
            function("resnet1")
