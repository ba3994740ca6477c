"""`make quickstart`: the project's main job on real photographs, in a few minutes on two cores.

Trains a LapCVAE and a VAE of the same size, for the same number of images, on 32x32 crops of the colour photographs that come
inside scikit-image; measures the sqrt(MSE) of both on crops of photographs that neither has seen; times the pyramid against OpenCV;
and draws one picture: inputs, pyramid, reconstructions, samples, samples with the coarse part fixed, and an edit.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from functools import partial
from pathlib import Path

import skimage
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import lapcore
from bench import harness, pyramid
from bench.report import summarise, text, write_json
from lapcore.data import open_images, to_model_range, to_uint8
from lapcore.metrics import evaluate_rmse
from lapcore.models import VAE, LapCVAE
from lapcore.models.base import ImageModel
from lapcore.training import TrainConfig, train

TRAINED_ON = ("astronaut.png", "motorcycle_left.png", "motorcycle_right.png", "rocket.jpg", "retina.jpg")
HELD_OUT = ("chelsea.png", "coffee.png")
SIZE = 32
CROPS = 4000  # of each photograph to train on
TEST_CROPS = 256  # of each photograph held out
SHOWN = 8
SEED = 0


def models() -> dict[str, tuple[ImageModel, list[int]]]:
    """Both models, of the same number of parameters within 5%, and the steps of their stages, of the same sum."""
    torch.manual_seed(SEED)
    lapcvae = LapCVAE(SIZE, levels=2, widths=(64,), band_width=32, band_latent=16, hidden=256)
    # Of the VAEs of this size that were tried, the best: with linear paths, as LapCVAE has them.
    vae = VAE(SIZE, latent=80, widths=(24, 48, 96), decoder_widths=(48, 32, 16), hidden=64, linear=True)
    return {"LapCVAE": (lapcvae, [1000, 500, 400]), "VAE": (vae, [1900])}


def parameters(model: ImageModel) -> int:
    return sum(p.numel() for p in model.parameters())


def photographs(folder: Path) -> tuple[Path, Path]:
    """Copies scikit-image's photographs into a folder to train on and one that is held out."""
    source = Path(skimage.__file__).parent / "data"
    folders = folder / "train", folder / "held_out"
    for target, names in zip(folders, (TRAINED_ON, HELD_OUT), strict=True):
        target.mkdir(parents=True)
        for name in names:
            shutil.copyfile(source / name, target / name)
    return folders


def crops(folder: Path, count: int) -> torch.utils.data.Dataset[tuple[Tensor, int]]:
    return open_images(folder, size=SIZE, resize="random_crop", crops_per_image=count, seed=SEED)


def train_one(name: str, model: ImageModel, steps: list[int], data: Path, out: Path) -> float:
    """Trains one model and gives the images it saw per second."""
    config = TrainConfig(
        steps=steps, batch_size=32, lr=2e-3, warmup=50, flip=True, seed=SEED, num_workers=0, log_every=250, device="cpu"
    )
    print(f"\n{name}: {parameters(model):,} parameters, {sum(steps)} steps of {config.batch_size} crops")
    start = time.perf_counter()
    train(model, crops(data, CROPS), config, out)
    return sum(steps) * config.batch_size / (time.perf_counter() - start)


def test_images(folder: Path) -> Tensor:
    """Crops of the photographs held out, in [-1, 1]."""
    loader = DataLoader(crops(folder, TEST_CROPS), batch_size=len(HELD_OUT) * TEST_CROPS)
    images, _ = next(iter(loader))
    return to_model_range(images)


