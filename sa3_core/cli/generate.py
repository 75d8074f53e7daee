"""The commands that run a model: generate, encode, decode."""

import argparse
from collections.abc import Sequence
from dataclasses import replace

from ..adapters.switch import AdapterSwitch
from ..audio.file import read_audio
from ..audio.waveform import prepare_source
from ..checkpoints.load import load_autoencoder
from ..codec.autoencode import decode, encode
from ..codec.latent_file import Latents, read_latents, write_latents
from ..editing.edits import AudioToAudio, Continuation, Edit, Inpaint
from ..geometry import SAMPLE_RATE, seconds_of_samples
from ..pipeline import GenerateRequest, Take, generate, load_pipeline
from ..sampling.schedule import parse_shift_options
from ..sampling.settings import SampleSettings
from .arguments import DEFAULT_NOISE_LEVEL, DEFAULT_SECONDS
from .files import (
    Bars,
    audio_outputs,
    check_latents_out,
    check_outputs,
    find_autoencoder,
    find_model,
    find_text_encoder,
    pick_chunk,
    pick_device,
    pick_dtype,
    write_takes,
)
from .loras import load_loras


def run_generate(args: argparse.Namespace) -> list[str]:
    """Text-to-audio and all edits; the paths written."""
    request, chunk = _request(args), pick_chunk(args.chunk)
    paths, audio_format = audio_outputs(args, request.batch)
    if args.latents_out:
        check_latents_out(args.latents_out, request.batch)
        check_outputs([args.latents_out], args.force)
    model = find_model(args, args.model, "model")
    uses = load_loras(args, model)
    pipeline = load_pipeline(
        model,
        find_text_encoder(args, model),
        find_autoencoder(args, model),
        args.objective,
        pick_dtype(args.dtype),
        pick_device(args.device),
    )
    if args.compile:
        pipeline = replace(pipeline, model=pipeline.model.compile(args.compile))
    noise_seed = args.noise_seed if args.decoder_noise else None
    with AdapterSwitch(pipeline.model, uses) as switch, Bars() as on_progress:
        result = generate(
            pipeline,
            request,
            chunk,
            noise_seed,
            switch if uses else None,
            on_progress,
        )
    written = []
    if args.latents_out:
        write_latents(args.latents_out, result.latents)
        written.append(str(args.latents_out))
    return write_takes(paths, result.takes, audio_format) + written


def _request(args: argparse.Namespace) -> GenerateRequest:
    edit = _edit(args)
    level = args.noise_level
    if level is None:
        level = DEFAULT_NOISE_LEVEL if args.init_audio else 1.0
    seconds: Sequence[float] = args.seconds or ()
    if edit is None and not seconds:
        seconds = (DEFAULT_SECONDS,)
    settings = SampleSettings(
        steps=args.steps,
        sampler=args.sampler,
        shift=args.shift,
        cfg=args.cfg,
        apg=args.apg,
        noise_level=level,
        shift_options=parse_shift_options(" ".join(args.shift_options or ())),
    )
    return GenerateRequest(
        prompts=args.prompt,
        negatives=args.negative or (),
        seconds=seconds,
        settings=settings,
        seeds=args.seed or (0,),
        edit=edit,
        headroom=args.headroom,
    )


def _edit(args: argparse.Namespace) -> Edit | None:
    if args.init_audio:
        return AudioToAudio(*read_audio(args.init_audio))
    if args.inpaint_audio:
        return Inpaint(
            *read_audio(args.inpaint_audio),
            regions=[", ".join(args.region)],
            bpm=args.bpm,
            beats_per_bar=args.beats_per_bar,
            rule=args.mask_rule,
            paste_back=not args.no_paste_back,
        )
    if args.continue_audio:
        return Continuation(
            *read_audio(args.continue_audio),
            add_seconds=args.add,
            rule=args.mask_rule,
            paste_back=not args.no_paste_back,
        )
    return None


def run_encode(args: argparse.Namespace) -> list[str]:
    """Audio to a latent file of ceil(N / 4096) frames; the path written."""
    check_latents_out(args.out, 1)
    check_outputs([args.out], args.force)
    chunk = pick_chunk(args.chunk)
    source = prepare_source(*read_audio(args.audio))
    path = find_model(args, args.model, "autoencoder")
    autoencoder = load_autoencoder(path, pick_dtype(args.dtype), pick_device(args.device))
    with Bars() as on_progress:
        frames = encode(autoencoder, source, chunk, on_progress)
    write_latents(args.out, Latents(frames, (seconds_of_samples(source.shape[-1]),)))
    return [str(args.out)]


def run_decode(args: argparse.Namespace) -> list[str]:
    """A latent file to audio files, each cut to its own duration; the paths written."""
    latents, chunk = read_latents(args.latents), pick_chunk(args.chunk)
    paths, audio_format = audio_outputs(args, len(latents.seconds))
    path = find_model(args, args.model, "autoencoder")
    autoencoder = load_autoencoder(path, pick_dtype(args.dtype), pick_device(args.device))
    noise_seed = args.noise_seed if args.decoder_noise else None
    with Bars() as on_progress:
        pieces = decode(autoencoder, latents, chunk, noise_seed, on_progress)
    return write_takes(paths, [Take(audio, SAMPLE_RATE) for audio in pieces], audio_format)
