"""The CLIP: a prompt that was encoded before needs the text encoder neither run nor loaded."""

from __future__ import annotations

import torch


def test_a_second_run_does_not_load_the_text_encoder(bridge, mm, tiny_s, monkeypatch):
    clip = bridge.clip.load_clip(str(tiny_s / "t5gemma-b-b-ul2"))
    loads, load = [], mm.load_models_gpu
    monkeypatch.setattr(mm, "load_models_gpu", lambda *a, **k: (loads.append(1), load(*a, **k))[1])
    first, totals = clip.encode_prompts(["warm pad", ""])
    again, same = clip.clone().encode_prompts(["warm pad", ""])
    assert len(loads) == 1
    assert torch.equal(again.tokens, first.tokens)
    assert totals == same
    clip.encode_prompts(["warm pad"])
    assert len(loads) == 2

    patched = clip.clone()
    key = next(k for k in clip.patcher.model_state_dict() if k.endswith("o_proj.weight"))
    change = torch.ones_like(clip.patcher.model_state_dict()[key])
    patched.patcher.add_patches({key: ("diff", (change,))})
    changed, _ = patched.encode_prompts(["warm pad", ""])
    assert len(loads) == 3
    assert not torch.equal(changed.tokens, first.tokens)
    patched.patcher.detach()
    assert torch.equal(clip.encode_prompts(["warm pad", ""])[0].tokens, first.tokens)
    assert len(loads) == 3
