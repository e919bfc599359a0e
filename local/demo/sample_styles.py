"""Renders a photograph in the style of a drawing, an engraving, an icon, a painting or a sculpture.

Every style takes a `Motif` and a random generator, and returns float64 [height, width, 3] in 0 to 1, RGB. The methods
are common ones of non-photorealistic rendering: difference of Gaussians for outlines (Winnemöller et al. 2012), the
Kuwahara filter for flat patches of paint (Kuwahara et al. 1976), line integral convolution for brush strokes (Cabral
and Leedom 1993), and Lambert and Blinn-Phong shading of a height map for relief.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Motif:
    """A window of a photograph.

    Attributes:
        rgb: float64 [height, width, 3], 0 to 1.
        focus: where its subject is, (x, y) as shares of width and height.
        figure: bool [height, width], the subject's outline where the photograph has a clear one.
    """

    rgb: Floats
    focus: tuple[float, float]
    figure: Mask | None = None

    @property
    def tone(self) -> Floats:
        """Lightness [height, width], stretched over the full range."""
        grey = self.rgb @ np.array([0.299, 0.587, 0.114])
        low, high = np.percentile(grey, (1, 99))
        stretched: Floats = np.clip((grey - low) / max(high - low, 1e-3), 0, 1)
        return stretched


def drawing(motif: Motif, rng: np.random.Generator) -> Floats:
    """Chalk or pencil on toned paper: lines where the tone changes, hatching in the shade, edges left unfinished."""
    tone = ndimage.gaussian_filter(motif.tone, 0.7)
    height, width = tone.shape
    dodged = np.clip(tone / np.maximum(ndimage.gaussian_filter(tone, 7), 0.08), 0, 1)
    line = np.clip((1 - dodged) * 2.6, 0, 1) ** 0.9
    line = np.maximum(line, np.clip(_outline(tone, 1.1) * 1.1, 0, 1))
    shade = np.clip(0.62 - ndimage.gaussian_filter(tone, 2.5), 0, 0.62) / 0.62
    grain = _streaks(rng, (height, width), angle=rng.choice([0.7, 0.85, 2.3]), length=15)
    hatch = np.clip(shade * 1.25 - grain * 0.75, 0, 1)
    y, x = np.mgrid[0:height, 0:width]
    far = np.hypot((x / width - motif.focus[0]) / 0.62, (y / height - motif.focus[1]) / 0.66)
    far += 0.1 * (_clouds(rng, (height, width), 40) - 0.5)
    fade = np.clip((1.12 - far) / 0.3, 0, 1)
    tooth = 0.72 + 0.28 * _clouds(rng, (height, width), 1)
    ink = np.clip(line * 0.9 + hatch * 0.7, 0, 0.92) * fade * tooth
    paper = np.array([(0.95, 0.92, 0.85), (0.93, 0.89, 0.79), (0.90, 0.90, 0.87)][rng.integers(3)])
    chalk = np.array([(0.16, 0.16, 0.18), (0.45, 0.17, 0.10), (0.24, 0.17, 0.12)][rng.integers(3)])
    sheet = paper * (0.985 + 0.03 * (_clouds(rng, (height, width), 2) - 0.5))[..., None]
    return _mix(sheet, chalk, ink)


def engraving(motif: Motif, rng: np.random.Generator) -> Floats:
    """Black lines on cream paper, which swell with the dark and bend with the form; up to three crossing layers."""
    fine = 2  # drawn at twice the size, so that the lines come out smooth
    small = 0.06 + 0.9 * ndimage.gaussian_filter(motif.tone, 1.0) ** 0.85
    tone = ndimage.zoom(small, fine, order=1)
    form = ndimage.zoom(ndimage.gaussian_filter(small, 9), fine, order=1)
    height, width = tone.shape
    y, x = np.mgrid[0:height, 0:width]
    spacing = rng.uniform(4.6, 5.6) * fine
    start = rng.uniform(0.3, 0.7)
    ink = np.zeros_like(tone)
    for turn, reach in ((0.0, 0.95), (1.05, 0.55), (2.0, 0.3)):
        angle = start + turn
        phase = (x * np.cos(angle) + y * np.sin(angle)) / spacing + 5.5 * form
        wave = np.abs((phase % 1) - 0.5) * 2  # 0 in the middle of a line
        swell = np.clip((reach - tone) / reach, 0, 1) * 0.95
        ink = np.maximum(ink, np.clip((swell - wave) * spacing / 2.2, 0, 1))
    ink = np.maximum(ink, np.clip(ndimage.zoom(_outline(small, 1.6), fine, order=1) * 1.3 - 0.25, 0, 1))
    ink = ink.reshape(height // fine, fine, width // fine, fine).mean(axis=(1, 3))
    paper = np.array([0.955, 0.93, 0.865]) - rng.uniform(0, 0.04, 3)
    height, width = ink.shape
    border = max(10, height // 22)
    edge = _inset(height, width) - border
    ink = np.where(edge > 0, ink, 0)
    ink = np.maximum(ink, 0.85 * ((edge > 0) & (edge <= 1.6)))
    sheet = paper * (0.98 + 0.04 * (_clouds(rng, (height, width), 25) - 0.5))[..., None]
    sheet = sheet * np.where(np.abs(edge + border * 0.5) < 0.8, 0.93, 1.0)[..., None]  # where the plate was pressed
    return _mix(sheet, np.array([0.10, 0.09, 0.09]), ink * 0.95)


_ICON_COLOURS = np.array(
    [
        (0.17, 0.09, 0.07), (0.36, 0.12, 0.09), (0.66, 0.17, 0.11), (0.80, 0.33, 0.15), (0.13, 0.22, 0.30),
        (0.22, 0.33, 0.23), (0.48, 0.29, 0.14), (0.72, 0.51, 0.29), (0.87, 0.72, 0.50), (0.95, 0.88, 0.72),
    ]
)  # fmt: skip
_GOLD = np.array([0.83, 0.64, 0.25])


def iconography(motif: Motif, rng: np.random.Generator) -> Floats:
    """Egg tempera on a panel: flat earth colours, dark outlines, a gold ground with a nimbus, an arched frame."""
    height, width = motif.tone.shape
    smooth = _kuwahara(motif.rgb, 5)
    # Colour counts more than lightness, so that a face parts from a pale wall.
    labels, centres = _clusters(_saturated(smooth, 2.5), 7, rng)
    centres = _saturated(centres, 1 / 2.5)
    ground = ~motif.figure if motif.figure is not None else _ground(labels, centres, motif.focus)
    panel = _ICON_COLOURS[_assigned(centres, np.bincount(labels[~ground], minlength=len(centres)))][labels]
    panel = panel * (0.93 + 0.14 * (ndimage.gaussian_filter(motif.tone, 3) > 0.6))[..., None]
    y, x = np.mgrid[0:height, 0:width]
    away = np.hypot(x - motif.focus[0] * width, y - motif.focus[1] * height) / min(height, width)
    leaf = _GOLD * (0.9 + 0.22 * _clouds(rng, (height, width), 30) - 0.1 * (y / height))[..., None]
    radius = rng.uniform(0.27, 0.34)
    leaf *= np.where(away < radius, 1.13, 1.0)[..., None]
    rays = np.cos(np.arctan2(y - motif.focus[1] * height, x - motif.focus[0] * width) * 36)
    leaf *= np.where((away < radius) & (away > radius * 0.55) & (rays > 0.75), 0.87, 1.0)[..., None]
    panel = np.where(ground[..., None], leaf, panel)
    nimbus = ground & (np.abs(away - radius) < 2.2 / min(height, width) * 1.4)
    panel = _mix(panel, np.array([0.45, 0.13, 0.08]), nimbus.astype(float))
    outline = _outline(ndimage.gaussian_filter(motif.tone, 1.5), 1.8) * np.where(ground, 0.35, 1)
    outline = np.maximum(outline, _borders(labels, ground))
    panel = _mix(panel, np.array([0.13, 0.07, 0.05]), np.clip(outline * 1.15, 0, 0.9))
    arch = _arch(height, width, border=height * 0.055)
    frame = _GOLD * (0.86 + 0.3 * _clouds(rng, (height, width), 12))[..., None] * 0.92
    panel = np.where((arch > 0)[..., None], panel, frame)
    panel = _mix(panel, np.array([0.55, 0.12, 0.09]), ((arch > 0) & (arch < height * 0.016)).astype(float))
    cracks = np.clip(_clouds(rng, (height, width), 3) - 0.82, 0, 1) * 0.8
    aged: Floats = np.clip(panel * (1 - cracks)[..., None] * np.array([1.0, 0.97, 0.9]), 0, 1)
    return aged


def painting(motif: Motif, rng: np.random.Generator) -> Floats:
    """Oil on canvas: patches of paint along the forms, raised strokes that catch the light, and the weave beneath."""
    height, width = motif.tone.shape
    mood = np.array([(1.06, 1.0, 0.88), (0.92, 1.0, 1.1), (1.05, 0.95, 1.0), (1.08, 1.02, 0.8)][rng.integers(4)])
    grey = motif.rgb.mean(axis=-1, keepdims=True)
    vivid = np.clip(grey + (motif.rgb - grey) * rng.uniform(1.25, 1.6), 0, 1) ** rng.uniform(0.8, 1.0) * mood
    # A grey photograph is glazed: its shadows cool, its lights warm.
    glaze = np.array([0.20, 0.24, 0.36]) * (1 - grey) + np.array([1.0, 0.86, 0.62]) * grey
    chroma = float(np.abs(motif.rgb - grey).mean())
    vivid = vivid + (glaze - vivid) * np.clip(1 - chroma / 0.04, 0, 1) * 0.85
    scattered = vivid + 0.12 * (_clouds(rng, (height, width), 5) - 0.5)[..., None] * np.array([1.0, 0.6, -0.8])
    patches = _kuwahara(np.clip(scattered, 0, 1), int(rng.integers(4, 7)))
    flow = _flow(ndimage.gaussian_filter(motif.tone, 1.5), rng)
    noise = rng.random(height * width)
    bristle, strokes = noise.copy(), patches.reshape(-1, 3).copy()
    for step, pixels in _steps(flow, 12):
        bristle += noise[pixels]
        if step < 5:  # the colour runs less far than the marks of the brush
            strokes += patches.reshape(-1, 3)[pixels]
    bristle = ((bristle - bristle.mean()) / bristle.std()).reshape(height, width)
    strokes = strokes.reshape(height, width, 3) / 11
    relief = ndimage.gaussian_filter(bristle, 0.8)
    light = ndimage.sobel(relief, axis=0) + ndimage.sobel(relief, axis=1)
    y, x = np.mgrid[0:height, 0:width]
    weave = 0.5 * np.sin(x * 2.1) * np.cos(y * 0.35) + 0.5 * np.sin(y * 2.1) * np.cos(x * 0.35)
    canvas: Floats = np.clip(strokes * (1 + 0.035 * bristle + 0.02 * light + 0.022 * weave)[..., None], 0, 1)
    return canvas


def sculpture(motif: Motif, rng: np.random.Generator) -> Floats:
    """Marble, bronze or terracotta before a plain wall: a figure in the round on its plinth, otherwise a relief."""
    tone = motif.tone
    height, width = tone.shape
    y, x = np.mgrid[0:height, 0:width]
    if motif.figure is not None:
        body = ndimage.binary_opening(motif.figure, iterations=1)
        depth = ndimage.distance_transform_edt(body)
        form = 26 * np.sqrt(np.clip(depth / max(float(depth.max()), 1), 0, 1)) + 3 * ndimage.gaussian_filter(tone, 2)
        foot = float(np.flatnonzero(body.any(axis=1))[-1]) if body.any() else height * 0.8
        plinth = (y > foot - height * 0.012) & (np.abs(x - width / 2) < width * 0.4)
        form = np.where(plinth, 14 + 6.0 * (y < foot + height * 0.03), form)
        body = body | plinth
    else:
        inset = _arch(height, width, border=height * 0.08) if rng.random() < 0.5 else _oval(height, width, 0.44)
        body = inset > 0
        rim = np.exp(-(((inset - 9) / 5) ** 2))
        form = 20 * ndimage.gaussian_filter(tone, 2.2) + 22 * ndimage.gaussian_filter(tone, 7) + 9 * rim
        form = np.where(inset > 16, form, 12 + 9 * rim)
    form = ndimage.gaussian_filter(np.where(body, form, 0), 1.3)
    down, across = np.gradient(form)
    normal = np.stack([-across, -down, np.full_like(form, 1.35)], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    lamp = np.array([rng.choice([-0.6, 0.6]), -0.55, 0.62])
    lamp /= np.linalg.norm(lamp)
    half = lamp + np.array([0, 0, 1.0])
    half /= np.linalg.norm(half)
    lambert = np.clip(normal @ lamp, 0, 1)
    gloss = np.clip(normal @ half, 0, 1)
    hollow = np.clip((ndimage.gaussian_filter(form, 6) - form) / 9, 0, 0.45)
    stone, shine = _STONES[rng.integers(len(_STONES))]
    vein = np.clip(1 - np.abs(_clouds(rng, (height, width), 45) - 0.5) * 22, 0, 1) * 0.1
    surface = (0.26 + 0.86 * lambert - hollow * 0.7 - vein * (shine < 0.3))[..., None] * np.array(stone)
    surface = surface + (shine * gloss**24)[..., None] + 0.02 * (_clouds(rng, (height, width), 1) - 0.5)[..., None]
    wall = np.array([(0.62, 0.62, 0.61), (0.30, 0.31, 0.33), (0.74, 0.72, 0.68), (0.17, 0.17, 0.19)][rng.integers(4)])
    backdrop = wall * (1.12 - 0.35 * y / height - 0.2 * np.abs(x / width - 0.5))[..., None]
    fallen = ndimage.shift(body.astype(float), (height * 0.02, -np.sign(lamp[0]) * width * 0.03), order=1)
    backdrop = backdrop * (1 - 0.5 * ndimage.gaussian_filter(fallen, 9))[..., None]
    return np.clip(_mix(backdrop, surface, ndimage.gaussian_filter(body.astype(float), 0.7)), 0, 1)


# Colour and shine of white marble, warm marble, bronze, verdigris and terracotta.
_STONES = (
    ((0.93, 0.92, 0.90), 0.08),
    ((0.90, 0.86, 0.79), 0.08),
    ((0.48, 0.34, 0.20), 0.45),
    ((0.36, 0.43, 0.37), 0.35),
    ((0.74, 0.50, 0.38), 0.05),
)

STYLES: dict[str, Callable[[Motif, np.random.Generator], Floats]] = {
    "drawing": drawing,
    "engraving": engraving,
    "iconography": iconography,
    "painting": painting,
    "sculpture": sculpture,
}


def _mix(under: Floats, over: Floats, share: Floats) -> Floats:
    """`over` laid on `under` [height, width, 3] where share [height, width] is 1."""
    mixed: Floats = under + (over - under) * share[..., None]
    return mixed


def _outline(tone: Floats, sigma: float) -> Floats:
    """Dark lines of an image, 0 to 1: an extended difference of Gaussians."""
    difference = ndimage.gaussian_filter(tone, sigma) - 0.98 * ndimage.gaussian_filter(tone, 1.6 * sigma)
    lines: Floats = np.clip(-difference * 14, 0, 1)
    return lines


def _clouds(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> Floats:
    """Smooth noise with values spread evenly around 0.5 and clipped to 0..1; `scale` is its grain in pixels."""
    small = [max(2, int(side / scale) + 2) for side in shape] if scale > 1 else list(shape)
    noise = rng.random(small)
    if scale > 1:
        zoom = [(side + 1) / (count - 1) for side, count in zip(shape, small, strict=True)]
        noise = ndimage.zoom(noise, zoom, order=3)[: shape[0], : shape[1]]
    clipped: Floats = np.clip((noise - noise.mean()) / max(float(noise.std()), 1e-3) * 0.22 + 0.5, 0, 1)
    return clipped


def _streaks(rng: np.random.Generator, shape: tuple[int, int], angle: float, length: int) -> Floats:
    """Noise drawn out to strokes in one direction, with values spread evenly over 0..1."""
    noise = rng.random(shape)
    total = np.zeros(shape)
    for step in range(-length, length + 1):
        offset = (round(step * np.sin(angle)), round(step * np.cos(angle)))
        total += np.roll(noise, offset, axis=(0, 1))
    ranks: Floats = np.clip((total - total.mean()) / total.std() * 0.3 + 0.5, 0, 1)
    return ranks


def _kuwahara(rgb: Floats, radius: int) -> Floats:
    """Each pixel takes the mean of that of its four neighbouring squares which varies least."""
    size = radius + 1
    grey = rgb.mean(axis=-1)
    least = np.full(grey.shape, np.inf)
    result = np.empty_like(rgb)
    means = [ndimage.uniform_filter(rgb[..., channel], size, mode="nearest") for channel in range(3)]
    mean = ndimage.uniform_filter(grey, size, mode="nearest")
    spread = ndimage.uniform_filter(grey**2, size, mode="nearest") - mean**2
    reach = radius // 2 + 1
    for down in (-reach, reach):
        for across in (-reach, reach):
            moved = _moved(spread, down, across)
            better = moved < least
            least = np.where(better, moved, least)
            for channel in range(3):
                result[..., channel] = np.where(better, _moved(means[channel], down, across), result[..., channel])
    return result


def _moved(values: Floats, down: int, across: int) -> Floats:
    """The values as seen from every pixel at an offset; beyond the edge, those of the edge."""
    height, width = values.shape
    rows = np.clip(np.arange(height) + down, 0, height - 1)
    columns = np.clip(np.arange(width) + across, 0, width - 1)
    return values[np.ix_(rows, columns)]


def _saturated(rgb: Floats, factor: float) -> Floats:
    grey: Floats = rgb.mean(axis=-1, keepdims=True)
    return grey + (rgb - grey) * factor


def _clusters(rgb: Floats, count: int, rng: np.random.Generator) -> tuple[NDArray[np.intp], Floats]:
    """k-means of the colours: a label per pixel [height, width], in smooth areas, and the centres [count, 3]."""
    sample = rgb[::6, ::6].reshape(-1, 3)
    centres = sample[rng.choice(len(sample), count, replace=False)]
    for _ in range(8):
        nearest = np.argmin(((sample[:, None] - centres) ** 2).sum(-1), axis=1)
        for index in range(count):
            if (nearest == index).any():
                centres[index] = sample[nearest == index].mean(axis=0)
    distance = [ndimage.gaussian_filter(((rgb - centre) ** 2).sum(-1), 1.8) for centre in centres]
    return np.argmin(np.stack(distance), axis=0), centres


def _assigned(centres: Floats, areas: NDArray[np.intp]) -> NDArray[np.intp]:
    """The icon painter's colour for each centre, the largest areas choosing first, no colour twice."""
    weights = np.array([0.299, 0.587, 0.114])
    lightness = centres @ weights
    order = (lightness - lightness.min()) / max(float(np.ptp(lightness)), 1e-3) * 0.72 + 0.14
    hue = centres - lightness[:, None]
    own = _ICON_COLOURS @ weights
    apart = 1.6 * (order[:, None] - own) ** 2
    apart = apart + ((hue[:, None] - (_ICON_COLOURS - own[:, None])) ** 2).sum(-1)
    chosen = np.zeros(len(centres), dtype=np.intp)
    for index in np.argsort(-areas):
        chosen[index] = int(np.argmin(apart[index]))
        apart[:, chosen[index]] = np.inf
    return chosen


