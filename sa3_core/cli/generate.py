"""The commands that run a model: generate, encode, decode."""

import argparse
from dataclasses import replace

from ..adapters.switch import AdapterSwitch
from ..audio.waveform import fit_length, prepare_source
from ..checkpoints.load import load_autoencoder
from ..checks import check_positive
from ..codec.autoencode import decode, encode
from ..codec.latent_file import Latents, read_latents, write_latents
from ..geometry import SAMPLE_RATE, samples_of
from ..jobs.request import extension_of, read_source, request_of
from ..pieces import Take
from ..pipeline import extend, generate, load_pipeline
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
    pick_storage,
    place_for,
    write_takes,
    written_as,
)
from .jobs import run_manifest
from .loras import load_loras


def run_generate(args: argparse.Namespace) -> list[str]:
    """Text-to-audio and all edits; the paths written."""
    if args.manifest is not None:
        return run_manifest(args)
    request, chunk = request_of(args), pick_chunk(args.chunk)
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
        pick_dtype(args.precision),
        pick_device(args.device),
        pick_storage(args.precision),
    )
    if args.compile:
        pipeline = replace(pipeline, model=pipeline.model.compile(args.compile))
    noise_seed = args.noise_seed if args.decoder_noise else None
    written: list[str] = []
    switched = AdapterSwitch(pipeline.model, uses)
    with switched as put, Bars() as on_progress:
        switch = put if uses else None
        if args.extend_audio:
            source, extension = read_source(args.extend_audio), extension_of(args)
            takes = extend(pipeline, request, source, extension, chunk, switch, on_progress)
        else:
            result = generate(pipeline, request, chunk, noise_seed, switch, on_progress)
            takes = result.takes
            if args.latents_out:
                place = place_for(args.latents_out, args.force)
                path = write_latents(place, result.latents)
                written.append(written_as(args.latents_out, path))
    return write_takes(args, paths, takes, audio_format) + written


def run_encode(args: argparse.Namespace) -> list[str]:
    """Audio files to a latent file with an item of ceil(N / 4096) frames each; the path written."""
    check_latents_out(args.out, len(args.audio))
    check_outputs([args.out], args.force)
    chunk = pick_chunk(args.chunk)
    sources = [prepare_source(*read_source(path))[0] for path in args.audio]
    if args.seconds is not None:
        samples = samples_of(check_positive("seconds", args.seconds))
        sources = [fit_length(source, samples) for source in sources]
    path = find_model(args, args.model, "autoencoder")
    autoencoder = load_autoencoder(path, pick_dtype(args.precision), pick_device(args.device))
    with Bars() as on_progress:
        latents = encode(autoencoder, sources, chunk, on_progress)
    if args.seconds is not None:
        latents = Latents(latents.frames, (args.seconds,) * len(sources))
    place = place_for(args.out, args.force)
    return [written_as(args.out, write_latents(place, latents))]


def run_decode(args: argparse.Namespace) -> list[str]:
    """A latent file to audio files, each cut to its own duration; the paths written."""
    if args.manifest is not None:
        return run_manifest(args)
    latents, chunk = read_latents(args.latents), pick_chunk(args.chunk)
    paths, audio_format = audio_outputs(args, len(latents.seconds))
    path = find_model(args, args.model, "autoencoder")
    autoencoder = load_autoencoder(path, pick_dtype(args.precision), pick_device(args.device))
    noise_seed = args.noise_seed if args.decoder_noise else None
    with Bars() as on_progress:
        pieces = decode(autoencoder, latents, chunk, noise_seed, on_progress)
    takes = [Take(audio, SAMPLE_RATE) for audio in pieces]
    return write_takes(args, paths, takes, audio_format)
