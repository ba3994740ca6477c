"""The published comparisons, at sizes that two cores train in minutes: `docs/experiments.md`.

    python -m lapcore.bench.experiments split CIFAR-10 --out data
    python -m lapcore.bench.experiments faces --out data
    python -m lapcore.bench.experiments run reconstruction --data data --out runs --seeds 0-2
    python -m lapcore.bench.experiments table reconstruction adversarial --out runs
    python -m lapcore.bench.experiments pictures --data data --out runs --images docs/images

`run` trains each config of an experiment with each seed and measures it on the held-out images, by `lapcore train` and
`lapcore eval`. What is there is not run again, and a run that was stopped goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lapcore.data import open_images
from lapcore.data.files import atomic_file
from lapcore.models import load_model

from .pictures import GALLERY, PIXELCNNS, draw_pictures

CONFIGS = Path(__file__).parent.parent / "configs"
HELD_OUT = 500
"""Pictures of each class that no model is trained on: the last by name, 4500 to 4999 of each folder of CIFAR-10."""


VALIDATION = 10
"""Pictures of each class, the last of those held out, that Parzen windows' sigma is chosen on."""


FACES = {16: 4000, 32: 4000, 64: 8000}
"""Cartoon faces to train on, by size; `HELD_OUT` others, of another seed, are held out."""


class Experiment(NamedTuple):
    """configs: name of a file in `configs/` -> metrics of `lapcore eval`; name:k measures samples of that model which keep
    x_k of the held-out images. data: "colour", "grey", "faces32" or "faces64". limit: to the first so many held-out
    images, and sigma is chosen on the validation images."""

    configs: Mapping[str, str]
    data: str = "colour"
    limit: int | None = None


OF_SAMPLES = "swd,kid,prdc"
EXPERIMENTS = {
    "reconstruction": Experiment(dict.fromkeys(("vae", "vae-linear", "vaegan", "lapcvae"), "rmse")),
    "adversarial": Experiment({"gan": "parzen", "lapgan": "parzen,multiscale"}, limit=1000),
    "codes": Experiment({"vqvae": "rmse,bound"}),
    "density": Experiment({"pixelcnn": "bpd", "gated_pixelcnn": "bpd", "pixelcnn_pp": "bpd"}, "grey"),
    "classes": Experiment({"gated_pixelcnn-classes": "bpd"}, "grey"),
    "faces": Experiment(
        dict.fromkeys(("vae-faces", "vae-linear-faces", "lapcvae-faces", "lapcvae-pixels-faces"), f"rmse,{OF_SAMPLES}")
        | {"lapcvae-faces:1": OF_SAMPLES},
        "faces32",
    ),
    "gallery": Experiment(dict.fromkeys(GALLERY, OF_SAMPLES), "faces32"),
    "gallery-pixelcnn": Experiment(dict.fromkeys(PIXELCNNS, f"bpd,{OF_SAMPLES}"), "faces16"),
    "editor": Experiment(
        {"lapcvae-faces64": f"rmse,{OF_SAMPLES}", "lapcvae-faces64:1": OF_SAMPLES, "lapcvae-faces64:2": OF_SAMPLES},
        "faces64",
    ),
}


def split(cifar: Path, out: Path, held_out: int = HELD_OUT) -> None:
    """Writes {colour, grey}-{train, test, validation}.npz: 32x32 in colour and 16x16 in grey, classes in turn, so that the first
    of a set are of all classes alike. The validation images are the last of the test images."""
    out.mkdir(parents=True, exist_ok=True)
    for name, size, channels in (("colour", 32, 3), ("grey", 16, 1)):
        photographs = open_images(cifar, size=size, channels=channels, resize="crop", convert=True)
        train, test = parted(photographs.labels.tolist(), held_out)
        validation = test[-VALIDATION * len(photographs.classes) :]
        for part, chosen in (("train", train), ("test", test), ("validation", validation)):
            images = np.stack([photographs[index][0].permute(1, 2, 0).numpy() for index in chosen])
            with atomic_file(out / f"{name}-{part}.npz") as file:
                np.savez(file, images=images, labels=photographs.labels.numpy()[chosen])


