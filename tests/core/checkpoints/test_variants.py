"""Published models: the numbers of the family table and names found in file names."""

import pytest

from sa3_core.checkpoints.variants import VARIANTS, variant_of
from sa3_core.geometry import HOP


def test_family_table() -> None:
    generative = ["small-music", "small-sfx", "medium"]
    assert list(VARIANTS) == [
        *generative,
        *(f"{name}-base" for name in generative),
        "same-s",
        "same-l",
    ]
    for name, variant in VARIANTS.items():
        assert variant.name == name
        assert variant.generative is not name.startswith("same")
        if not variant.generative:
            assert (variant.max_seconds, variant.sample_size, variant.objective) == (None,) * 3
            assert variant.autoencoder == name
            assert variant.repo == f"stabilityai/{name.upper()}"
            continue
        small = name.startswith("small")
        assert variant.repo == f"stabilityai/stable-audio-3-{name}"
        assert (variant.max_seconds, variant.sample_size) == (
            (120, 5_292_032) if small else (380, 16_777_216)
        )
        assert variant.sample_size is not None
        assert variant.sample_size % (2 * HOP) == 0
        assert variant.objective == ("rectified_flow" if name.endswith("-base") else "rf_denoiser")
        assert variant.autoencoder == ("same-s" if small else "same-l")


@pytest.mark.parametrize("name", VARIANTS)
def test_every_name_is_found_in_the_published_file_names(name: str) -> None:
    under = name.replace("-", "_")
    for text in (
        name,
        name.upper(),
        f"stable_audio_3_{under}.safetensors",
        f"checkpoints/stable_audio_3_{under}.safetensors",
        f"checkpoints\\sa3\\stable_audio_3_{under}_bf16.safetensors",
        f"stable-audio-3-{name}",
        f"D:\\models\\stable-audio-3-{name}\\model.safetensors",
        f"my {name} (copy).safetensors",
    ):
        found = variant_of(text)
        assert found is not None, text
        assert found.name == name, text


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "model.safetensors",
        "sd_xl_base_1.0.safetensors",
        "mediumish",
        "small",
        "samesies-s",
        "smallmusic",
        "音楽モデル.safetensors",
    ],
)
def test_other_names_are_no_variant(name: str) -> None:
    assert variant_of(name) is None


def test_the_last_telling_part_of_a_path_decides() -> None:
    found = variant_of("medium/lora tests/stable_audio_3_small_sfx.safetensors")
    assert found is VARIANTS["small-sfx"]
    assert variant_of("medium-base/model.safetensors") is VARIANTS["medium-base"]
