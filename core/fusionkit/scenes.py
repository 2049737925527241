"""Procedural scenes: registered pairs rendered by code, for the demo and for tests.

Each function takes a size (height, width) and a seed and returns float arrays in [0, 1], (H, W, 3) or (H, W, 1),
textured, blurred by optics and noisy as a good camera's. `SCENES` says what poor cameras do to them, which
`fusionkit.method.degrade.made_pictures` then does.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, rfft2
from scipy.ndimage import gaussian_filter

Image = NDArray[Any]
Size = tuple[int, int]
Random = np.random.Generator


def fractal(size: Size, rng: Random, slope: float = 1.6, anisotropy: float = 1.0) -> Image:
    """Noise with a 1/f^slope spectrum, mean 0, standard deviation 1; anisotropy > 1 stretches it sideways."""
    fy = np.fft.fftfreq(size[0])[:, None]
    fx = np.fft.rfftfreq(size[1])[None, :] * anisotropy
    radius = np.hypot(fy, fx)
    radius[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal(size)) * radius**-slope
    field: Image = np.fft.irfft2(spectrum, s=size)
    return (field - field.mean()) / field.std()


class Canvas:
    """Coordinates from 0 to 1 in both directions, and soft-edged shapes on them."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.y, self.x = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]), indexing="ij")
        self.pixel = 1 / size[0]

    def soft(self, signed_distance: Image) -> Image:
        """Mask: 1 inside (negative distance), 0 outside, one pixel of transition."""
        return np.asarray(np.clip(0.5 - signed_distance / self.pixel, 0, 1))

    def box(self, x0: float, y0: float, x1: float, y1: float) -> Image:
        """Mask of a rectangle."""
        return self.soft(np.maximum(np.maximum(x0 - self.x, self.x - x1), np.maximum(y0 - self.y, self.y - y1)))

    def ellipse(self, cx: float, cy: float, rx: float, ry: float) -> Image:
        """Mask of an ellipse."""
        return self.soft((np.hypot((self.x - cx) / rx, (self.y - cy) / ry) - 1) * min(rx, ry))

    def person(self, cx: float, foot: float, height: float) -> tuple[Image, Image]:
        """Masks of a standing figure, and of its uncovered head and hands."""
        aspect = self.size[0] / self.size[1]
        w = height * 0.16 * aspect
        head = self.ellipse(cx, foot - 0.91 * height, 0.42 * w, 0.09 * height)
        torso = self.ellipse(cx, foot - 0.64 * height, 0.85 * w, 0.21 * height)
        bare, figure = [head], [torso]
        for side in (-1, 1):
            bare.append(self.ellipse(cx + side * 0.95 * w, foot - 0.5 * height, 0.16 * w, 0.035 * height))
            for near, far, top, bottom in ((0.08, 0.62, 0.48, 0.0), (0.8, 1.08, 0.78, 0.5)):  # leg, arm
                left, right = sorted((cx + side * near * w, cx + side * far * w))
                figure.append(self.box(left, foot - top * height, right, foot - bottom * height))
        return np.maximum.reduce([*figure, *bare]), np.maximum.reduce(bare)


def over(base: Image, color: Any, mask: Image) -> Image:
    """Paint `color` (a value, a triple or an image) over `base` through `mask` (H, W)."""
    m = mask[..., None] if base.ndim == 3 else mask
    return np.asarray(base * (1 - m) + np.asarray(color) * m)


def _sensor(image: Image, rng: Random, blur: float, noise: float) -> Image:
    sigma = (blur, blur, 0) if image.ndim == 3 else blur
    seen = np.clip(gaussian_filter(image, sigma) + noise * rng.standard_normal(image.shape), 0, 1)
    return np.asarray(seen if image.ndim == 3 else seen[..., None])