def faces(out: Path, size: int, held_out: int = HELD_OUT) -> None:
    """Draws faces32-train and faces32-test, or those of another size: folders of faces with their attributes."""
    for seed, (part, number) in enumerate((("train", FACES[size]), ("test", held_out))):
        folder = out / f"faces{size}-{part}"
        if not folder.exists():
            wanted = ["--count", str(number), "--size", str(size), "--seed", str(seed), "--workers", "2"]
            _lapcore("faces", *wanted, "--out", str(folder))


def parted(labels: Sequence[int], held_out: int) -> tuple[list[int], list[int]]:
    """Indices to train on and held out, the last `held_out` of each class; of each, the classes in turn."""
    by_class = [[i for i, label in enumerate(labels) if label == k] for k in range(max(labels) + 1)]
    if min(map(len, by_class)) <= held_out:
        raise ValueError(f"expected more than {held_out} pictures of each class, got {[len(own) for own in by_class]}")
    return _in_turn([own[:-held_out] for own in by_class]), _in_turn([own[-held_out:] for own in by_class])


def _in_turn(groups: Iterable[Sequence[int]]) -> list[int]:
    placed = ((place, k, index) for k, group in enumerate(groups) for place, index in enumerate(group))
    return [index for _, _, index in sorted(placed)]


def run(experiment: Experiment, data: Path, out: Path, seeds: Iterable[int], only: Sequence[str] | None = None) -> None:
    """Trains and measures every config, or those named in `only`, with every seed; a seed's models before the next seed's."""
    for seed in seeds:
        for config, metrics in experiment.configs.items():
            if only is not None and config not in only:
                continue
            name, _, level = config.partition(":")
            folder = out / name / f"seed{seed}"
            if not (folder / "model").exists():
                _lapcore(*_train(name, _set(data, experiment, "train"), folder, seed))
            scores = _scores(out, config, seed)
            if not scores.exists():
                test = _set(data, experiment, "test")
                asked = ["--data", str(test), "--metrics", metrics, "--device", "cpu", "--json", str(scores)]
                if experiment.limit is not None:
                    asked += ["--limit", str(experiment.limit)]
                    asked += ["--validation", str(_set(data, experiment, "validation"))]
                if "kid" in metrics:
                    asked += ["--features", "efficientnet_lite0"]
                if level:
                    asked += ["--from-level", level]
                _lapcore("eval", str(folder), *asked)


def _set(data: Path, experiment: Experiment, part: str) -> Path:
    name = f"{experiment.data}-{part}"
    return data / (name if experiment.data.startswith("faces") else f"{name}.npz")


def _scores(out: Path, config: str, seed: int) -> Path:
    """seed0.json beside the run seed0; seed0-level1.json of samples that keep level 1."""
    name, _, level = config.partition(":")
    return out / name / (f"seed{seed}-level{level}.json" if level else f"seed{seed}.json")


def _train(config: str, data: Path, folder: Path, seed: int) -> list[str]:
    command = ["train", model_of(config)]
    if (folder / "config.yaml").exists():
        return [*command, "--out", str(folder), "--resume"]
    settings = ["--config", str(CONFIGS / f"{config}.yaml"), "--data", str(data), "--seed", str(seed)]
    return [*command, *settings, "--out", str(folder)]


def model_of(config: str) -> str:
    """gated_pixelcnn of gated_pixelcnn-classes."""
    return config.partition("-")[0]


def _lapcore(*arguments: str) -> None:
    print("lapcore", *arguments, flush=True)
    code = subprocess.run([sys.executable, "-m", "lapcore.cli.main", *arguments]).returncode
    if code:
        raise SystemExit(code)  # it has said what is wrong


def table(experiment: Experiment, out: Path) -> str:
    """Markdown: a row a config; measures are mean +- standard deviation over the seeds that were run."""
    rows = [_row(config, out) for config in experiment.configs]
    measures = list(dict.fromkeys(name for row in rows for name in row["measures"]))
    lines = [
        f"| model | parameters | of them critics' | steps | seconds | seeds | {' | '.join(measures)} |",
        "| --- " * (6 + len(measures)) + "|",
    ]
    for row in rows:
        own = [row["measures"].get(name, "") for name in measures]
        lines.append("| " + " | ".join([*row["cells"], *own]) + " |")
    return "\n".join(lines)


