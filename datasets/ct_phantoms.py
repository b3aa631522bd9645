"""Procedural CT slices: random heads, chests, abdomens and close-ups of vertebrae.

A slice is painted from soft-edged shapes on a smoothly warped grid in millimetres, with
Hounsfield values from common ranges (air -1000, lung -870 to -720, fat -115 to -80, water 0,
muscle 40 to 70, spongy bone 100 to 350, cortical bone 500 to 1700; Kalender, Computed Tomography,
3rd edition, 2011, section 1.3), then given noise with the band-pass spectrum of filtered
backprojection. It is no anatomical atlas: it has the edges, contrasts and textures of CT, from a
distribution that is known and free.
"""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray


def spectrum_noise(rng: np.random.Generator, size: int, scale: float, power: float) -> Array:
    r"""Smooth noise of unit variance, (size, size), amplitude :math:`(1 + (s f)^2)^{-p}`.

    Arguments:
        rng: The source of randomness.
        size: Pixels a side.
        scale: The correlation length s in pixels (f in radians per pixel).
        power: The exponent p.
    """
    f = 2 * np.pi * np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    return _filtered(rng, size, (1 + (scale * f) ** 2) ** -power)


def reconstruction_noise(rng: np.random.Generator, size: int, cutoff: float) -> Array:
    r"""Noise of unit variance with the amplitude of filtered backprojection.

    :math:`\sqrt f \exp(-(f / f_c)^2)` (a ramp filter on white projections gives a noise power
    that grows with f), f in cycles per pixel. (size, size).
    """
    f = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    return _filtered(rng, size, np.sqrt(f) * np.exp(-((f / cutoff) ** 2)))


def _filtered(rng: np.random.Generator, size: int, amplitude: Array) -> Array:
    white = np.fft.rfft2(rng.standard_normal((size, size), np.float32))
    white[0, 0] = 0  # unit variance about zero, also where the correlation exceeds the view
    out = np.fft.irfft2(white * amplitude, s=(size, size)).astype(np.float32)
    return out / max(float(out.std()), 1e-6)