def _ground(labels: NDArray[np.intp], centres: Floats, focus: tuple[float, float]) -> Mask:
    """What lies behind the subject: colours that rule along the upper edges, and more so than about the focus."""
    height, width = labels.shape
    count = len(centres)
    inset = _inset(height, width)
    rim = (inset > height * 0.06) & (inset < height * 0.2)
    rim[height // 2 :] = False
    y, x = np.mgrid[0:height, 0:width]
    middle = np.hypot((x / width - focus[0]) / 0.12, (y / height - focus[1]) / 0.15) < 1
    outer = np.bincount(labels[rim], minlength=count) / rim.sum()
    inner = np.bincount(labels[middle], minlength=count) / middle.sum()
    behind = (outer > 0.06) & (outer > 1.15 * inner)
    smooth = (ndimage.gaussian_filter(behind[labels].astype(float), 3) > 0.5) & ~middle
    parts, _ = ndimage.label(smooth)
    large: Mask = (np.bincount(parts.ravel()) > 0.02 * labels.size)[parts] & smooth  # no gold in eyes and buttons
    return large


def _borders(labels: NDArray[np.intp], ground: Mask) -> Floats:
    """Lines between areas of flat colour, thicker around the ground and none within it."""
    inner = ((ndimage.maximum_filter(labels, 2) != ndimage.minimum_filter(labels, 2)) & ~ground) * 0.5
    outer = (ndimage.maximum_filter(ground, 4) != ndimage.minimum_filter(ground, 4)) * 0.9
    lines: Floats = ndimage.gaussian_filter(np.maximum(inner, outer), 0.7)
    return lines


def _flow(tone: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Unit vectors (down, across) along the forms, by the smoothed structure tensor; wandering where there are none."""
    down, across = ndimage.sobel(tone, axis=0), ndimage.sobel(tone, axis=1)
    yy, xx, xy = (ndimage.gaussian_filter(product, 5) for product in (down * down, across * across, down * across))
    wander = (_clouds(rng, tone.shape, 60) - 0.5) * 0.02
    angle = 0.5 * np.arctan2(2 * xy + wander, xx - yy + 0.004) + np.pi / 2
    return np.sin(angle), np.cos(angle)


def _steps(flow: tuple[Floats, Floats], length: int) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Walks from every pixel along the flow, to either side: the step, and the flat index [pixels] where each is."""
    height, width = flow[0].shape
    field = np.stack([part.ravel() for part in flow]).astype(np.float32)
    start = np.stack([part.ravel() for part in np.mgrid[0:height, 0:width]]).astype(np.float32)
    limit = np.array([[height - 1], [width - 1]], dtype=np.float32)
    for sign in (-1, 1):
        place, heading = start.copy(), sign * field
        for step in range(length):
            place = np.clip(place + heading, 0, limit)
            row, column = (place + 0.5).astype(np.intp)
            pixels = row * width + column
            yield step, pixels
            ahead = field[:, pixels]
            heading = ahead * np.where((ahead * heading).sum(axis=0) < 0, -1, 1)  # a direction has no sign of its own


def _inset(height: int, width: int) -> Floats:
    """Pixels to the nearest edge."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    nearest: Floats = np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y))
    return nearest


def _arch(height: int, width: int, border: float) -> Floats:
    """Pixels inside a window with a round arch; negative outside."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    radius = width / 2 - border
    spring = border + radius * 0.75  # a flattened arch leaves the subject more room
    side = radius - np.abs(x - width / 2)
    bow = radius - np.hypot(x - width / 2, (y - spring) / 0.75)
    upper = np.where(y < spring, bow, side)
    inside: Floats = np.minimum(upper, height - 1 - border - y)
    return inside


def _oval(height: int, width: int, share: float) -> Floats:
    """Pixels inside an upright oval in the middle; negative outside."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    radius = min(height, width) * share
    inside: Floats = radius * (1 - np.hypot((x - width / 2) / (width * share), (y - height / 2) / (height * share)))
    return inside