def infrared_visible(size: Size = (480, 640), seed: int = 0) -> tuple[Image, Image]:
    """A street at dusk: (infrared grey, visible colour). People are warm; smoke hides one from the visible camera."""
    rng = np.random.default_rng(seed)
    c = Canvas(size)
    grain, patches, rough = fractal(size, rng, 0.7), fractal(size, rng, 1.7), fractal(size, rng, 1.1)

    # visible: reflected light; infrared: temperature
    sky = np.stack([0.30 - 0.16 * c.y, 0.34 - 0.12 * c.y, 0.46 - 0.10 * c.y], -1) + 0.02 * patches[..., None]
    vis, ir = sky, 0.10 + 0.10 * c.y + 0.008 * patches
    horizon = 0.42 + 0.03 * fractal((1, size[1]), rng, 1.2)[0]
    hill = c.soft(horizon[None, :] - c.y)
    leaves = np.clip(0.5 + 0.35 * rough, 0, 1)[..., None]
    vis = over(vis, np.array([0.10, 0.16, 0.09]) + leaves * [0.12, 0.16, 0.07], hill)
    ir = over(ir, 0.30 + 0.05 * rough, hill)
    vis, ir = _houses(c, vis, ir, grain, patches)
    ground = c.soft(0.70 - c.y)
    lane = c.soft(np.abs(c.x - 0.5) - (c.y - 0.60) * 0.9) * ground
    vis = over(vis, np.array([0.20, 0.19, 0.17]) * (1 + 0.22 * grain)[..., None], ground)
    vis = over(vis, np.array([0.13, 0.13, 0.14]) * (1 + 0.25 * grain)[..., None], lane)
    ir = over(over(ir, 0.36 + 0.02 * rough, ground), 0.45 + 0.01 * grain, lane)
    stripe = c.soft(np.abs(c.x - 0.5) - 0.012 * (c.y - 0.55)) * (np.sin(60 * np.sqrt(c.y)) > 0) * ground
    vis = over(vis, (0.75, 0.74, 0.68), stripe)

    vis, ir = _car(c, *_sign(c, vis, ir))
    vis, ir = _people(c, vis, ir, grain, patches)
    lamp = np.exp(-(np.hypot((c.x - 0.33) * 1.3, c.y - 0.60) ** 2) / 0.05)
    vis = vis * (0.55 + 0.9 * lamp[..., None] * [1.0, 0.92, 0.72])
    smoke = np.exp(-(((c.x - 0.83) / 0.13) ** 2) - ((c.y - 0.72) / 0.16) ** 2) * np.clip(0.9 + 0.25 * patches, 0, 1)
    vis = over(vis, (0.46, 0.46, 0.47), np.clip(1.1 * smoke, 0, 0.97))
    columns = 0.006 * rng.standard_normal((1, size[1]))  # an uncooled detector's fixed pattern
    return _sensor(ir + columns, rng, 1.3, 0.012), _sensor(np.clip(vis, 0, 1), rng, 0.6, 0.010)


def _houses(c: Canvas, vis: Image, ir: Image, grain: Image, patches: Image) -> tuple[Image, Image]:
    """Two brick houses; some windows are lit and warm."""
    brick = ((np.sin(c.y * 420) > 0.82) | (np.sin(c.x * 260 + np.floor(c.y * 420 / (2 * np.pi)) * 2.3) > 0.93)) * 1.0
    for left, top, right, tint in ((0.0, 0.10, 0.24, (0.34, 0.24, 0.20)), (0.72, 0.04, 1.0, (0.27, 0.27, 0.30))):
        wall = c.box(left, top, right, 0.72)
        facade = np.array(tint) * (1 + 0.12 * grain - 0.25 * brick)[..., None]
        vis, ir = over(vis, facade, wall), over(ir, 0.42 + 0.015 * patches - 0.02 * brick, wall)
        for i in range(3):
            for j in range(4):
                x0 = left + (right - left) * (0.13 + 0.29 * i)
                y0 = top + 0.06 + 0.14 * j
                pane = c.box(x0, y0, x0 + 0.045, y0 + 0.08) * wall
                lit = (i * 7 + j * 3 + int(left * 10)) % 4 == 0
                vis = over(vis, (0.98, 0.82, 0.50) if lit else (0.08, 0.10, 0.14), pane)
                ir = over(ir, 0.52 if lit else 0.34, pane)
    return vis, ir


def _sign(c: Canvas, vis: Image, ir: Image) -> tuple[Image, Image]:
    """A street sign on its pole."""
    sign = c.box(0.285, 0.40, 0.375, 0.50)
    letters = sign * (np.sin(c.x * 330) > 0.1) * (np.abs(c.y - 0.45) < 0.028)
    vis = over(over(vis, (0.10, 0.25, 0.62), sign), (0.95, 0.95, 0.95), letters)
    vis, ir = (over(image, value, c.box(0.325, 0.50, 0.335, 0.74)) for image, value in ((vis, 0.25), (ir, 0.38)))
    ir = over(ir, 0.33, sign)  # one temperature: the letters exist in the visible image only
    return vis, ir