class Canvas:
    """A slice being painted: HU on a warped grid of millimetres.

    Arguments:
        rng: The source of randomness.
        size: Pixels a side.
        pixel: Millimetres per pixel.
        centre: The point (x, y) in mm at the middle of the view.
        blur: The width of an edge in mm.
        warp: The typical displacement of the grid in mm.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        size: int,
        pixel: float,
        centre: tuple[float, float],
        blur: float,
        warp: float,
    ) -> None:
        self.rng, self.size, self.pixel = rng, size, pixel
        self.edge = max(blur, pixel)
        axis = (np.arange(size, dtype=np.float32) - (size - 1) / 2) * pixel
        turn = rng.normal(0, 0.12)
        u, v = axis[None, :], axis[:, None]
        self.x = centre[0] + math.cos(turn) * u - math.sin(turn) * v
        self.y = centre[1] + math.sin(turn) * u + math.cos(turn) * v
        self.x = self.x + warp * spectrum_noise(rng, size, 35 / pixel, 2)
        self.y = self.y + warp * spectrum_noise(rng, size, 35 / pixel, 2)
        self.hu = np.full((size, size), -1000, np.float32)

    def uniform(self, low: float, high: float) -> float:
        """One number between low and high."""
        return float(self.rng.uniform(low, high))

    def texture(self, millimetres: float, power: float = 1.5) -> Array:
        """Unit noise with a correlation length in mm."""
        return spectrum_noise(self.rng, self.size, millimetres / self.pixel, power)

    def sees(self, cx: float, cy: float, radius: float) -> bool:
        """Whether a disc touches the view (else painting it would be wasted)."""
        near_x = self.x.min() - radius < cx < self.x.max() + radius
        return bool(near_x and self.y.min() - radius < cy < self.y.max() + radius)

    def ellipse(
        self, cx: float, cy: float, a: float, b: float, turn: float = 0.0, wobble: float = 0.04
    ) -> Array:
        """The signed distance (mm, negative inside, approximate) of a wobbling ellipse."""
        x, y = self.x - cx, self.y - cy
        c, s = math.cos(turn), math.sin(turn)
        u, v = (c * x + s * y) / a, (-s * x + c * y) / b
        rho = np.sqrt(u * u + v * v) + 1e-6
        limit: Array | float = 1.0
        if wobble > 0:
            angle = np.arctan2(v, u)
            for k in range(2, 6):
                phase = self.uniform(0, 2 * math.pi)
                limit = limit + np.float32(self.rng.normal(0, wobble / k)) * np.cos(
                    k * angle + phase
                )
        return (np.sqrt(x * x + y * y) + 1e-6 * math.sqrt(a * b)) * (1 - limit / rho)

    def capsule(self, x0: float, y0: float, x1: float, y1: float, r0: float, r1: float) -> Array:
        """The signed distance of a tapering stick from (x0, y0) to (x1, y1)."""
        dx, dy = x1 - x0, y1 - y0
        length = dx * dx + dy * dy + 1e-6
        t = np.clip(((self.x - x0) * dx + (self.y - y0) * dy) / length, 0, 1)
        away = np.hypot(self.x - x0 - t * dx, self.y - y0 - t * dy)
        return away - (r0 + (r1 - r0) * t)

    def mask(self, distance: Array) -> Array:
        """1 inside, 0 outside, a smooth step of the width of an edge between."""
        t = np.clip(0.5 - distance / (2 * self.edge), 0, 1)
        return t * t * (3 - 2 * t)

    def paint(self, distance: Array, hu: float | Array, within: Array | None = None) -> None:
        """Puts a value inside a shape."""
        mask = self.mask(distance)
        if within is not None:
            mask = mask * within
        self.hu += mask * (hu - self.hu)

    def bone(self, distance: Array, shell: float, cortical: float, spongy: float) -> None:
        """A bone: a cortical shell of the given thickness around trabecular texture."""
        self.paint(distance, cortical * (1 + 0.2 * self.texture(5)))
        grain = self.texture(self.uniform(0.5, 1.5), 1.2)
        inside = spongy * (1 + self.uniform(0.1, 0.45) * grain + 0.15 * self.texture(8))
        self.paint(distance + shell * np.maximum(1 + 0.5 * self.texture(6), 0.1), inside)

    def tissue(self, distance: Array, hu: float, spread: float) -> None:
        """Soft tissue: a mean with slow variations."""
        self.paint(distance, hu + spread * self.texture(self.uniform(3, 15)))


def vertebra(canvas: Canvas, cx: float, cy: float, scale: float) -> None:
    """A vertebra seen from above: body, canal, pedicles, laminae, processes."""
    if not canvas.sees(cx, cy + 20, 80):
        return
    u = canvas.uniform
    cortical, spongy = u(450, 1100), u(110, 330)
    wide, deep = scale * u(17, 25), scale * u(12, 18)
    canal_y = cy + deep + scale * u(6, 9)
    for side in (-1, 1):
        reach = side * scale * u(26, 42)
        root_x, root_y = cx + side * wide * 0.62, cy + deep * 0.75
        bend_y = canal_y + scale * u(0, 8)
        canvas.bone(
            canvas.capsule(root_x, root_y, cx + side * scale * 13, bend_y, 5 * scale, 4.5 * scale),
            u(0.8, 1.8), cortical, spongy * u(0.8, 1.6),
        )  # fmt: skip
        tip_y = bend_y + scale * u(-4, 12)
        canvas.bone(
            canvas.capsule(cx + side * scale * 13, bend_y, cx + reach, tip_y, 4.5 * scale,
                           2.5 * scale),
            u(0.8, 1.8), cortical, spongy,
        )  # fmt: skip
        back = canal_y + scale * u(11, 16)
        canvas.bone(
            canvas.capsule(cx + side * scale * 13, bend_y, cx, back, 3.6 * scale, 3.2 * scale),
            u(0.8, 1.5), cortical, spongy,
        )  # fmt: skip
        if canvas.rng.random() < 0.5:  # the facet of the neighbour, with a gap of cartilage
            facet = canvas.ellipse(
                cx + side * scale * u(14, 20), bend_y + scale * u(2, 7), scale * u(3, 6), scale * 4
            )
            canvas.paint(facet - u(1, 2), u(40, 100))
            canvas.bone(facet, u(0.8, 1.5), cortical, spongy)
    if canvas.rng.random() < 0.8:
        canvas.bone(
            canvas.capsule(cx, canal_y + scale * 12, cx + u(-3, 3),
                           canal_y + scale * u(22, 45), 3.5 * scale, 2.5 * scale),
            u(0.7, 1.5), cortical, spongy,
        )  # fmt: skip
    body = canvas.ellipse(cx, cy, wide, deep, wobble=0.08)
    if canvas.rng.random() < 0.2:  # the disc between two bodies
        canvas.tissue(body, u(70, 110), 8)
    else:
        canvas.bone(body, u(0.7, 1.8), cortical * u(0.6, 1), spongy)
        if canvas.rng.random() < 0.4:  # the vein of the body
            canvas.paint(canvas.capsule(cx, cy, cx, cy + deep, 0.8, u(1.2, 3)), u(20, 90))
    canal = canvas.ellipse(cx, canal_y, scale * u(7.5, 11), scale * u(6.5, 9))
    canvas.tissue(canal, u(-40, 30), 6)
    canvas.tissue(canal + u(1.5, 3), u(10, 40), 4)
    if canvas.rng.random() < 0.6:
        canvas.paint(canvas.ellipse(cx, canal_y, scale * 4.5, scale * 3.5), u(35, 60))


def rib(canvas: Canvas, cx: float, cy: float, angle: float) -> None:
    """A cut rib: an oblong bone along the chest wall."""
    if canvas.sees(cx, cy, 25):
        length = canvas.uniform(5, 22)
        dx, dy = length * math.cos(angle) / 2, length * math.sin(angle) / 2
        radius = canvas.uniform(2.5, 5.5)
        distance = canvas.capsule(cx - dx, cy - dy, cx + dx, cy + dy, radius, radius * 0.9)
        u = canvas.uniform
        canvas.bone(distance, u(0.7, 1.6), u(450, 1200), u(80, 350))


def vessels(canvas: Canvas, region: Array, count: int, hu: float, largest: float) -> None:
    """Discs and branching sticks within a region (a mask)."""
    ys, xs = np.nonzero(region > 0.5)
    if len(ys) == 0:
        return
    for _ in range(count):
        at = int(canvas.rng.integers(len(ys)))
        x, y = float(canvas.x[ys[at], xs[at]]), float(canvas.y[ys[at], xs[at]])
        radius = 0.5 * (1 - canvas.rng.random()) ** -0.7
        radius = min(radius, largest)
        angle, reach = canvas.uniform(0, 2 * math.pi), canvas.rng.exponential(3.5 * radius)
        x1, y1 = x + reach * math.cos(angle), y + reach * math.sin(angle)
        canvas.paint(canvas.capsule(x, y, x1, y1, radius, radius * 0.6), hu, region)


def lungs(canvas: Canvas, a: float, b: float) -> None:
    """Two lungs with vessels, airways and a mediastinum."""
    u = canvas.uniform
    density = u(-880, -720)
    for side in (-1, 1):
        wide = a * u(0.33, 0.42)
        lung = canvas.ellipse(
            side * a * u(0.46, 0.52), b * u(-0.12, 0.05), wide, b * u(0.6, 0.78), side * 0.15, 0.1
        )
        region = canvas.mask(lung)
        canvas.paint(lung, density + u(8, 30) * canvas.texture(u(1, 4)) + 25 * canvas.texture(40))
        vessels(canvas, region, int(canvas.rng.integers(25, 80)), u(-50, 60), u(3, 7))
        for _ in range(int(canvas.rng.integers(0, 5))):
            x, y = side * a * u(0.15, 0.6), b * u(-0.3, 0.3)
            airway = canvas.ellipse(x, y, *canvas.rng.uniform(1.5, 5, 2))
            canvas.paint(airway - 1, u(-200, 40), region)
            canvas.paint(airway, -980, region)
    if canvas.rng.random() < 0.8:
        heart = canvas.ellipse(a * u(-0.05, 0.2), -b * u(0.1, 0.35), a * u(0.22, 0.36),
                               b * u(0.25, 0.42), u(-0.6, 0.2), 0.08)  # fmt: skip
        canvas.paint(heart - u(1, 6), u(-110, -60))
        canvas.tissue(heart, u(35, 70), 6)
        if canvas.rng.random() < 0.5:
            enhanced = u(90, 380)
            for _ in range(2):
                chamber = canvas.ellipse(
                    a * u(-0.1, 0.2), -b * u(0.1, 0.35), a * u(0.06, 0.15), b * u(0.08, 0.2)
                )
                canvas.tissue(chamber, enhanced, 8)
    if canvas.rng.random() < 0.5:
        trachea = canvas.ellipse(u(-6, 6), b * u(0.02, 0.2), u(6, 10), u(6, 10))
        canvas.paint(trachea - u(1, 2), u(0, 80))
        canvas.paint(trachea, -990)


def abdomen(canvas: Canvas, a: float, b: float) -> None:
    """Liver, spleen, kidneys, bowel with gas, fat between."""
    u = canvas.uniform
    boost = u(0, 90) if canvas.rng.random() < 0.6 else 0.0
    cavity = canvas.ellipse(0, -b * 0.05, a * 0.8, b * 0.72)
    canvas.tissue(cavity, u(-115, -85), 8)
    inside = canvas.mask(cavity)
    vessels(canvas, inside, int(canvas.rng.integers(5, 30)), 40 + boost, 5)
    if canvas.rng.random() < 0.7:
        liver = canvas.ellipse(-a * u(0.35, 0.5), -b * u(0.1, 0.3), a * u(0.3, 0.42),
                               b * u(0.4, 0.6), u(-0.5, 0.5), 0.1)  # fmt: skip
        canvas.paint(liver, u(45, 70) + 0.6 * boost + 4 * canvas.texture(5), inside)
        vessels(canvas, canvas.mask(liver) * inside, 12, 40 + u(0.3, 1.3) * boost, 5)
    for _ in range(int(canvas.rng.integers(3, 14))):
        angle, radius = u(0, 2 * math.pi), math.sqrt(u(0, 0.5))
        x, y = a * radius * math.cos(angle), b * radius * math.sin(angle) - 0.15 * b
        loop = canvas.ellipse(x, y, u(8, 24), u(8, 20), u(0, 3), 0.12)
        canvas.paint(loop, u(25, 60) + 5 * canvas.texture(4), inside)
        content = -950.0 if canvas.rng.random() < 0.35 else u(-60, 220)
        spread = 0 if content < -900 else u(5, 60)
        canvas.paint(loop + u(1.5, 4), content + spread * canvas.texture(2.5), inside)
    for side in (-1, 1):
        if canvas.rng.random() < 0.7:
            kidney = canvas.ellipse(
                side * a * u(0.35, 0.5), b * u(0.2, 0.38), u(20, 30), u(22, 32)
            )
            canvas.paint(kidney - u(3, 10), u(-115, -90), inside)
            canvas.tissue(kidney, u(30, 45) + 1.3 * boost, 8)
            canvas.tissue(kidney + u(9, 14), u(-80, 60), 20)
        psoas = canvas.ellipse(side * u(32, 45), b * 0.42, u(14, 22), u(14, 24))
        canvas.tissue(psoas, u(45, 65), 4)


def torso(canvas: Canvas, a: float, b: float, chest: bool) -> None:
    """A trunk: skin, fat, muscles, ribs, spine, and its organs. The back is at +y."""
    u = canvas.uniform
    body = canvas.ellipse(0, 0, a, b, wobble=0.05)
    fat = u(4, 38)
    canvas.paint(body, u(-20, 60))
    canvas.tissue(body + u(1.2, 2.5), u(-115, -80), 7)
    wall = body + fat
    canvas.tissue(wall, u(40, 68), 4)
    planes = np.abs(canvas.texture(u(8, 16), 2)) - u(0.01, 0.05)  # fat between the muscles
    canvas.paint(np.maximum(20 * planes, wall + 3), u(-100, 0))
    streaks = canvas.texture(2.5) > u(1.0, 2.2)
    canvas.paint(wall + 2, np.where(streaks, u(-90, 0), canvas.hu))
    ia, ib = a - fat, b - fat
    if chest:
        lungs(canvas, ia, ib)
    else:
        abdomen(canvas, ia, ib)
    for _ in range(int(canvas.rng.integers(4, 12))):
        angle = u(0, 2 * math.pi)
        x, y = 0.9 * ia * math.cos(angle), 0.86 * ib * math.sin(angle)
        rib(canvas, x, y, math.atan2(ib * math.cos(angle), -ia * math.sin(angle)))
    if chest and canvas.rng.random() < 0.6:
        sternum = canvas.ellipse(0, -0.88 * ib, u(10, 20), u(4, 7))
        canvas.bone(sternum, u(0.6, 1.4), u(350, 800), u(60, 200))
    spine_y = ib * u(0.42, 0.55)
    for side in (-1, 1):  # muscles beside the spine
        muscle = canvas.ellipse(side * u(24, 36), spine_y + u(32, 42), u(18, 30), u(14, 22))
        marbling = np.maximum(canvas.texture(2.5) - u(0.6, 2), 0)
        canvas.paint(muscle, u(45, 65) - 60 * marbling, canvas.mask(body + 4))
    aorta = canvas.ellipse(u(8, 24), spine_y - u(20, 28), u(8, 14), u(8, 14), wobble=0.02)
    canvas.paint(aorta - u(0, 4), u(-110, 60))
    canvas.tissue(aorta, u(35, 60) if canvas.rng.random() < 0.5 else u(100, 350), 4)
    if canvas.rng.random() < 0.3:
        canvas.paint(np.abs(aorta) - u(0.4, 1), u(200, 700), canvas.texture(6) > 1.2)
    vertebra(canvas, u(-4, 4), spine_y, u(0.85, 1.25))


def head(canvas: Canvas, a: float, b: float) -> None:
    """A head: scalp, skull with marrow, brain with sulci and ventricles, or the skull base."""
    u = canvas.uniform
    skin = canvas.ellipse(0, 0, a, b, wobble=0.05)
    canvas.paint(skin, u(0, 70))
    canvas.tissue(skin + u(1.5, 3), u(-100, -20), 15)
    scalp = u(4, 9)
    canvas.tissue(skin + scalp * u(0.5, 0.8), u(20, 60), 8)
    skull = skin + scalp + 1.2 * canvas.texture(30)
    thickness = u(3.5, 9) * np.maximum(1 + 0.35 * canvas.texture(30), 0.3)
    canvas.paint(skull, u(1000, 1750) * (1 + 0.05 * canvas.texture(4)))
    if canvas.rng.random() < 0.7:  # marrow between the tables
        marrow = np.abs(skull + thickness / 2) - thickness * u(0.12, 0.25)
        canvas.paint(marrow, u(300, 800) * (1 + 0.3 * canvas.texture(1.5)))
    inner = skull + thickness
    low = canvas.rng.random() < 0.4
    brain(canvas, inner, a, b)
    if low:
        skull_base(canvas, inner, skin, a, b)


def brain(canvas: Canvas, inner: Array, a: float, b: float) -> None:
    """What is inside the skull: fluid, cortex, white matter, ventricles, findings."""
    u = canvas.uniform
    inside = canvas.mask(inner)
    canvas.paint(inner, u(5, 20))
    folds = canvas.texture(u(5, 9), 2)
    sulci = np.abs(folds) - u(0.02, 0.12)
    depth = np.clip((inner + u(18, 32)) / 12, -1, 1)
    cortex = inner + u(1, 3)
    white = u(24, 31)
    grey_white = u(5, 10) / (1 + np.exp(-4 * (folds + 0.4 * depth)))
    canvas.paint(cortex, white + grey_white + 1.5 * canvas.texture(4))
    canvas.paint(sulci * 5 + np.maximum(-depth, 0) * 20, u(5, 18), inside * u(0.3, 1))
    for side in (-1, 1):
        if canvas.rng.random() < 0.75:
            horn = canvas.ellipse(side * u(6, 14), -b * u(0.05, 0.3), u(3, 9), b * u(0.12, 0.25),
                                  -side * u(0.1, 0.5), 0.12)  # fmt: skip
            canvas.paint(horn, u(2, 12), inside)
            back = canvas.ellipse(
                side * u(16, 28), b * u(0.15, 0.35), u(3, 8), b * u(0.08, 0.2), side * 0.4, 0.12
            )
            canvas.paint(back, u(2, 12), inside)
            if canvas.rng.random() < 0.5:
                calcified = canvas.ellipse(side * u(16, 28), b * u(0.15, 0.3), u(1, 4), u(1, 4))
                canvas.paint(calcified, u(80, 400), inside)
    if canvas.rng.random() < 0.7:
        canvas.paint(np.abs(canvas.x + 0.6 * canvas.texture(30)) - u(0.4, 1), u(45, 90), inside)
    for _ in range(int(canvas.rng.integers(0, 4))):
        x, y, radius = a * u(-0.6, 0.6), b * u(-0.6, 0.6), canvas.rng.exponential(5) + 1
        spot = canvas.ellipse(x, y, radius, radius * u(0.5, 1), u(0, 3), 0.15)
        kind = canvas.rng.random()
        value = u(55, 85) if kind < 0.4 else u(10, 22) if kind < 0.8 else u(100, 700)
        canvas.paint(spot, value, inside)


def skull_base(canvas: Canvas, inner: Array, skin: Array, a: float, b: float) -> None:
    """Bone, air cells and soft tissue in front and at the sides; orbits; sinuses."""
    u = canvas.uniform
    within = canvas.mask(skin + u(5, 9))
    shape = 14 * canvas.texture(18, 2)
    front = -canvas.y - b * u(-0.1, 0.3) + shape
    side_y = np.abs(canvas.y - b * u(0, 0.3)) - u(15, 30)
    lateral = np.minimum(np.abs(canvas.x) - a * u(0.15, 0.4), -side_y) + shape
    region = smooth_step(np.maximum(front, lateral), u(2, 6)) * within
    rough = canvas.texture(u(5, 12), 1.6)
    canvas.hu += region * (30 + 20 * canvas.texture(6) - canvas.hu)
    steep = smooth_step(rough - u(0.1, 0.9), canvas.edge / 6)
    canvas.hu += region * steep * (u(500, 1500) * (1 + 0.2 * canvas.texture(1)) - canvas.hu)
    cells = smooth_step(canvas.texture(u(3, 9), 1.8) - u(0.6, 1.6), canvas.edge / 5)
    canvas.hu += region * cells * (-1000 - canvas.hu)
    for side in (-1, 1):
        if canvas.rng.random() < 0.6:
            x, y = side * a * u(0.38, 0.46), -b * u(0.55, 0.68)
            orbit = canvas.ellipse(x, y, u(15, 20), u(17, 23))
            canvas.paint(orbit - u(1, 2.5), u(400, 1200), within)
            canvas.tissue(orbit, u(-100, -70), 8)
            globe = canvas.ellipse(x, y - u(2, 6), u(11, 12.5), u(11, 12.5), wobble=0.01)
            canvas.paint(globe - 0.8, u(40, 70))
            canvas.paint(globe, u(5, 20))
            canvas.paint(canvas.ellipse(x, y - u(9, 13), 4.5, 2.2, wobble=0.0), u(70, 130))
            canvas.paint(canvas.capsule(x, y + 8, x * 0.75, y + 24, 2, 2), u(25, 45), within)
    if canvas.rng.random() < 0.7:
        for _ in range(int(canvas.rng.integers(1, 5))):
            sinus = canvas.ellipse(a * u(-0.3, 0.3), -b * u(0.3, 0.85), u(4, 16), u(5, 18),
                                   u(0, 3), 0.15)  # fmt: skip
            canvas.paint(sinus - u(0.6, 2), u(300, 1200), within)
            canvas.paint(sinus, -1000 if canvas.rng.random() < 0.85 else u(10, 50), within)


def smooth_step(field: Array, width: float) -> Array:
    """A smooth step of a field at zero."""
    t = np.clip(0.5 + field / (2 * max(width, 0.05)), 0, 1)
    return t * t * (3 - 2 * t)


def table(canvas: Canvas, y: float) -> None:
    """The arc of the patient table below the body."""
    radius = canvas.uniform(250, 600)
    distance = np.hypot(canvas.x, canvas.y - y + radius) - radius
    shell = np.abs(distance) - canvas.uniform(0.6, 2)
    canvas.paint(shell, canvas.uniform(-300, 150), np.abs(canvas.x) < 230)
    canvas.paint(np.abs(distance - 10) - 9, canvas.uniform(-990, -880), np.abs(canvas.x) < 225)


def draw_slice(seed: int, size: int) -> Array:
    """Draws one slice: float32 HU, (size, size), in [-1024, 3071].

    Arguments:
        seed: The same seed and size give the same slice.
        size: Pixels a side.
    """
    rng = np.random.default_rng((seed, 7919))
    is_head = rng.random() < 0.4
    if is_head:
        a, b = rng.uniform(66, 82), rng.uniform(84, 104)
        full, focus = rng.uniform(190, 260), (0.0, 0.0)
    else:
        a = rng.uniform(130, 200)
        b = a * rng.uniform(0.58, 0.78)
        full, focus = 2.05 * a * rng.uniform(0.95, 1.2), (0.0, 0.45 * b)
    view, centre = float(full), (0.0, 0.0)
    if rng.random() < 0.6:  # a close-up, half of those of a trunk at its spine
        view = float(rng.uniform(70, 170))
        if not is_head and rng.random() < 0.55:
            centre = (float(rng.normal(0, 15)), float(focus[1] + rng.normal(10, 20)))
        else:
            radius, angle = math.sqrt(rng.uniform(0, 0.9)), rng.uniform(0, 2 * math.pi)
            centre = (float(a * radius * math.cos(angle)), float(b * radius * math.sin(angle)))
    canvas = Canvas(rng, size, view / size, centre, float(rng.uniform(0.5, 1.2)), 0.02 * a)
    if is_head:
        head(canvas, a, b)
    else:
        torso(canvas, a, b, chest=bool(rng.random() < 0.55))
    if rng.random() < 0.6:
        table(canvas, b * rng.uniform(1.08, 1.25))
    noise = reconstruction_noise(rng, size, float(rng.uniform(0.15, 0.4)))
    level = 2 + 10 * rng.random() ** 2 + (12 if rng.random() < 0.15 else 0)
    image = canvas.hu + level * noise
    return np.clip(image, -1024, 3071).astype(np.float32)
