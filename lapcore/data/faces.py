"""Cartoon faces with their attributes: pictures to condition, edit and do attribute arithmetic on, free of anyone's rights.

Parts and drawing are `python-avatars`' (Avataaars by Pablo Stanley), rasterised by `resvg_py`; the lips are ours.
"""

from __future__ import annotations

import csv
import io
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lapcore.data.attributes import FILE, TABLE
from lapcore.data.files import atomic_file
from lapcore.errors import require

if TYPE_CHECKING:
    from PIL.Image import Image

YES_NO = ("glasses", "sunglasses", "beard", "moustache", "lipstick")
WORDS = ("hair", "hair_color", "mouth", "eyes", "eyebrows", "skin", "clothes", "clothes_color")
COLUMNS = (*YES_NO, *WORDS)

# What the columns' words are in the library.
_HAIR = {
    "bald": "NONE",
    "bob": "BOB",
    "bun": "BUN",
    "caesar": "CAESAR",
    "curly": "CURLY",
    "fro": "FRO",
    "long": "STRAIGHT_STRAND",
    "pixie": "PIXIE",
    "round": "SHORT_ROUND",
    "shaggy": "SHAGGY_MULLET",
    "short": "SHORT_FLAT",
    "waved": "SHORT_WAVED",
    "wavy_long": "BIG_HAIR",
}
_HAIR_COLORS = {
    "auburn": "AUBURN",
    "black": "BLACK",
    "blonde": "BLONDE_GOLDEN",
    "brown": "BROWN",
    "gray": "SILVER_GRAY",
    "pink": "PASTEL_PINK",
    "red": "RED",
}
_MOUTHS = {"open": "DEFAULT", "sad": "SAD", "serious": "SERIOUS", "smile": "SMILE", "twinkle": "TWINKLE"}
_EYES = {"closed": "CLOSED", "happy": "HAPPY", "open": "DEFAULT", "surprised": "SURPRISED", "wink": "WINK"}
_EYEBROWS = {
    "angry": "ANGRY",
    "flat": "FLAT_NATURAL",
    "plain": "DEFAULT",
    "raised": "RAISED_EXCITED",
    "sad": "SAD_CONCERNED",
}
_SKIN = {"black": "BLACK", "brown": "BROWN", "dark_brown": "DARK_BROWN", "light": "LIGHT", "pale": "PALE"}
_CLOTHES = {
    "collar": "COLLAR_SWEATER",
    "crew_neck": "SHIRT_CREW_NECK",
    "hoodie": "HOODIE",
    "overall": "OVERALL",
    "v_neck": "SHIRT_V_NECK",
}
_CLOTHES_COLORS = {
    "black": "BLACK",
    "blue": "BLUE_02",
    "gray": "GRAY_02",
    "green": "PASTEL_GREEN",
    "orange": "PASTEL_ORANGE",
    "pink": "PINK",
    "red": "RED",
    "sky": "BLUE_01",
}
_EYEWEAR = {"none": 6, "glasses": 3, "sunglasses": 1}
_FACIAL_HAIR = {"none": 13, "beard": 5, "moustache": 2}
_LIPSTICK = {"no": 7, "yes": 3}

_SQUARE = "23 8 218 218"
"""Cuts the head, most hair and the shoulders out of the drawing, which is 264 x 280."""
_LIPS = (
    '<path fill="#D01F3C" d="M32,19 C40,12 46,8 50,9 Q54,12 58,9 C62,8 68,12 76,19 '
    'C70,30 62,34 54,34 C46,34 38,30 32,19 Z"/>'
)
_OVERSAMPLING = 2
"""The rasteriser's antialiasing sees one edge at a time; means of 2 x 2 of its pixels clear up where parts meet."""

Row = dict[str, int | str]


def attributes(index: int, seed: int = 0) -> Row:
    """Says what face `index` is: 0 or 1 for each of `YES_NO`, a word for each of `WORDS`.

    Nothing is named that cannot be seen: bald faces without facial hair have hair_color "none", eyes behind
    sunglasses are "hidden". All but that, and no lips beside facial hair, are drawn independently of each other.
    Deterministic: Philox4x64 with `seed` as key and `index` in the counter; both from 0 to 2**63 - 1.
    """
    draws = iter(np.random.Philox(key=seed, counter=index << 64).random_raw(16).tolist())

    def choose(weights: dict[str, int]) -> str:
        place = next(draws) * sum(weights.values()) >> 64
        return next(name for name, weight in weights.items() if (place := place - weight) < 0)

    def any_of(names: dict[str, str]) -> str:
        return choose(dict.fromkeys(names, 1))

    eyewear, facial_hair, lipstick = choose(_EYEWEAR), choose(_FACIAL_HAIR), choose(_LIPSTICK)
    words = map(any_of, (_HAIR, _HAIR_COLORS, _MOUTHS, _EYES, _EYEBROWS, _SKIN, _CLOTHES, _CLOTHES_COLORS))
    row: Row = dict(zip(WORDS, words, strict=True))
    if row["hair"] == "bald" and facial_hair == "none":
        row["hair_color"] = "none"
    if eyewear == "sunglasses":
        row["eyes"] = "hidden"
    chosen = {eyewear, facial_hair, "lipstick" if lipstick == "yes" and facial_hair == "none" else "none"}
    return {name: int(name in chosen) for name in YES_NO} | row


