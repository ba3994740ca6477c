"""Adversarial losses: what a critic and a generator minimise, in terms of the critic's scores.

A critic D gives each image a score, high for real ones; where a loss needs a probability, it is sigmoid(score). Over a batch of
real images x and drawn ones x~ the losses are

    kind              critic                                            generator
    "minimax"         -E log sigmoid D(x) - E log(1 - sigmoid D(x~))    E log(1 - sigmoid D(x~))      Goodfellow et al. 2014, eq. 1
    "nonsaturating"   the same                                          -E log sigmoid D(x~)          the same, section 3
    "lsgan"           E (D(x) - 1)^2 / 2 + E D(x~)^2 / 2                E (D(x~) - 1)^2 / 2           Mao et al. 2017, eq. 9
    "wgan-gp"         E D(x~) - E D(x), and `gradient_penalty`          -E D(x~)                      Gulrajani et al. 2017, eq. 3
    "hinge"           E max(0, 1 - D(x)) + E max(0, 1 + D(x~))          -E D(x~)                      Lim and Ye 2017

and AC-GAN's critic (Odena et al. 2017) also names the class: `class_loss` of real and drawn images is added to its loss, and of
drawn images to the generator's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LOSSES = ("minimax", "nonsaturating", "lsgan", "wgan-gp", "hinge")


def generator_loss(kind: str, fake_scores: Tensor) -> Tensor:
    """Computes what the generator minimises, a scalar, from the scores of what it drew, of any shape.

    kind: one of `LOSSES`, see the module. Finite, gradient included, for all finite scores; ValueError for an unknown kind.
    """
    _check(kind)
    if kind == "minimax":
        return -F.softplus(fake_scores).mean()
    if kind == "nonsaturating":
        return F.softplus(-fake_scores).mean()
    if kind == "lsgan":
        return (fake_scores - 1).square().mean() / 2
    return -fake_scores.mean()


def critic_loss(kind: str, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Computes what the critic minimises, a scalar, from its scores of real and of drawn images, each of any shape.

    kind: one of `LOSSES`, see the module; "wgan-gp" is without the penalty. Finite, gradient included, for all finite scores;
    ValueError for an unknown kind.
    """
    _check(kind)
    if kind == "lsgan":
        return ((real_scores - 1).square().mean() + fake_scores.square().mean()) / 2
    if kind == "wgan-gp":
        return fake_scores.mean() - real_scores.mean()
    if kind == "hinge":
        return F.relu(1 - real_scores).mean() + F.relu(1 + fake_scores).mean()
    return F.softplus(-real_scores).mean() + F.softplus(fake_scores).mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """E (||grad_x^ D(x^)|| - 1)^2 at x^ = mix x + (1 - mix) x~, a scalar; no gradient flows into real and fake.

    The norm is over all values of one image, so D must judge each image by itself: batch norm does not go with it.

    Args:
        critic: images (N, ...) -> scores (N,).
        real, fake: (N, ...) each.
        mix: (N,) in [0, 1], drawn uniformly.

    Works also where gradients are switched off, as in validation. Source: Gulrajani et al., Improved Training of Wasserstein
    GANs, 2017, equation 3, which weights it by 10.
    """
    differentiable = torch.is_grad_enabled()
    weight = mix.reshape(-1, *[1] * (real.dim() - 1))
    with torch.enable_grad():
        between = torch.lerp(fake.detach(), real.detach(), weight).requires_grad_()
        (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=differentiable)
    excess: Tensor = gradient.flatten(1).norm(dim=1) - 1
    return excess.square().mean()


def class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """-E log softmax(logits)[label], a scalar: logits (N, classes), labels int64 (N,). Source: Odena et al. 2017, L_C."""
    return F.cross_entropy(logits, labels)


def critic_accuracy(kind: str, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """The part of all scores on the right side of the point where the critic is undecided, a scalar in [0, 1].

    That point is a score of 0, for "lsgan" 1/2; Wasserstein scores have no such point, and for "wgan-gp" the mean of all scores
    stands for it. About 1/2 means that the critic cannot tell, 1 that it always can. No gradient.
    """
    _check(kind)
    real, fake = real_scores.detach().flatten(), fake_scores.detach().flatten()
    both = torch.cat([real, fake])
    undecided = both.mean() if kind == "wgan-gp" else both.new_tensor(0.5 if kind == "lsgan" else 0.0)
    return torch.cat([real > undecided, fake < undecided]).to(both.dtype).mean()


class Verdict(NamedTuple):
    """A critic says of N images their scores (N,), and with AC-GAN's class head logits (N, classes)."""

    scores: Tensor
    logits: Tensor | None


class CriticHead(nn.Module):
    """A critic's last layer: features (N, F) -> `Verdict`, by linear maps; classes: of AC-GAN's head, None for none."""

    def __init__(self, features: int, classes: int | None = None) -> None:
        super().__init__()
        self.score = nn.Linear(features, 1)
        self.classes = None if classes is None else nn.Linear(features, classes)

    def forward(self, features: Tensor) -> Verdict:
        return Verdict(self.score(features)[:, 0], None if self.classes is None else self.classes(features))


def _check(kind: str) -> None:
    if kind not in LOSSES:
        raise ValueError(f"loss: expected {', '.join(LOSSES)}, got {kind!r}")