def _row(config: str, out: Path) -> dict[str, Any]:
    name, _, level = config.partition(":")
    files = sorted((out / name).glob("seed*.json"))
    scores = [path for path in files if path.stem.partition("-level")[2] == level]
    found = [json.loads(path.read_text())["metrics"] for path in scores]
    runs = [path.with_name(path.stem.partition("-")[0]) for path in scores]
    logs = [_last_line(folder / "log.jsonl") for folder in runs]
    measures = {name: _spread([each[name]["mean"] for each in found], "{:.2f}") for name in found[0]} if found else {}
    if not found:
        return {"cells": [config, "", "", "", "", "0"], "measures": {}}
    model = load_model(runs[0])
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    critics = sum(size for name, size in sizes.items() if "critic" in name)
    seconds = _spread([line["seconds"] for line in logs], "{:.0f}")
    cells = [config, f"{sum(sizes.values()):,}", f"{critics:,}", f"{logs[0]['step']:,}", seconds, str(len(found))]
    return {"cells": cells, "measures": measures}


def _last_line(path: Path) -> dict[str, Any]:
    last: dict[str, Any] = json.loads(path.read_text().splitlines()[-1])
    return last


def _spread(values: Sequence[float], form: str) -> str:
    mean = form.format(statistics.mean(values))
    return mean if len(values) == 1 else f"{mean} +- {form.format(statistics.stdev(values))}"


def main(arguments: Sequence[str] | None = None) -> None:
    description, usage = (__doc__ or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(
        "python -m lapcore.bench.experiments",
        description=description,
        epilog=usage,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    own = {
        "split": commands.add_parser("split", help="make the sets to train on and held out, of a folder of classes"),
        "faces": commands.add_parser("faces", help="draw faces to train on and held out"),
        "run": commands.add_parser("run", help="train and measure"),
        "table": commands.add_parser("table", help="print what was measured, as Markdown"),
        "pictures": commands.add_parser("pictures", help="draw reconstructions and samples of seed 0's models"),
    }
    own["split"].add_argument("cifar", type=Path, metavar="CIFAR-10", help="what lapcore's --data takes, with classes")
    for name in ("split", "faces"):
        own[name].add_argument("--out", type=Path, required=True, help="folder of the sets")
    own["faces"].add_argument("--size", type=int, choices=FACES, default=32, help="pixels on a side (32)")
    for name in ("run", "pictures"):
        own[name].add_argument("--data", type=Path, required=True, help="folder of split and faces")
    for name in ("run", "table", "pictures"):
        own[name].add_argument("--out", type=Path, required=True, help="folder of the runs")
    for name in ("run", "table"):
        own[name].add_argument(
            "experiments", nargs="+", choices=EXPERIMENTS, metavar="EXPERIMENT", help=", ".join(EXPERIMENTS)
        )
    own["run"].add_argument("--seeds", type=seeds_of, default=range(3), metavar="0-2", help="0-2 unless given")
    own["run"].add_argument(
        "--only", nargs="+", metavar="CONFIG", help="these of the experiments' configs: vae lapcvae"
    )
    own["pictures"].add_argument("--images", type=Path, required=True, help="folder of the pictures")
    options = parser.parse_args(arguments)
    if options.command == "split":
        split(options.cifar, options.out)
    elif options.command == "faces":
        faces(options.out, options.size)
    elif options.command == "pictures":
        draw_pictures(options.data, options.out, options.images)
    else:
        for name in options.experiments:
            if options.command == "run":
                run(EXPERIMENTS[name], options.data, options.out, options.seeds, options.only)
            print(f"\n{name}\n{table(EXPERIMENTS[name], options.out)}", flush=True)


def seeds_of(text: str) -> range:
    """0-2 as range(3), 1 as range(1, 2)."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


if __name__ == "__main__":
    main()