def _car(c: Canvas, vis: Image, ir: Image) -> tuple[Image, Image]:
    """A car with warm wheels and a hot engine."""
    body = np.maximum(c.box(0.55, 0.66, 0.71, 0.745), c.ellipse(0.63, 0.655, 0.055, 0.045))
    wheels = np.maximum(c.ellipse(0.583, 0.745, 0.019, 0.026), c.ellipse(0.677, 0.745, 0.019, 0.026))
    vis = over(over(vis, (0.55, 0.10, 0.09), body), (0.04, 0.04, 0.04), wheels)
    vis = over(vis, (0.16, 0.20, 0.24), c.ellipse(0.63, 0.655, 0.043, 0.027))
    ir = over(over(ir, 0.40, body), 0.62, wheels)
    ir = over(ir, 0.80, c.ellipse(0.695, 0.69, 0.022, 0.03))  # the engine
    return vis, ir


def _people(c: Canvas, vis: Image, ir: Image, grain: Image, patches: Image) -> tuple[Image, Image]:
    """Three people in dark coats."""
    for cx, foot, height, coat in (
        (0.43, 0.90, 0.34, (0.11, 0.12, 0.15)),
        (0.82, 0.88, 0.30, (0.20, 0.13, 0.08)),
        (0.17, 0.80, 0.20, (0.10, 0.16, 0.12)),
    ):
        figure, bare = c.person(cx, foot, height)
        vis = over(over(vis, np.array(coat) * (1 + 0.15 * grain)[..., None], figure), (0.42, 0.30, 0.24), bare)
        ir = over(over(ir, 0.74 + 0.03 * patches, figure), 0.93, bare)
    return vis, ir


def night(size: Size = (384, 512), seed: int = 0) -> tuple[Image, Image]:
    """The street of `infrared_visible`, smaller: what makes it night is done to its pictures."""
    return infrared_visible(size, seed)


def multi_exposure(size: Size = (480, 640), seed: int = 0) -> tuple[Image, Image]:
    """A dim room with a bright window: (under-exposed, over-exposed), both colour."""
    rng = np.random.default_rng(seed + 1)
    c = Canvas(size)
    grain, patches = fractal(size, rng, 0.7), fractal(size, rng, 1.7)
    plaster = (0.055 * (1 + 0.10 * patches + 0.05 * grain))[..., None] * [1.0, 0.88, 0.72]
    room = plaster * (0.55 + 0.9 * np.exp(-((c.x - 0.55) ** 2) / 0.12))[..., None]
    floor = c.soft(0.78 - c.y)
    planks = 0.05 * (1 + 0.3 * fractal(size, rng, 1.3, 0.15)) * (1 - 0.6 * (np.sin(c.x * 60 + 3 * c.y) > 0.97))
    room = over(room, planks[..., None] * [1.0, 0.62, 0.34], floor)

    view = np.stack([3.2 - 1.6 * (0.5 - c.y), 3.9 - 0.7 * (0.5 - c.y), 5.0 + 0 * c.y], -1)
    clouds = np.clip(fractal(size, rng, 1.8) - 0.2, 0, 2)[..., None]
    view = view + clouds * 2.6
    ridge = 0.40 + 0.035 * fractal((1, size[1]), rng, 1.4)[0]
    forest = np.clip(0.9 + 0.4 * fractal(size, rng, 0.9), 0.2, None)[..., None] * [0.55, 0.95, 0.35]
    view = over(view, forest, c.soft(ridge[None, :] - c.y))
    window = c.box(0.36, 0.10, 0.74, 0.56)
    bars = np.maximum(c.box(0.545, 0.10, 0.555, 0.56), c.box(0.36, 0.32, 0.74, 0.335))
    room = over(room, np.array([0.10, 0.09, 0.08]), c.box(0.34, 0.07, 0.76, 0.59))
    room = over(over(room, view, window), np.array([0.16, 0.14, 0.12]), bars)

    for x0, y0, color in ((0.08, 0.16, (0.10, 0.03, 0.02)), (0.82, 0.22, (0.02, 0.05, 0.10))):
        room = over(room, np.array([0.03, 0.02, 0.012]), c.box(x0 - 0.012, y0 - 0.016, x0 + 0.132, y0 + 0.196))
        painting = np.array(color) * (1 + 0.5 * fractal(size, rng, 1.5))[..., None]
        room = over(room, np.clip(painting, 0.004, None), c.box(x0, y0, x0 + 0.12, y0 + 0.18))
    table = np.maximum(
        c.box(0.10, 0.70, 0.46, 0.73), np.maximum(c.box(0.13, 0.73, 0.15, 0.95), c.box(0.41, 0.73, 0.43, 0.95))
    )
    room = over(room, np.array([0.030, 0.016, 0.008]) * (1 + 0.2 * grain)[..., None], table)
    for i, color in enumerate(((0.12, 0.02, 0.02), (0.02, 0.07, 0.04), (0.10, 0.08, 0.02), (0.02, 0.03, 0.09))):
        x0 = 0.15 + 0.034 * i
        book = c.box(x0, 0.565 + 0.012 * (i % 3), x0 + 0.030, 0.70)
        label = c.box(x0 + 0.006, 0.61, x0 + 0.024, 0.64) * (np.sin(c.y * 900) > -0.2)
        room = over(over(room, np.array(color), book), np.array([0.16, 0.15, 0.12]), label)
    vase = c.ellipse(0.375, 0.645, 0.032, 0.058)
    room = over(room, np.array([0.05, 0.09, 0.12]) * (1.4 - 12 * np.abs(c.x - 0.365))[..., None].clip(0.3, 1.6), vase)
    glow = gaussian_filter(window, size[0] / 16)[..., None]
    room = room + 0.02 * glow

    def expose(gain: float, noise: float) -> Image:
        shot = gain * room
        shot = shot + noise * np.sqrt(shot.clip(0)) * rng.standard_normal(shot.shape)
        return _sensor(np.clip(shot, 0, 1) ** (1 / 2.2), rng, 0.5, 0.003)

    return expose(0.13, 0.006), expose(6.0, 0.02)