def chosen(images: Tensor) -> Tensor:
    """The crops to show: every so many, among the half with the most contrast."""
    contrast = images.flatten(1).std(1)
    busy = contrast.argsort(descending=True)[: len(images) // 2].sort().values
    return images[busy[:: len(busy) // SHOWN][:SHOWN]]


def painted_edit(model: LapCVAE, images: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
    """A reddish disc painted on the coarse version, level 1, of each image; and the images edited so."""
    coarse = model.decompose(images).images[1]
    side = coarse.shape[-1]
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    centre = (side - 1) / 2
    disc = (rows - centre).square() + (columns - centre).square() < (side / 4) ** 2
    colour = torch.tensor([0.6, -0.5, -0.5]).view(1, 3, 1, 1)
    painted = torch.where(disc, 0.3 * coarse + 0.7 * colour, coarse)
    return painted, model.edit(images, painted, None, 1, seeds)


def rows_of_picture(lapcvae: LapCVAE, vae: VAE, images: Tensor) -> list[tuple[str, Tensor]]:
    """The rows of the picture: a title and images in [-1, 1] of any one size each."""
    seeds = torch.arange(len(images))
    parts = lapcvae.decompose(images)
    painted, edited = painted_edit(lapcvae, images, seeds)
    top = len(parts.bands)
    same = images[5:6].expand(len(images), -1, -1, -1)
    coarse = lapcvae.decompose(same).images[1]
    return [
        ("input", images),
        *((f"band {level} (x2)", 2 * band) for level, band in enumerate(parts.bands)),
        (f"low-pass {top}", parts.images[-1]),
        ("VAE reconstruction", vae.reconstruct(images)),
        ("LapCVAE reconstruction", lapcvae.reconstruct(images)),
        ("VAE samples", vae.sample(seeds)),
        ("LapCVAE samples\n(temperature 0.4-1)", lapcvae.sample(seeds, temperature=(0.4, 0.5, 1.0))),
        ("sixth input: level 1 kept,\nband 0 drawn", lapcvae.sample(seeds, coarse=coarse, from_level=1)),
        ("painted on level 1", painted),
        ("edited", edited),
    ]


def draw(rows: list[tuple[str, Tensor]], title: str, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(rows), SHOWN, figsize=(1.1 * SHOWN + 2, 1.1 * len(rows) + 0.6), squeeze=False)
    for (name, images), line in zip(rows, axes, strict=True):
        for image, axis in zip(to_uint8(images.clamp(-1, 1)), line, strict=True):
            axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    temporary = path.with_suffix(".tmp.png")
    figure.savefig(temporary, dpi=110)
    temporary.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/quickstart"))
    out = parser.parse_args().out
    start = time.perf_counter()
    for earlier in ("photographs", "LapCVAE", "VAE"):
        shutil.rmtree(out / earlier, ignore_errors=True)
    training, held_out = photographs(out / "photographs")
    both = models()
    # On one thread the figures do not depend on the number of cores, and a busy neighbour cannot make threads wait for each other,
    # which costs more than a second core brings to layers this small.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    speeds = {name: train_one(name, model, steps, training, out / name) for name, (model, steps) in both.items()}
    torch.set_num_threads(threads)

    images = test_images(held_out)
    scores = {name: evaluate_rmse(model.eval(), [(images, None)], SEED) for name, (model, _) in both.items()}
    print(f"\nsqrt(MSE) in grey levels on {len(images)} crops of {' and '.join(HELD_OUT)}, which were not trained on")
    for name, score in scores.items():
        error, mean_code = score["rmse"], score["rmse_mean_rounded"]
        print(
            f"  {name:8s} {error['mean']:6.2f} +- {error['std']:5.2f} from a sampled code,"
            f" {mean_code['mean']:6.2f} from the mean code; trained at {speeds[name]:.0f} images/s"
        )

    print("\nLaplacian pyramid, 3 levels, against OpenCV")
    peers = harness.Peers(("opencv", "torch eager"))
    cases = [
        ("pyramid", pyramid.named("laplacian_pyramid", shape), partial(pyramid.laplacian, peers, shape))
        for shape in ((1, 3, 1080, 1920), (256, 3, 32, 32))
    ]
    times = summarise(*harness.measure(cases, seconds=0.4), peers.missing)
    print(text(times))

    lapcvae, vae = both["LapCVAE"][0], both["VAE"][0]
    assert isinstance(lapcvae, LapCVAE) and isinstance(vae, VAE)
    title = ", ".join(f"{name} sqrt(MSE) {score['rmse']['mean']:.2f}" for name, score in scores.items())
    draw(rows_of_picture(lapcvae, vae, chosen(images)), f"{title} (held-out photographs)", out / "quickstart.png")
    report = {
        "rmse": scores,
        "images_per_second": speeds,
        "parameters": {n: parameters(m) for n, (m, _) in both.items()},
    }
    (out / "quickstart.json").write_text(json.dumps(report, indent=2) + "\n")
    write_json(out / "pyramid.json", times)
    print(
        f"\n{out / 'quickstart.png'}: the picture; lapcore {lapcore.__version__}, {time.perf_counter() - start:.0f} s"
    )
    if scores["LapCVAE"]["rmse"]["mean"] >= scores["VAE"]["rmse"]["mean"]:
        raise SystemExit("LapCVAE did not come out below the VAE: the model or its training is not right")


if __name__ == "__main__":
    main()