def face(index: int, size: int, seed: int = 0) -> Image:
    """Face `index` as an RGB picture, `size` pixels on a side, on white: a function of the three numbers.

    Raises MissingDependencyError without the extra `faces`.
    """
    image = require("PIL.Image", "faces")
    side = size * _OVERSAMPLING
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{_SQUARE}" width="{side}" height="{side}">'
        f"{_drawing(attributes(index, seed))}</svg>"
    )
    png = require("resvg_py", "faces").svg_to_bytes(svg_string=svg, background="#ffffff", skip_system_fonts=True)
    picture: Image = image.open(io.BytesIO(png)).convert("RGB").reduce(_OVERSAMPLING)
    return picture


def _drawing(row: Row) -> str:
    """The SVG element of a face."""
    parts: Any = require("python_avatars", "faces")
    hair_color = parts.HairColor[_HAIR_COLORS.get(str(row["hair_color"]), "BLACK")]
    svg: str = parts.Avatar(
        style=parts.AvatarStyle.TRANSPARENT,
        top=parts.HairType[_HAIR[str(row["hair"])]],
        hair_color=hair_color,
        facial_hair_color=hair_color,
        facial_hair=parts.FacialHairType[
            "BEARD_MEDIUM" if row["beard"] else "MOUSTACHE_MAGNUM" if row["moustache"] else "NONE"
        ],
        accessory=parts.AccessoryType[
            "PRESCRIPTION_2" if row["glasses"] else "WAYFARERS" if row["sunglasses"] else "NONE"
        ],
        mouth=parts.MouthType[_MOUTHS[str(row["mouth"])]],
        eyes=parts.EyeType[_EYES.get(str(row["eyes"]), "DEFAULT")],
        eyebrows=parts.EyebrowType[_EYEBROWS[str(row["eyebrows"])]],
        nose=parts.NoseType.DEFAULT,
        skin_color=parts.SkinColor[_SKIN[str(row["skin"])]],
        clothing=parts.ClothingType[_CLOTHES[str(row["clothes"])]],
        clothing_color=parts.ClothingColor[_CLOTHES_COLORS[str(row["clothes_color"])]],
    ).render()
    element = svg[svg.index("<svg") :]
    if row["lipstick"]:
        # The group's first child lies under the mouth.
        start = element.index(">", element.index('id="transparent_Mouth"')) + 1
        element = element[:start] + _LIPS + element[start:]
    return element


def draw_faces(
    folder: Path,
    count: int,
    size: int,
    *,
    seed: int = 0,
    workers: int = 1,
    on_images: Callable[[int], None] = lambda count: None,
) -> None:
    """Draws faces 0 to count - 1 into `folder`: `00000000.png` ..., and `attributes.csv` with a row for each.

    `workers` processes share the work; the files are the same for any number. `on_images(n)` is called as pictures
    are finished.
    """
    parts = [range(start, min(start + 50, count)) for start in range(0, count, 50)]
    if workers == 1:
        for part in parts:
            on_images(_draw(folder, part, size, seed))
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            try:
                with _interrupts_held():
                    drawn = [pool.submit(_draw, folder, part, size, seed) for part in parts]
                for done in as_completed(drawn):
                    on_images(done.result())
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    _write_table(folder / TABLE, count, seed)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits until the block ends, and processes that start in it never see it.

    It goes to all processes of the terminal; the one that shares out the work stops the others.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _draw(folder: Path, indices: range, size: int, seed: int) -> int:
    for index in indices:
        face(index, size, seed).save(folder / _file_name(index))
    return len(indices)


def _write_table(path: Path, count: int, seed: int) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, [FILE, *COLUMNS], lineterminator="\n")
    writer.writeheader()
    writer.writerows({FILE: _file_name(index)} | attributes(index, seed) for index in range(count))
    with atomic_file(path) as file:
        file.write(text.getvalue().encode())


def _file_name(index: int) -> str:
    return f"{index:08d}.png"
