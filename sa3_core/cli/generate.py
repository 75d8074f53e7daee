"""The commands that run a model: generate, encode, decode."""

import argparse
from collections.abc import Sequence
from dataclasses import replace

from ..adapters.switch import AdapterSwitch
from ..audio.waveform import fit_length, prepare_source
from ..checkpoints.load import load_autoencoder
from ..checks import check_positive
from ..codec.autoencode import decode, encode
from ..codec.latent_file import Latents, read_latents, write_latents
from ..editing.edits import AudioToAudio, Continuation, Edit, Inpaint, Loop
from ..editing.regions import bar_seconds
from ..editing.windows import Extension
from ..geometry import SAMPLE_RATE, samples_of
from ..pipeline import GenerateRequest, Take, extend, generate, load_pipeline
from ..sampling.schedule import parse_shift_options
from ..sampling.settings import SampleSettings
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
    read_source,
    write_takes,
    written_as,
)
from .generate_arguments import DEFAULT_NOISE_LEVEL, DEFAULT_SECONDS, START
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
            source, extension = read_source(args.extend_audio), _extension(args)
            takes = extend(pipeline, request, source, extension, chunk, switch, on_progress)
        else:
            result = generate(pipeline, request, chunk, noise_seed, switch, on_progress)
            takes = result.takes
            if args.latents_out:
                place = place_for(args.latents_out, args.force)
                path = write_latents(place, result.latents)
                written.append(written_as(args.latents_out, path))
    return write_takes(args, paths, takes, audio_format) + written


def _request(args: argparse.Namespace) -> GenerateRequest:
    edit = _edit(args)
    level = args.denoise
    if level is None:
        level = DEFAULT_NOISE_LEVEL if args.init_audio else 1.0
    seconds: Sequence[float] = args.seconds or ()
    if args.bars is not None:
        seconds = (bar_seconds(args.bars, args.bpm, args.beats_per_bar),)
    if args.loop_audio:
        seconds = ()  # the loop's own
    elif edit is None and not seconds and not args.extend_audio:
        seconds = (DEFAULT_SECONDS,)
    return GenerateRequest(
        prompts=args.prompt,
        negatives=args.negative or (),
        seconds=seconds,
        settings=_settings(args, level),
        seeds=args.seeds or args.seed or (0,),
        edit=edit,
        headroom=args.headroom,
        variation=(args.variation_seed, args.variation_strength),
    )


def _settings(args: argparse.Namespace, level: float) -> SampleSettings:
    return SampleSettings(
        steps=args.steps,
        sampler=args.sampler,
        shift=args.shift,
        cfg=args.cfg,
        apg=args.apg,
        noise_level=level,
        noise_schedule=args.noise_schedule,
        cfg_interval=(args.cfg_start, args.cfg_end),
        norm_threshold=args.norm_threshold,
        rescale=args.rescale,
        keep_mode=args.keep_mode,
        shift_options=parse_shift_options(" ".join(args.shift_options or ())),
    )


def _edit(args: argparse.Namespace) -> Edit | None:
    common = {
        "rule": args.rule,
        "paste_back": args.keep_source_exactly,
        "crossfade": args.crossfade_ms / 1000,
    }
    if args.init_audio:
        return AudioToAudio(*read_source(args.init_audio))
    if args.inpaint_audio:
        return Inpaint(
            *read_source(args.inpaint_audio),
            regions=_regions(args),
            bpm=args.bpm,
            beats_per_bar=args.beats_per_bar,
            invert=args.invert,
            context_seconds=args.context_seconds or 0.0,
            **common,
        )
    if args.continue_audio:
        return Continuation(
            *read_source(args.continue_audio),
            add_seconds=args.add,
            before=args.where == START,
            context_seconds=args.context_seconds or 0.0,
            **common,
        )
    if args.loop_audio:
        seconds = args.seconds[0] if args.seconds else None
        if args.bars is not None:
            seconds = bar_seconds(args.bars, args.bpm, args.beats_per_bar)
        source = read_source(args.loop_audio)
        return Loop(*source, seconds=seconds, seam_seconds=args.seam_seconds, **common)
    return None


def _regions(args: argparse.Namespace) -> list[str]:
    """One text for all items, or one per item."""
    if not args.one_list_per_line:
        return [", ".join(args.region)]
    return [line for text in args.region for line in text.splitlines() if line.strip()]


def _extension(args: argparse.Namespace) -> Extension:
    given = {
        "context": args.context_seconds,
        "overlap": args.overlap_seconds,
        "longest": args.window_seconds,
    }
    return Extension(
        add=args.add,
        before=args.where == START,
        crossfade=args.crossfade_ms / 1000,
        rule=args.rule,
        **{name: value for name, value in given.items() if value is not None},
    )


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
    latents, chunk = read_latents(args.latents), pick_chunk(args.chunk)
    paths, audio_format = audio_outputs(args, len(latents.seconds))
    path = find_model(args, args.model, "autoencoder")
    autoencoder = load_autoencoder(path, pick_dtype(args.precision), pick_device(args.device))
    noise_seed = args.noise_seed if args.decoder_noise else None
    with Bars() as on_progress:
        pieces = decode(autoencoder, latents, chunk, noise_seed, on_progress)
    takes = [Take(audio, SAMPLE_RATE) for audio in pieces]
    return write_takes(args, paths, takes, audio_format)