def multi_focus(size: Size = (480, 640), seed: int = 0) -> tuple[Image, Image]:
    """Pots before a wall: (focused on the foreground, focused on the background), both colour."""
    rng = np.random.default_rng(seed + 2)
    c = Canvas(size)
    grain, patches = fractal(size, rng, 0.6), fractal(size, rng, 1.6)
    row = np.floor(c.y * 14)
    edge = np.maximum(np.abs((c.y * 14) % 1 - 0.5), np.abs((c.x * 9 + 0.5 * (row % 2)) % 1 - 0.5))
    bricks = rng.uniform(-1, 1, (16, 12))[row.astype(int), ((c.x * 9 + 0.5 * (row % 2)) % 12).astype(int)]
    wall = np.array([0.55, 0.31, 0.23]) * (1 + 0.16 * bricks + 0.10 * grain + 0.05 * patches)[..., None]
    wall = over(wall, np.array([0.66, 0.63, 0.58]) * (1 + 0.06 * grain)[..., None], c.soft((0.455 - edge) / 12))
    poster = c.box(0.58, 0.14, 0.88, 0.52)
    text = poster * (np.sin(c.y * 190) > 0.35) * (fractal(size, rng, 0.9, 0.4) > -0.3)
    text *= (np.abs(c.x - 0.73) < 0.12) * (np.abs(c.y - 0.33) < 0.15)
    wall = over(over(wall, (0.90, 0.88, 0.80), poster), (0.12, 0.12, 0.16), text)

    front, alpha = np.zeros((*size, 3)), np.zeros(size)
    for cx, cy, radius, color in ((0.27, 0.66, 0.21, (0.16, 0.36, 0.55)), (0.60, 0.80, 0.15, (0.72, 0.58, 0.18))):
        neck = c.box(cx - 0.6 * radius, cy - 1.45 * radius, cx + 0.6 * radius, cy - 0.8 * radius)
        pot = np.maximum(c.ellipse(cx, cy, radius, radius * 1.25), neck)
        shade = np.clip(1.15 - 1.1 * (np.abs(c.x - cx + 0.3 * radius) / radius) ** 2, 0.25, 1.3)
        glaze = 1 + 0.10 * patches + 0.07 * grain
        ornament = (np.sin((c.x - cx) * 90) * np.sin((c.y - cy) * 70) > 0.25) * (np.abs(c.y - cy) < 0.5 * radius)
        painted = np.array(color) * (shade * glaze)[..., None]
        painted = over(painted, np.array([0.92, 0.90, 0.84]) * shade[..., None], ornament * 1.0)
        front, alpha = over(front, painted, pot), np.maximum(alpha, pot)

    def shoot(front_blur: float, back_blur: float) -> Image:
        scale = size[0] / 480
        back = gaussian_filter(wall, (back_blur * scale, back_blur * scale, 0))
        # premultiplied, so that a blurred foreground bleeds over its edge as defocus does
        veil = gaussian_filter(front * alpha[..., None], (front_blur * scale, front_blur * scale, 0))
        cover = gaussian_filter(alpha, front_blur * scale)[..., None]
        return _sensor(np.clip(veil + back * (1 - cover), 0, 1), rng, 0.5, 0.006)

    return shoot(0.0, 4.0), shoot(4.5, 0.0)


