"""LapCVAE: a Laplacian pyramid of conditional variational autoencoders (Dorta et al., CVMP 2017)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from lapcore.models.base import (
    Decomposition,
    check_kl_weight,
    check_variance,
    inference,
    per_level,
    positive,
)
from lapcore.models.editing import EditableModel
from lapcore.nn.autoregressive_prior import MIXTURES
from lapcore.nn.blocks import Moments, halvings
from lapcore.nn.level_noise import CHOICE, POSTERIOR, PRIOR, noise_stream, pixel_seeds
from lapcore.nn.levels import BandLevel, CoarsestLevel, Level, Terms
from lapcore.nn.pixel_likelihood import PixelLikelihood, check_pixelcnn
from lapcore.ops import random
from lapcore.ops.gaussian import gaussian_nll, reparameterize, reparameterize_kl
from lapcore.ops.pyramid import gaussian_pyramid, laplacian_pyramid, pyr_up

Features = Callable[[Tensor], Tensor]


class LapCVAE(EditableModel):
    """A Laplacian pyramid x_k = h_k + u(x_{k+1}), k = 0 finest ... K coarsest, with one autoencoder per level.

    Level K is a VAE of x_K; each finer level minimises

        L_k = -E_{z_k ~ q_k(z_k | h_k, u(x_{k+1}))} [log p_k(h_k | z_k, ..., z_K)] + lambda_k KL[q_k || p(z_k)]
        p(z_k) = N(R_k(mu_{k+1}), S_k(sigma_{k+1}))

    where mu_{k+1}, sigma_{k+1} are the moments of level k+1's posterior, q_k and p_k diagonal Gaussians. Pyramids are
    `lapcore.laplacian_pyramid`'s, so any image size works.

    Codes are vectors, and a decoder unfolds them to a map as the VAE's does: what is drawn of a band is drawn for all of the
    image together. Maps of codes, whose places are independent under the prior, reconstruct as well and draw noise.

    Ours, where the source is silent: p_k sees, beside the codes, the image that the coarser ones decode to, a function of them
    alone; log-variances are bounded (`lapcore.nn.blocks`, `lapcore.nn.levels`). Ours, where it says N(0, I): p(z_K) is learned
    with the level, a mixture of Gaussians for each value given those before it (`lapcore.nn.autoregressive_prior`), in
    KL[q_K || p(z_K)] by one draw of z_K. The codes of a VAE that reconstructs well are not N(0, I) over the data, and what is drawn
    between them looks like nothing.

    Levels of `pixelcnn` have the likelihood of a PixelVAE (Gulrajani et al., ICLR 2017), whose pixels see those before them,

        p_k(h_k | z_k, ..., z_K) = prod_t p(h_{k,t} | h_{k,1}, ..., h_{k,t-1}, m_k),   m_k = m_k(z_k, ..., z_K)

    (`lapcore.nn.pixel_likelihood`); m_k, what the codes decode to, is made a picture by a Gaussian beside it (Lucas and Verbeek
    2018): L_k has `pixelcnn_guide` times -log N(h_k; m_k, v_k) in it. The smaller the guide, the less of the band the codes hold,
    and the more of it is drawn pixel by pixel.

    Noise is a function of (seed, level, kind: prior, choice, posterior or pixels) and place alone.

    Args:
        image_size, channels: of the images, square; any size.
        levels: K, the number of band-passes; x_K is about image_size / 2^K. The coarsest image has to show what there is to know
            of the picture as a whole: 8 to 16 pixels on a side do.
        num_classes: of the labels, which reach all encoders and decoders and p(z_K); None for a model without.
        attributes: names of the values of a vector, which is then an image's label, (N, len(attributes)); None for a model
            without.
        latent: length of the coarsest code.
        band_latent: length of the finer codes; one number, or K from the finest level on.
        widths: channels of the coarsest encoder's convolutions, mirrored in its decoder.
        hidden: units of the hidden layers of the coarsest encoder, and of p(z_K), which has at least `latent`.
        band_width: channels of the finer levels at half size, twice that at quarter size; one number or K.
        band_hidden: units of the finer encoders' hidden layer, and half those of R_k's and S_k's; one number or K.
        prior_layers: hidden layers of the network that is p(z_K); 0 for N(0, I).
        linear: also linear maps between h_k and z_k, x_K and z_K, beside the networks, which have only to learn what these lack:
            reconstructions are as good after a fraction of the steps. They have 2 C H_k W_k weights for each value of a code.
            One, or K + 1 from the finest level on.
        variance: of the decoded pixels: "pixel" - predicted for each, "channel" - one learned number per channel and level, or
            a fixed number.
        kl_weight: the lambda_k; one number, or K + 1 from the finest level on.
        pixelcnn: levels k whose likelihood is a PixelCNN; of images of 3 channels or 1.
        pixelcnn_hidden, pixelcnn_layers: maps and layers of their PixelCNNs.
        pixelcnn_guide: see above.
        training: "greedy" - a stage per level, coarse to fine, earlier levels frozen; "joint" - all at once; "greedy+joint" - one
            after the other. At last, all p(z_k) go on learning by themselves in a stage of quick steps: their codes no longer move.

    Raises ValueError for settings out of range.
    """

    name = "lapcvae"
    terms: ClassVar[dict[str, str]] = {
        "loss": "what the stage minimises: nll, kl and the rest, weighted, per value of its band; of prior, kl per code value",
        "nll": "-log p(h_k | z_k, ...) of the level whose number follows, nats per image",
        "kl": "KL[q(z_k) || p(z_k)] of that level, nats per image",
        "mse": "mean squared error of that level's band, values in [-1, 1]",
        "guide": "-log N(h_k; m_k, v_k) of a level whose likelihood is a PixelCNN, nats per image, unweighted",
        "perceptual": "weighted distance of features, which the loss has in it",
    }

    def __init__(
        self,
        image_size: int = 64,
        channels: int = 3,
        levels: int = 2,
        *,
        num_classes: int | None = None,
        attributes: Sequence[str] | None = None,
        latent: int = 128,
        band_latent: int | Sequence[int] = 64,
        widths: Sequence[int] = (64, 128),
        hidden: int = 512,
        band_width: int | Sequence[int] = 32,
        band_hidden: int | Sequence[int] = 256,
        prior_layers: int = 3,
        linear: bool | Sequence[bool] = True,
        variance: str | float = "channel",
        kl_weight: float | Sequence[float] = 1.0,
        pixelcnn: Sequence[int] = (),
        pixelcnn_hidden: int = 32,
        pixelcnn_layers: int = 6,
        pixelcnn_guide: float = 0.1,
        training: str = "greedy",
    ) -> None:
        super().__init__({key: value for key, value in locals().items() if key not in ("self", "__class__")})
        positive(levels=levels, latent=latent, band_latent=band_latent, widths=widths, hidden=hidden)
        positive(band_width=band_width, band_hidden=band_hidden)
        positive(pixelcnn_hidden=pixelcnn_hidden, pixelcnn_layers=pixelcnn_layers)
        check_variance(variance)
        if not isinstance(prior_layers, int) or isinstance(prior_layers, bool) or prior_layers < 0:
            raise ValueError(f"prior_layers: expected an integer from 0, got {prior_layers!r}")
        if 2**levels > image_size:
            raise ValueError(f"levels: expected at most log2 of image_size {image_size}, got {levels}")
        if training not in ("greedy", "joint", "greedy+joint"):
            raise ValueError(f'training: expected "greedy", "joint" or "greedy+joint", got {training!r}')
        linears = per_level("linear", linear, levels + 1)
        if not all(isinstance(own, bool) for own in linears):
            raise ValueError(f"linear: expected true or false, or a list of {levels + 1} of them, got {linear!r}")
        check_pixelcnn(pixelcnn, levels, channels, pixelcnn_guide)
        latents = [*per_level("band_latent", band_latent, levels), latent]
        band_widths = per_level("band_width", band_width, levels)
        band_hiddens = per_level("band_hidden", band_hidden, levels)
        self.kl_weights = per_level("kl_weight", kl_weight, levels + 1)
        check_kl_weight(*self.kl_weights)
        self.training_order = training
        self.sizes = halvings((image_size, image_size), levels)
        self.top = levels
        self.guide = pixelcnn_guide
        pixels = [
            PixelLikelihood(channels, size, pixelcnn_hidden, pixelcnn_layers, bound=1 if k == levels else 2)
            if k in pixelcnn
            else None
            for k, size in enumerate(self.sizes)
        ]
        self.perception: tuple[Features, float] | None = None
        bands = [
            BandLevel(
                channels,
                self.sizes[k],
                band_widths[k],
                band_hiddens[k],
                latents[k],
                latents[k + 1 :],
                self.condition,
                variance,
                linears[k],
                pixels[k],
            )
            for k in range(levels)
        ]
        self.bands = nn.ModuleList(bands)
        self.coarsest = CoarsestLevel(
            channels,
            self.sizes[-1],
            widths,
            hidden,
            latent,
            prior_layers,
            self.condition,
            variance,
            linears[-1],
            pixels[-1],
        )

    def perceive(self, features: Features | None, weight: float = 1.0) -> None:
        """Adds a perceptual loss to every level: `weight` times mean((phi(x_k) - phi(y_k))^2), y_k what the level decodes to.

        features: phi, from images (N, C, H_k, W_k) in [-1, 1] to a tensor (N, ...), at the sizes of all levels trained with it;
        None for no such loss. It is the caller's, and not saved. Its parameters should not require gradients. ValueError for a
        weight below 0. Source: Dosovitskiy and Brox 2016; asked for by LapCVAE's authors.
        """
        if not 0 <= weight < math.inf:
            raise ValueError(f"weight: expected a number from 0, got {weight!r}")
        self.perception = None if features is None else (features, weight)

    def training_stages(self) -> tuple[str, ...]:
        """The names "level{K}", ..., "level0" and "joint", as `training` says, and at last "prior"."""
        greedy = tuple(f"level{k}" for k in reversed(range(self.top + 1)))
        stages = {"greedy": greedy, "joint": ("joint",), "greedy+joint": (*greedy, "joint")}[self.training_order]
        return (*stages, "prior")

    def _stage_modules(self) -> Mapping[str, Sequence[nn.Module]]:
        levels = [self._level(k) for k in range(self.top + 1)]
        own: dict[str, Sequence[nn.Module]] = {f"level{k}": [level] for k, level in enumerate(levels)}
        priors = [branch for k in range(self.top) for branch in (self._band(k).prior_mean, self._band(k).prior_logvar)]
        return own | {"joint": levels, "prior": [*priors, self.coarsest.prior]}

    def loss(
        self, images: Tensor, labels: Tensor | None = None, stage: str | None = None, seeds: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Scalars of a batch: "loss" = L_k in nats per value of the level's band; of stage "joint", the sum of these.

        So levels count alike, where in the sum of L_k the finest, with most values, would have the coarse codes serve it
        alone. In "joint", finer decoders move coarser codes, prior networks do not. Of stage "prior", in which the priors alone
        learn, "loss" is the sum of the KL[q_k || p(z_k)], each in nats per value of its code.

        And for each of the stage's levels: "nll{k}" and "kl{k}", nats per image, "mse{k}" of the band, values in [-1, 1]; of a
        level of `pixelcnn` "guide{k}", before its weight; with `perceive` "perceptual{k}", which the loss has in it. Of stage
        "prior" only the "kl{k}". stage: "level0", ..., "level{K}", "joint" or "prior"; None takes the one `set_stage` chose, else
        "joint". Coarser levels than the stage's get no gradient. Noise: see `ImageModel.loss`.
        """
        self._check_batch(images, labels, seeds)
        stage = self._stage(stage or self.stage or "joint")
        if stage == "prior":
            return self._prior_loss(images, labels, seeds)
        finest, coarsest = (0, self.top) if stage == "joint" else (int(stage[5:]), int(stage[5:]))
        terms = self._terms(images, labels, seeds, finest, coarsest)
        values = {k: self.channels * self.sizes[k][0] ** 2 for k in terms}
        losses = [term.loss(self.kl_weights[k], self.guide, values[k]) for k, term in terms.items()]
        logged = {f"{name}{k}": value for k, term in terms.items() for name, value in term.logged().items()}
        return {"loss": torch.stack(losses).sum()} | logged

    def _prior_loss(self, images: Tensor, labels: Tensor | None, seeds: Tensor | None) -> dict[str, Tensor]:
        with torch.no_grad():
            moments = self._posteriors(images, 0, labels)
        kls = [
            self._draw(k, own, coarser, seeds, labels)[1].mean()
            for k, (own, coarser) in enumerate(zip(moments, (*moments[1:], None), strict=True))
        ]
        loss = torch.stack([kl / self._level(k).latent for k, kl in enumerate(kls)]).sum()
        return {"loss": loss} | {f"kl{k}": kl.detach() for k, kl in enumerate(kls)}

    def elbo(self, images: Tensor, labels: Tensor | None = None, seeds: Tensor | None = None) -> Tensor:
        """A lower bound on log p(x_K) + sum_k log p(h_k | x_{k+1}), in nats, (N,), from one code per image and level.

        This is a density of the pyramid, which has more coordinates than the image: compare it among pyramids of one shape,
        not with other models' bounds on log p(x).
        """
        self._check_batch(images, labels, seeds)
        terms = self._terms(images, labels, seeds, 0, self.top).values()
        return -torch.stack([term.nll + term.kl for term in terms]).sum(0)

    def _terms(
        self, images: Tensor, labels: Tensor | None, seeds: Tensor | None, finest: int, coarsest: int
    ) -> dict[int, Terms]:
        """Returns the terms of the levels from `coarsest` down to `finest`; what is coarser still runs without gradient."""
        x = self._images(images)
        codes: list[Tensor] = []
        moments: Moments | None = None
        image: Tensor | None = None
        terms = {}
        for k in reversed(range(finest, self.top + 1)):
            with torch.set_grad_enabled(torch.is_grad_enabled() and k <= coarsest):
                coarser = moments
                band, moments = self._posterior(k, x, labels)
                z, kl = self._draw(k, moments, coarser, seeds, labels)
                codes.insert(0, z)
                mean, logvar, image = self._likelihood(k, codes, image, labels)
            if k <= coarsest:
                self._level(k).note(moments[1])
                nll, guide = self._level(k).nll(band, mean, logvar)
                mse = (mean - band).square().mean()
                terms[k] = Terms(nll, kl, mse, guide, self._perceived(x[k], image))
        return terms

    def _perceived(self, image: Tensor, decoded: Tensor) -> Tensor | None:
        if self.perception is None:
            return None
        features, weight = self.perception
        return weight * (features(decoded) - features(image)).square().mean()

    def _level(self, k: int) -> Level:
        return self.coarsest if k == self.top else self._band(k)

    def _band(self, k: int) -> BandLevel:
        return cast(BandLevel, self.bands[k])

    def _images(self, images: Tensor, level: int = 0) -> dict[int, Tensor]:
        """x_k of the levels from `level` on; images: x of that level."""
        return dict(enumerate(gaussian_pyramid(images, self.top - level), level))

    def _posterior(self, k: int, x: dict[int, Tensor], labels: Tensor | None) -> tuple[Tensor, Moments]:
        """h_k (x_K for the coarsest level) and the moments of q_k."""
        if k == self.top:
            return x[k], self.coarsest.encode(x[k], labels)
        up = pyr_up(x[k + 1], self.sizes[k])
        return x[k] - up, self._band(k).encode(x[k] - up, up, labels)

    def _draw(
        self, k: int, moments: Moments, coarser: Moments | None, seeds: Tensor | None, labels: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """z_k from q_k, whose moments these are, and KL[q_k || p(z_k)], (N,); coarser: moments of q_{k+1}."""
        stream = noise_stream(k, POSTERIOR)
        if k < self.top and coarser is not None:
            # Detached: in joint training a prior follows the coarser posterior and does not bend it to its own ease.
            prior = self._band(k).prior(coarser[0].detach(), coarser[1].detach())
            return reparameterize_kl(*moments, *prior, seeds, stream=stream)
        if self.coarsest.prior.layers == 0:
            return reparameterize_kl(*moments, seeds=seeds, stream=stream)
        z = reparameterize(*moments, seeds, stream=stream)
        return z, -gaussian_nll(z, *moments) - self.coarsest.prior.log_prob(z, labels)

    def _likelihood(
        self, k: int, codes: Sequence[Tensor], coarse: Tensor | None, labels: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Moments of p_k, and the decoded x_k; codes: z_k, ..., z_K, coarse: the x_{k+1} that z_{k+1}, ... decode to."""
        if k == self.top or coarse is None:
            mean, logvar = self.coarsest.decode(codes[0], labels)
            return mean, logvar, mean
        up = pyr_up(coarse, self.sizes[k])
        mean, logvar = self._band(k).decode(codes, up, labels)
        return mean, logvar, mean + up

    def decompose(self, images: Tensor) -> Decomposition:
        """The pyramid that the model sees: bands h_0, ..., h_{K-1} and images x_0, ..., x_K, (N, C, H_k, W_k) each."""
        self._check_images("images", images)
        return Decomposition(laplacian_pyramid(images, self.top)[:-1], gaussian_pyramid(images, self.top))

    def encode(self, images: Tensor, labels: Tensor | None = None) -> tuple[Moments, ...]:
        """(mean, logvar) of q_0, ..., q_K; (N, band_latent) each, and (N, latent) for q_K."""
        self._check_batch(images, labels, None)
        return self._posteriors(images, 0, labels)

    def _posteriors(self, images: Tensor, level: int, labels: Tensor | None) -> tuple[Moments, ...]:
        x = self._images(images, level)
        return tuple(self._posterior(k, x, labels)[1] for k in range(level, self.top + 1))

    def decode(self, codes: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The image (N, C, H, W) of codes z_0, ..., z_K, by the means of p_k, or of levels of `pixelcnn` by m_k; K + 1 - k codes
        z_k, ... give x_k.

        A sum of bands, so values may leave [-1, 1] a little.
        """
        level = self.top + 1 - len(codes)
        if not 0 <= level <= self.top:
            raise ValueError(f"codes: expected 1 to {self.top + 1}, z_k to z_K, got {len(codes)}")
        for k, code in enumerate(codes, level):
            expected = self._level(k).latent
            if tuple(code.shape) != (len(codes[0]), expected):
                raise ValueError(f"codes: expected shape (N, {expected}) of z_{k}, got {tuple(code.shape)}")
        self._check_labels(labels, len(codes[0]))
        return self._image_of(codes, level, labels)

    def _code(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """The means of q_0, ..., q_K, side by side."""
        return torch.cat([mean for mean, _ in self._posteriors(images, 0, labels)], 1)

    def _decoded(self, codes: Tensor, labels: Tensor | None) -> Tensor:
        lengths = [self._level(k).latent for k in range(self.top + 1)]
        return self._image_of(torch.split(codes, lengths, 1), 0, labels)

    def _image_of(self, codes: Sequence[Tensor], level: int, labels: Tensor | None) -> Tensor:
        image = None
        for k in reversed(range(level, self.top + 1)):
            image = self._likelihood(k, codes[k - level :], image, labels)[2]
        assert image is not None
        return image

    @inference
    def reconstruct(self, images: Tensor, seeds: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Images encoded at every level and decoded: through the mean codes, or with seeds, int64 (N,), through sampled ones."""
        self._check_batch(images, labels, seeds)
        moments = self._posteriors(images, 0, labels)
        if seeds is None:
            return self._image_of([mean for mean, _ in moments], 0, labels)
        codes = [reparameterize(*m, seeds, stream=noise_stream(k, POSTERIOR)) for k, m in enumerate(moments)]
        return self._image_of(codes, 0, labels)

    @inference
    def sample(
        self,
        seeds: Tensor,
        labels: Tensor | None = None,
        *,
        prior: str = "reencode",
        coarse: Tensor | None = None,
        from_level: int | None = None,
        temperature: float | Sequence[float] = 1.0,
    ) -> Tensor:
        """Draws (N, C, H, W); image i depends on (weights, seeds[i], labels[i], coarse[i]) only.

        z_K comes from its learned prior and each finer code from its own, N(R_k(mu), S_k(sigma)). The unknown moments mu, sigma of
        the coarser posterior are, with prior="reencode", those that the encoder gives the image drawn so far; with "chain" the
        code drawn there, and the mean variance seen in training: cheaper, and it encodes nothing.

        seeds: int64 (N,). coarse, from_level: an x_k (N or 1, C, H_k, W_k), as `decompose` gives them, and k from 1 to K: this
        coarse part is kept as it is, x_0 = h_0 + u(h_1 + ... u(x_k)), its codes are the posterior's means, and the finer bands are
        drawn. temperature: scales the codes' noise, one number, or K + 1 from the finest level on; 0 takes
        the means of their priors, and of p(z_K) value by value that of the Gaussian with the largest weight. Pixels of levels of
        `pixelcnn` are drawn whatever it is. Values may leave [-1, 1] a little.
        """
        self._check_seeds(seeds)
        self._check_labels(labels, len(seeds))
        if prior not in ("reencode", "chain"):
            raise ValueError(f'prior: expected "reencode" or "chain", got {prior!r}')
        temperatures = per_level("temperature", temperature, self.top + 1)
        if not all(0 <= t < math.inf for t in temperatures):
            raise ValueError(f"temperature: expected numbers from 0, got {temperature!r}")
        if coarse is not None and from_level is not None:
            image = self._check_coarse("coarse", coarse, "from_level", from_level, len(seeds))
            posteriors = self._posteriors(image, from_level, labels)
            codes, moments = [mean for mean, _ in posteriors], posteriors[0]
            decoded = self._image_of(codes, from_level, labels)
        elif coarse is not None or from_level is not None:
            raise ValueError("coarse, from_level: expected both or neither, got one")
        else:
            codes = [self._coarsest_code(seeds, labels, temperatures[-1])]
            decoded = self._image_of(codes, self.top, labels)
            image = self._drawn(self.top, decoded, seeds)
            moments = self._moments_of_drawn(self.top, codes[0], image, prior, labels)
        for k in reversed(range(self.top if from_level is None else from_level)):
            mean, logvar = self._band(k).prior(*moments)
            noise = reparameterize(torch.zeros_like(mean), logvar, seeds, stream=noise_stream(k, PRIOR))
            codes.insert(0, mean + temperatures[k] * noise)
            band, _, decoded = self._likelihood(k, codes, decoded, labels)
            image = self._drawn(k, band, seeds) + pyr_up(image, self.sizes[k])
            moments = self._moments_of_drawn(k, codes[0], image, prior, labels)
        return image

    def _coarsest_code(self, seeds: Tensor, labels: Tensor | None, temperature: float) -> Tensor:
        """z_K from its prior."""
        shape, dtype = (len(seeds), self.coarsest.latent), self.dtype
        noise = random.normal(shape, seeds, stream=noise_stream(self.top, PRIOR), dtype=dtype)
        uniforms = random.uniform((*shape, MIXTURES), seeds, stream=noise_stream(self.top, CHOICE), dtype=dtype)
        return self.coarsest.prior.draw(noise, uniforms, labels, temperature)

    def _drawn(self, k: int, mean: Tensor, seeds: Tensor) -> Tensor:
        """h_k of the codes that decode to `mean`: that, or a draw of a PixelCNN."""
        pixels = self._level(k).pixels
        return mean if pixels is None else pixels.draw(mean, pixel_seeds(seeds, k))

    def _moments_of_drawn(self, k: int, code: Tensor, image: Tensor, prior: str, labels: Tensor | None) -> Moments:
        """What stands for the moments of q_k after z_k and x_k were drawn."""
        if prior == "chain":
            return code, self._level(k).typical_logvar.expand_as(code)
        return self._posterior(k, self._images(image, k), labels)[1]
