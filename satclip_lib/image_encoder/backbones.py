"""ResNet and ViT for any number of bands, with the parameter names and order of timm."""

from collections.abc import Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from satclip_lib.image_encoder.base import ImageEncoder


class ResNet(ImageEncoder):
    """ResNet without its classifier, with the parameter names and order of timm.

    Args:
        depth: Number of layers, 18 or 50.
        num_bands: Number of bands per image, 13 for the Sentinel-2 weights.

    Raises:
        ValueError: If the depth is any other.

    References:
        He et al. (2015), Deep residual learning, arXiv 1512.03385. The 50-layer net strides in
        its 3x3 convolutions, as timm's and torchvision's do.
    """

    def __init__(self, depth: int = 18, *, num_bands: int = 13):
        super().__init__()
        if depth not in (18, 50):
            raise ValueError(f"depth must be 18 or 50, got {depth}")
        block, num_blocks = {18: (BasicBlock, (2, 2, 2, 2)), 50: (Bottleneck, (3, 4, 6, 3))}[depth]
        self.num_bands = num_bands
        self.num_features = 512 * block.expansion
        self.config = {"name": f"resnet{depth}", "num_bands": num_bands}
        self.conv1 = nn.Conv2d(num_bands, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        for stage, (width, length) in enumerate(zip((64, 128, 256, 512), num_blocks, strict=True)):
            blocks = []
            for index in range(length):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(block(channels, width, stride=stride))
                channels = width * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))

    def compute_features(self, images: Tensor) -> Tensor:
        """See :meth:`ImageEncoder.forward`."""
        images = images.contiguous(memory_format=torch.channels_last)  # convolutions are faster so
        x = F.relu(self.bn1(self.conv1(images)))
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean(dim=(2, 3))  # (batch, num_features, h, w) -> (batch, num_features)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, *, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _make_shortcut(in_channels, width, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, in_channels, h, w)`` to ``(batch, width, h / stride, w / stride)``."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.downsample(x))


class Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1 convolutions, beside a shortcut."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, *, stride: int):
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = _make_shortcut(in_channels, out_channels, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, in_channels, h, w)`` to ``(batch, 4 * width, h / stride, w / stride)``."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + self.downsample(x))


def _make_shortcut(in_channels: int, out_channels: int, *, stride: int) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    projection = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
    return nn.Sequential(projection, nn.BatchNorm2d(out_channels))


class VisionTransformer(ImageEncoder):
    """ViT-S/16 for 224 x 224 pixels, without its head; parameter names and order of timm.

    The features are the class token after the last layer norm.

    Args:
        num_bands: Number of bands per image, 13 for the Sentinel-2 weights.

    References:
        Dosovitskiy et al. (2020), An image is worth 16x16 words, arXiv 2010.11929.
    """

    size_px = 224
    num_features = 384

    def __init__(self, num_bands: int = 13):
        super().__init__()
        tile_px = 16
        num_tokens = 1 + (self.size_px // tile_px) ** 2  # class token, then 14 x 14 tiles
        self.num_bands = num_bands
        self.config = {"name": "vit_small_patch16_224", "num_bands": num_bands}
        self.cls_token = nn.Parameter(torch.zeros(1, 1, self.num_features))
        self.pos_embed = nn.Parameter(torch.randn(1, num_tokens, self.num_features) * 0.02)
        self.patch_embed = nn.ModuleDict(
            {"proj": nn.Conv2d(num_bands, self.num_features, tile_px, stride=tile_px)}
        )
        self.blocks = nn.Sequential(
            *(TransformerBlock(self.num_features, num_heads=6) for _ in range(12))
        )
        self.norm = nn.LayerNorm(self.num_features, eps=1e-6)

    def compute_features(self, images: Tensor) -> Tensor:
        """See :meth:`ImageEncoder.forward`."""
        tiles = self.patch_embed["proj"](images)  # (batch, 384, 14, 14)
        tokens = tiles.flatten(2).transpose(1, 2)  # (batch, 196, 384), row by row
        cls_token = self.cls_token.expand(len(images), -1, -1)  # (batch, 1, 384)
        x = torch.cat([cls_token, tokens], dim=1) + self.pos_embed  # (batch, 197, 384)
        return self.norm(self.blocks(x))[:, 0]


class TransformerBlock(nn.Module):
    """Self-attention and a two-layer perceptron, each on normalised input beside a shortcut."""

    def __init__(self, dim: int, *, num_heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, num_heads=num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dim, 4 * dim), "fc2": nn.Linear(4 * dim, dim)})

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, tokens, dim)`` to the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, dim: int, *, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, tokens, dim)`` to the same shape."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # (batch, tokens, 3, heads, d)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (batch, heads, tokens, d)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).flatten(2))  # (batch, tokens, heads * d = dim)


BACKBONES = {
    "resnet18": partial(ResNet, 18),
    "resnet50": partial(ResNet, 50),
    "vit_small_patch16_224": VisionTransformer,
}


def load_backbone_weights(encoder: ImageEncoder, state_dict: Mapping[str, Tensor]) -> ImageEncoder:
    """Load weights into an encoder; all must be there and have the right shape.

    Args:
        encoder: Encoder that is changed in place.
        state_dict: Weights by timm's names. Entries of a classifier or projection, ``fc.*`` and
            ``head.*``, are left out: they are not part of the backbone.

    Returns:
        The same encoder.

    Raises:
        ValueError: If entries are missing, unexpected or of another shape; the encoder is then
            unchanged.
    """
    backbone = {
        key: value for key, value in state_dict.items() if not key.startswith(("fc.", "head."))
    }
    expected = encoder.state_dict()
    problems = {
        "missing": [key for key in expected if key not in backbone],
        "unexpected": [key for key in backbone if key not in expected],
        "wrong shape": [
            f"{key} {tuple(backbone[key].shape)} instead of {tuple(value.shape)}"
            for key, value in expected.items()
            if key in backbone and backbone[key].shape != value.shape
        ],
    }
    if any(problems.values()):
        details = "; ".join(f"{kind}: {', '.join(keys)}" for kind, keys in problems.items() if keys)
        raise ValueError(
            f"state_dict does not fit {encoder.config['name']} with {encoder.num_bands} bands: "
            f"{details}"
        )
    encoder.load_state_dict(backbone)
    return encoder
