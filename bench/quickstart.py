"""`make quickstart`: the project's main job, in about twelve minutes of one core.

Draws cartoon faces, trains a LapCVAE and a VAE of the same size on them, in as many steps but for the quick ones of its priors;
measures the sqrt(MSE) of both on faces that neither has seen, and how far their samples are from these; times the pyramid against
OpenCV; and draws one picture: inputs, pyramid, reconstructions, samples of both from the same seeds, samples with the coarse part
fixed, and an edit.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

import lapcore
from lapcore.data import ImageDataset, open_images, to_model_range, to_uint8
from lapcore.data.faces import draw_faces
from lapcore.metrics import evaluate_rmse, sliced_wasserstein
from lapcore.models import VAE, LapCVAE
from lapcore.models.base import ImageModel
from lapcore.training import TrainConfig, train

from . import harness, pyramid
from .report import summarise, text, write_json

SIZE = 32
FACES, HELD_OUT = 4000, 400
SHOWN = 12
SEED = 0


def models() -> dict[str, tuple[ImageModel, list[int]]]:
    """Both models, of the same number of parameters within 3%, and the steps of their stages: of the same sum, but for the quick
    ones of LapCVAE's prior. These are `configs/lapcvae-faces.yaml` and `configs/vae-faces.yaml`."""
    torch.manual_seed(SEED)
    lapcvae = LapCVAE(
        SIZE,
        levels=1,
        latent=64,
        hidden=224,
        band_latent=48,
        band_width=20,
        band_hidden=96,
        kl_weight=(4.0, 8.0),
    )
    vae = VAE(SIZE, latent=64, widths=(32, 64, 128), decoder_widths=(128, 64, 32), hidden=720)
    return {"LapCVAE": (lapcvae, [2200, 1800, 3000]), "VAE": (vae, [4000])}


def parameters(model: ImageModel) -> int:
    return sum(p.numel() for p in model.parameters())


def faces(folder: Path) -> tuple[Dataset[tuple[Tensor, int]], Tensor]:
    """Faces to train on, and others that are held out, in [-1, 1]."""
    folder.mkdir(parents=True)
    draw_faces(folder, FACES + HELD_OUT, SIZE, seed=SEED, workers=2)
    drawn: ImageDataset = open_images(folder, size=SIZE)
    held_out = torch.stack([drawn[index][0] for index in range(FACES, len(drawn))])
    return Subset(drawn, range(FACES)), to_model_range(held_out)


def train_one(name: str, model: ImageModel, steps: list[int], data: Dataset[tuple[Tensor, int]], out: Path) -> float:
    """Trains one model and gives the seconds that took."""
    config = TrainConfig(steps=steps, batch_size=32, lr=2e-3, seed=SEED, num_workers=0, log_every=250, device="cpu")
    print(f"\n{name}: {parameters(model):,} parameters, {sum(steps)} steps of {config.batch_size} faces")
    start = time.perf_counter()
    train(model, data, config, out)
    return time.perf_counter() - start


def without_glasses(model: LapCVAE, images: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
    """The eyes' rows of the coarse version, level 1, painted with the colour of the cheeks; and the images edited so."""
    coarse = model.decompose(images).images[1]
    side = coarse.shape[-1]
    eyes, cheeks = slice(round(0.44 * side), round(0.6 * side)), round(0.66 * side)
    columns = slice(round(0.3 * side), round(0.7 * side))
    painted = coarse.clone()
    painted[..., eyes, columns] = coarse[..., cheeks : cheeks + 1, columns].mean(-1, keepdim=True)
    return painted, model.edit(images, painted, None, 1, seeds)


def rows_of_picture(lapcvae: LapCVAE, vae: VAE, images: Tensor) -> list[tuple[str, Tensor]]:
    """The rows of the picture: a title and images in [-1, 1] of any one size each; samples are of seeds 0, 1, ..., unselected."""
    seeds, more = torch.arange(len(images)), torch.arange(len(images), 2 * len(images))
    parts = lapcvae.decompose(images)
    painted, edited = without_glasses(lapcvae, images, seeds)
    top = len(parts.bands)
    one = lapcvae.decompose(images[1:2]).images[top]
    return [
        ("input", images),
        *((f"band {level} (x2)", 2 * band) for level, band in enumerate(parts.bands)),
        (f"low-pass {top}", parts.images[-1]),
        ("VAE reconstruction", vae.reconstruct(images)),
        ("LapCVAE reconstruction", lapcvae.reconstruct(images)),
        ("VAE samples", vae.sample(seeds)),
        ("", vae.sample(more)),
        ("LapCVAE samples", lapcvae.sample(seeds)),
        ("", lapcvae.sample(more)),
        ("second input's level 1\nkept, band 0 drawn", lapcvae.sample(seeds, coarse=one, from_level=top)),
        ("painted on level 1", painted),
        ("edited", edited),
    ]


def distance_of_samples(model: ImageModel, images: Tensor) -> float:
    """Measures how far samples of seeds 0, 1, ... are from as many `images`, both taken as uint8."""
    drawn = to_uint8(model.sample(torch.arange(len(images))))  # type: ignore[operator]
    return sliced_wasserstein(to_uint8(images), drawn, seed=SEED)["mean"]


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
    for earlier in ("faces", "LapCVAE", "VAE"):
        shutil.rmtree(out / earlier, ignore_errors=True)
    training, images = faces(out / "faces")
    both = models()
    # On one thread the figures do not depend on the number of cores, and a busy neighbour cannot make threads wait for each other,
    # which costs more than a second core brings to layers this small.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = {name: train_one(name, model, steps, training, out / name) for name, (model, steps) in both.items()}
    torch.set_num_threads(threads)

    scores = {name: evaluate_rmse(model.eval(), [(images, None)], SEED) for name, (model, _) in both.items()}
    print(f"\nsqrt(MSE) in grey levels on {len(images)} faces that were not trained on")
    for name, score in scores.items():
        error, mean_code = score["rmse"], score["rmse_mean_rounded"]
        print(
            f"  {name:8s} {error['mean']:6.2f} +- {error['std']:5.2f} from a sampled code,"
            f" {mean_code['mean']:6.2f} from the mean code; trained in {seconds[name]:.0f} s"
        )

    distances = {name: distance_of_samples(model, images) for name, (model, _) in both.items()}
    print(f"\nsliced Wasserstein distance of {len(images)} samples from these faces, x 1000")
    for name, distance in distances.items():
        print(f"  {name:8s} {distance:6.1f}")

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
    draw(rows_of_picture(lapcvae, vae, images[:SHOWN]), f"{title} (held-out faces)", out / "quickstart.png")
    report = {
        "rmse": scores,
        "sliced_wasserstein": distances,
        "seconds": seconds,
        "parameters": {n: parameters(m) for n, (m, _) in both.items()},
    }
    (out / "quickstart.json").write_text(json.dumps(report, indent=2) + "\n")
    write_json(out / "pyramid.json", times)
    print(
        f"\n{out / 'quickstart.png'}: the picture; lapcore {lapcore.__version__}, {time.perf_counter() - start:.0f} s"
    )
    errors = {name: score["rmse"]["mean"] for name, score in scores.items()}
    for what, found in (("samples", distances), ("reconstructions", errors)):
        if found["LapCVAE"] >= found["VAE"]:
            raise SystemExit(
                f"LapCVAE's {what} did not come out closer than the VAE's: the model or its training is not right"
            )


if __name__ == "__main__":
    main()
