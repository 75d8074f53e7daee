"""The source that rides on latents: one frozen value, read like the dict that it was."""

from __future__ import annotations

import copy
from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from sa3_core.editing.regions import Region
from sa3_core.editing.source_rider import SourceRider, item_indices
from sa3_core.errors import InputError


@pytest.fixture
def rider() -> SourceRider:
    """Two sources of unequal lengths, marked; the second continued from its last half second."""
    return SourceRider(
        torch.arange(8.0).reshape(2, 1, 4),
        2,
        regions=((Region(0.5, 1.0),), (Region(1.5, 2.5),)),
        lengths=(4, 3),
        spans=((0, 4), (2, 3)),
        origin=(0.0, 1.0),
    )


def test_it_reads_like_a_dict_of_what_is_set(rider):
    assert {*rider} == {"waveform", "sample_rate", "regions", "lengths", "spans", "origin"}
    assert rider["regions"] == [[(0.5, 1.0)], [(1.5, 2.5)]]
    assert rider["lengths"] == [4, 3]
    assert rider.get("rotate") is None
    assert rider.get("feather", 7) == 7
    assert "rotate" not in rider
    assert SourceRider(torch.zeros(1, 1, 4), 2)["regions"] is None
    with pytest.raises(KeyError):
        _ = rider["rotate"]


def test_it_is_frozen(rider):
    with pytest.raises(FrozenInstanceError):
        rider.feather = 1.0


@pytest.mark.parametrize("copied", [dict, copy.copy, copy.deepcopy, lambda rider: {**rider}])
def test_a_copy_of_another_node_is_the_same_rider(rider, copied):
    again = SourceRider.of(copied(rider))
    for name in rider:
        if name != "waveform":
            assert again[name] == rider[name]
    assert torch.equal(again.waveform, rider.waveform)
    assert again.items_of(2)[1].regions == (Region(1.5, 2.5),)


def test_what_version_one_wrote_is_read():
    """The plain dict that an older pack put on a latent, with lists and tuples as it had them."""
    old = {
        "waveform": torch.ones(1, 2, 6),
        "sample_rate": 3,
        "regions": [[(0.5, 1.0)]],
        "feather": 0.2,
        "rotate": [3],
        "lengths": [6],
    }
    rider = SourceRider.of(old)
    assert rider.waveform is old["waveform"]
    assert (rider.feather, rider.rotate, rider.lengths) == (0.2, (3,), (6,))
    assert rider.regions == ((Region(0.5, 1.0),),)
    assert SourceRider.of(None) is None
    assert SourceRider.of(rider) is rider
    with pytest.raises(InputError, match="has no sample_rate"):
        SourceRider.of({"waveform": old["waveform"]})


def test_items_come_by_batch_repetition_and_index(rider):
    second = rider.items_of(2)[1]
    assert second.waveform.tolist() == [[[4.0, 5.0, 6.0]]]
    assert (second.span, second.origin, second.rotate) == ((2, 3), 1.0, 0)
    assert [item.waveform.shape[-1] for item in rider.items_of(4)] == [4, 3, 4, 3]
    picked = rider.items_of(1, [1])[0]
    assert picked.regions == second.regions
    assert item_indices(2, 3, [5, 0, 1], "x") == [1, 0, 1]
    with pytest.raises(InputError, match="3 items but carries 2 sources"):
        rider.items_of(3)
    whole = replace(rider, regions=None, lengths=None, spans=None, origin=None).items_of(2)[0]
    assert (whole.regions, whole.span, whole.origin) == ((), (0, 4), 0.0)
