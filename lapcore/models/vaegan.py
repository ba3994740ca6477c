"""VAEGAN: an autoencoder whose likeness is measured in a critic's features (Larsen et al., ICML 2016)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lapcore.models.autoencoding import POSTERIOR, PRIOR, GaussianCodeModel
from lapcore.models.base import Player, check_kl_weight, positive
from lapcore.nn.adversarial import critic_accuracy, generator_loss
from lapcore.nn.batch_norm import BatchNorm1d
from lapcore.nn.blocks import Down, full_precision, halvings
from lapcore.nn.condition import Condition, LabelBias
from lapcore.ops import random
from lapcore.ops.gaussian import reparameterize, reparameterize_kl


class Balance(NamedTuple):
    """The equilibrium rule: which side of the game is too far behind the other to be trained against.

    real, fake: the critic's mean cross entropies, of real and of decoded images; both are ln 2 = 0.69 where it cannot tell.
    """

    equilibrium: float = 0.68
    margin: float = 0.35

    def critic_plays(self, means: Mapping[str, float]) -> bool:
        return not self._critic_ahead(means) or self._decoder_ahead(means)

    def decoder_plays(self, means: Mapping[str, float]) -> bool:
        return not self._decoder_ahead(means) or self._critic_ahead(means)

    def _critic_ahead(self, means: Mapping[str, float]) -> bool:
        return min(means["real"], means["fake"]) < self.equilibrium - self.margin

    def _decoder_ahead(self, means: Mapping[str, float]) -> bool:
        return max(means["real"], means["fake"]) > self.equilibrium + self.margin


class VAEGAN(GaussianCodeModel):
    """A variational autoencoder and a generative adversarial network that share the decoder. With codes z ~ q(z|x), decoded images
    x~ = Dec(z) and x_p = Dec(z_p), z_p ~ N(0, I), and the features Dis_l of the critic's third strided convolution,

        L_prior = KL[q(z|x) || N(0, I)]        L_llike = -E log N(Dis_l(x); Dis_l(x~), I), up to a constant
        L_GAN   = -E log Dis(x) - E log(1 - Dis(x~ or x_p))

        encoder: kl_weight L_prior + L_llike   decoder: gamma L_llike - L_GAN             critic: L_GAN

    L_GAN counts real and decoded images alike, and the decoded half x~, half x_p. The equilibrium rule: the critic sits out while
    either of its two means is below `equilibrium` - `margin`, the decoder while either is above `equilibrium` + `margin`; if that
    were both, both play. Real and decoded images go through the critic in one batch, so that its batch norm treats them alike.

    Layers are the paper's, for sizes other than 64 with maps of other sizes, and labels enter where `VAE`'s do, and in the critic's
    hidden layer. The gradient steps are Adam's without momentum, which is the authors' RMSProp with its bias corrected.

    Args:
        image_size, channels: of the images, square; any size.
        num_classes: of the labels, None for a model without.
        attributes: names of the values of a vector, which is then an image's label, (N, len(attributes)); None for a model
            without.
        latent: length of the code.
        widths, decoder_widths, hidden: of encoder and decoder, as `VAE`.
        critic_widths: maps of the critic's first convolution, and of the three strided ones.
        critic_hidden: units of the critic's hidden layer.
        gamma: weight of L_llike, a sum over features, in the decoder's loss; the paper's 1e-6 is for 8x8x256 of them.
        kl_weight: of L_prior in the encoder's loss, 1 in the paper; less where features are fewer.
        equilibrium, margin: of the rule, in nats; those of the authors' code.
        adversarial: "minimax", the decoder's -L_GAN above, or "nonsaturating": -E log Dis(x~ or x_p) in its place.

    Raises ValueError for settings out of range.
    """

    name = "vaegan"
    terms: ClassVar[dict[str, str]] = {
        "loss": "what the player minimises, nats per image",
        "kl": "KL[q(z|x) || p(z)], nats per image",
        "likeness": "half the squared distance of an image's features from its decoded image's, summed over features",
        "mse": "mean squared error of decoded images, values in [-1, 1]",
        "real": "the critic's mean cross entropy of real images, nats; ln 2 = 0.69 where it cannot tell",
        "fake": "the same of decoded images",
        "accuracy": "share of images that the critic tells rightly, real and decoded alike; 0.5 by chance",
    }

    def __init__(
        self,
        image_size: int = 64,
        channels: int = 3,
        *,
        num_classes: int | None = None,
        attributes: Sequence[str] | None = None,
        latent: int = 128,
        widths: Sequence[int] = (64, 128, 256),
        decoder_widths: Sequence[int] = (256, 128, 32),
        hidden: int = 1024,
        critic_widths: Sequence[int] = (32, 128, 256, 256),
        critic_hidden: int = 512,
        gamma: float = 1e-6,
        kl_weight: float = 1.0,
        equilibrium: float = 0.68,
        margin: float = 0.35,
        adversarial: str = "minimax",
    ) -> None:
        super().__init__({key: value for key, value in locals().items() if key not in ("self", "__class__")})
        positive(critic_widths=critic_widths, critic_hidden=critic_hidden)
        if len(critic_widths) != 4:
            raise ValueError(f"critic_widths: expected 4 numbers, got {critic_widths!r}")
        for name, value in (("gamma", gamma), ("equilibrium", equilibrium), ("margin", margin)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name}: expected a number from 0, got {value!r}")
        check_kl_weight(kl_weight)
        if adversarial not in ("minimax", "nonsaturating"):
            raise ValueError(f'adversarial: expected "minimax" or "nonsaturating", got {adversarial!r}')
        self.gamma, self.kl_weight, self.adversarial = gamma, kl_weight, adversarial
        self.balance = Balance(equilibrium, margin)
        self._add_networks(latent, widths, decoder_widths, hidden, 1.0)
        self.critic = Critic(channels, image_size, critic_widths, critic_hidden, self.condition)

    def _stage_modules(self) -> Mapping[str, Sequence[nn.Module]]:
        return {"all": (self.encoder, self.decoder, self.critic)}

    def players(self, stage: str) -> tuple[Player, ...]:
        """Encoder, decoder and critic, each a step in turn; decoder and critic by the equilibrium rule."""
        encoder, decoder, critic = self.modules_of(stage)

        def player(name: str, module: nn.Module, **options: object) -> Player:
            settings = {"lr": 3e-4, "betas": (0.0, 0.9), "warmup": 0, "schedule": "linear", "grad_clip": 0.0}
            return Player(name, (module,), **(settings | options))  # type: ignore[arg-type]

        return (
            player("encoder", encoder),
            player("decoder", decoder, plays=self.balance.decoder_plays),
            player("critic", critic, plays=self.balance.critic_plays, averaged=False),
        )

    def loss(
        self,
        images: Tensor,
        labels: Tensor | None = None,
        stage: str | None = None,
        seeds: Tensor | None = None,
        player: str | None = None,
    ) -> dict[str, Tensor]:
        """A player's loss, in nats per image; gradients reach that player alone, if it alone requires them.

        encoder: "loss" and its parts "kl" and "likeness", L_llike; "mse" of the decoded images in [-1, 1] units. decoder, critic:
        "loss", "likeness" for the decoder, the critic's mean cross entropies "real" and "fake", and its "accuracy". None: "loss",
        the decoder's, and "encoder" and "critic", the others'.
        """
        self._check_batch(images, labels, seeds)
        self._stage(stage)
        turns = {"encoder": self._encoder_loss, "decoder": self._decoder_loss, "critic": self._critic_loss}
        if player is not None and player not in turns:
            raise ValueError(f"player: expected {', '.join(turns)}, got {player!r}")
        seeds = self._drawn_seeds(seeds, len(images))
        if player is not None:
            return turns[player](images, labels, seeds)
        losses = {name: turn(images, labels, seeds)["loss"] for name, turn in turns.items()}
        return {"loss": losses["decoder"], "encoder": losses["encoder"], "critic": losses["critic"]}

    def _encoder_loss(self, images: Tensor, labels: Tensor | None, seeds: Tensor) -> dict[str, Tensor]:
        mean, logvar = self.encoder(images, labels)
        z, kl = reparameterize_kl(mean, logvar, seeds=seeds, stream=POSTERIOR)
        decoded = self._decoded_and_drawn(z, labels, seeds)
        likeness = _likeness(self.critic.features(torch.cat([images, decoded])))
        kl, mse = kl.mean(), (decoded[: len(images)].detach() - images).square().mean()
        return {"loss": self.kl_weight * kl + likeness, "kl": kl.detach(), "likeness": likeness.detach(), "mse": mse}

    def _decoder_loss(self, images: Tensor, labels: Tensor | None, seeds: Tensor) -> dict[str, Tensor]:
        decoded = self._decoded_and_drawn(self._codes(images, labels, seeds), labels, seeds)
        features, scores = self._judged(images, decoded, labels)
        likeness = _likeness(features)
        loss = self.gamma * likeness + generator_loss(self.adversarial, scores[len(images) :])
        return {"loss": loss, "likeness": likeness.detach(), **_verdict(*scores.tensor_split([len(images)]))}

    def _critic_loss(self, images: Tensor, labels: Tensor | None, seeds: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            decoded = self._decoded_and_drawn(self._codes(images, labels, seeds), labels, seeds)
        real, fake = self._judged(images, decoded, labels)[1].tensor_split([len(images)])
        return {"loss": F.softplus(-real).mean() + F.softplus(fake).mean(), **_verdict(real, fake)}

    @torch.no_grad()
    def _codes(self, images: Tensor, labels: Tensor | None, seeds: Tensor) -> Tensor:
        """z for the players that the encoder is fixed for."""
        mean, logvar = self.encoder(images, labels)
        return reparameterize(mean, logvar, seeds, stream=POSTERIOR)

    def _decoded_and_drawn(self, codes: Tensor, labels: Tensor | None, seeds: Tensor) -> Tensor:
        """x~ and x_p, (2N, C, H, W), in one batch in every turn, so that the decoder's batch norm always sees the like."""
        drawn = random.normal(codes.shape, seeds, stream=PRIOR, dtype=codes.dtype)
        both: Tensor = self.decoder(torch.cat([codes, drawn]), _repeated(labels, 2))[0]
        return both

    def _judged(self, images: Tensor, decoded: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Features and scores of x, x~ and x_p."""
        judged: tuple[Tensor, Tensor] = self.critic(torch.cat([images, decoded]), _repeated(labels, 3))
        return judged


class Critic(nn.Module):
    """5x5 convolution, ReLU, three of stride 2 with batch norm and ReLU, a hidden layer with the same, linear to a score."""

    def __init__(self, channels: int, size: int, widths: Sequence[int], hidden: int, condition: Condition) -> None:
        super().__init__()
        first, *others, last = widths
        side = halvings((size, size), 3)[-1][0]
        self.first = nn.Conv2d(channels, first, 5, padding=2)
        self.downs = nn.Sequential(*[Down(a, b) for a, b in zip([first, *others[:-1]], others, strict=True)])
        self.third, *after = Down(others[-1], last)
        self.after = nn.Sequential(*after, nn.Flatten(), nn.Linear(last * side**2, hidden, bias=False))
        self.label = LabelBias(condition, hidden)
        self.head = nn.Sequential(BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def features(self, images: Tensor) -> Tensor:
        """Dis_l: what the third strided convolution gives, (N, widths[-1], H/8, W/8)."""
        return full_precision(self.third(self.downs(F.relu(self.first(images)))))

    def forward(self, images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Features, and scores (N,): the log-odds that an image is real."""
        features = self.features(images)
        scores = self.head(self.label(self.after(features), labels))[:, 0]
        return features, full_precision(scores)


def _likeness(features: Tensor) -> Tensor:
    """L_llike of the features of x, x~ and x_p: half the squared distance of the first two, the mean over images."""
    real, decoded, _ = features.chunk(3)
    return (real - decoded).square().sum() / (2 * len(real))


def _verdict(real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """Tells the equilibrium rule and the log of the critic's scores: N of real images, 2N of decoded ones."""
    real, fake = real.detach(), fake.detach()
    return {
        "real": F.softplus(-real).mean(),
        "fake": F.softplus(fake).mean(),
        "accuracy": critic_accuracy("minimax", real.repeat(2), fake),
    }


def _repeated(labels: Tensor | None, times: int) -> Tensor | None:
    return None if labels is None else torch.cat([labels] * times)