class Layer(NamedTuple):
    """A surface: linear light (H, W, C), cover (H, W) in [0, 1], and depth (H, W), 0 for the nearest."""

    light: Image
    cover: Image
    depth: Image


def through_lens(layers: Sequence[Layer], focus: float, aperture: float) -> Image:
    """Take a picture in linear light, (H, W, C), by a thin lens with a round opening that is focused at a depth.

    Every point becomes a disc of radius aperture |depth - focus|, in steps of half a pixel with what lies between
    interpolated, and hides what discs of layers behind bring to its place. layers: the farthest first, which has no
    holes. aperture 0: all in focus.
    """
    result = np.zeros_like(layers[0].light)
    for layer in layers:
        spread = _discs(layer, aperture * np.abs(layer.depth - focus))
        cover = spread[..., -1:]
        if layer is layers[0]:
            result = spread[..., :-1] / cover.clip(1e-3)
        else:
            result = spread[..., :-1] / cover.clip(1) + result * (1 - cover.clip(0, 1))
    return result.clip(0)


def _discs(layer: Layer, radius: Image) -> Image:
    """Light times cover, and cover, (H, W, C + 1), of a layer whose every point is spread over a disc of a radius."""
    points = np.concatenate([layer.light * layer.cover[..., None], layer.cover[..., None]], -1)
    margin = int(radius.max()) + 2
    points = np.pad(points, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    steps, size, total = np.pad(2 * radius, margin, mode="edge"), points.shape[:2], np.zeros_like(points)
    distance = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) * n for n in size), indexing="ij"))
    for step in range(int(steps.min()), int(np.ceil(steps.max())) + 1):
        part = points * (1 - np.abs(steps - step)).clip(0, 1)[..., None]
        if step > 0 and part.any():
            disc = (step / 2 + 0.5 - distance).clip(0, 1)
            spectrum = rfft2(part, axes=(0, 1)) * rfft2(disc / disc.sum())[..., None]
            part = irfft2(spectrum, s=size, axes=(0, 1))
        total += part
    return total[margin:-margin, margin:-margin]


class Scene(NamedTuple):
    """A row of `SCENES`. make: (size, seed) -> the pair of good cameras. roles: names of its sources. shows: for help.

    degraded: what poor cameras do to it, from the lens to the file, as an ablation's `degrade` takes it. restore: what
    undoes that, beside what is found in the pictures.
    """

    make: Callable[..., tuple[Image, Image]]
    roles: tuple[str, str]
    shows: str
    degraded: tuple[str, ...] = ()
    restore: tuple[str, ...] = ()


SCENES = {
    "infrared-visible": Scene(infrared_visible, ("infrared", "visible"), "infrared and visible at dusk"),
    "noisy-night": Scene(
        night,
        ("infrared", "visible"),
        "infrared and visible at night, by poor cameras",
        degraded=(
            "1=blur:sigma=1.5",
            "1=low_resolution:factor=2",
            "1=noise:level=2",
            "1=stripes:level=6",
            "2=darkness",
            "2=noise:level=1",
        ),
        restore=("1=stripes:level=6", "1=blur:sigma=1.5", "2=darkness:strength=0.7"),
    ),
    "multi-exposure": Scene(multi_exposure, ("under-exposed", "over-exposed"), "two exposures"),
    "multi-focus": Scene(multi_focus, ("near focus", "far focus"), "two focus settings"),
}
