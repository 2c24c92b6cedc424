"""Picture -> things, by analysis by synthesis. Nothing is learned.

Pixels take the nearest colour (`pixels`); the outline of every kind and size is put over each connected shape of one
colour (`outline`), and the one that covers it best is what is there; letters, fingers and limbs are then looked at in
turn (`check_words`, `check_figure`). What an outline covers is taken away, and what is left is read again, so that
things of one colour that touch come apart, and a thing cut in two by what is in front of it is one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .check_figure import read_doll, read_hand
from .check_words import UNREAD, read_word
from .geometry import bounds, box_of, placed
from .outline import HIDDEN, PHASES, Evidence, Placed, explained, fit, forms, outline, place, search
from .pixels import BACKGROUND, GRIPPER, NAMES, Pixels, classified, grown, pixels, regions, share
from .render import coverage, silhouette
from .scene import MAX_THINGS, PAINTS, Thing

GOOD = 0.74  # fit of a whole thing; below it, a shape may be hidden in part or be two things
SURELY = 0.84  # fit of a whole thing that touches another
FAIR = 0.52  # fit of a whole thing that is blurred: its outline still accounts for nearly all of its colour
LEAST, SURE = 0.30, 0.42  # fit below which there is no thing at all; and below which a small shape is none
THOROUGH = 5  # shapes of one colour that may be searched for at length: more are the clutter of a bad picture
CLUTTER = 0.6  # share of coloured pixels, plus that of edges between classes, of a picture of noise; true ones: 0.5
PANE = 0.24  # opacity of a glass's pane
ALIKE = 0.08  # difference in fit from which on an outline decides between a sign and another thing
LEGIBLE = 0.75  # correlation of letters that are certainly there
RIM = 0.6  # share of a thin shape along other shapes, from which on it is a blend of them
_SMALLEST = 9 / 64**2  # area of a shape that may be a thing, of the picture


@dataclass(frozen=True)
class Seen(Thing):
    """A thing read from a picture.

    Attributes:
        fit: in [0, 1], how well the outline of its kind covers its pixels; true renders give 0.75 and more.
        word: of a sign, with `"?"` for letters that look like none.
        limb_count: of a doll, 4 when all is well; 0 for other kinds.
        oddities: what is wrong with its anatomy, in words.
    """

    fit: float = 1.0
    limb_count: int = 0
    oddities: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        word = self.word
        object.__setattr__(self, "word", word.replace(UNREAD, "A"))
        super().__post_init__()
        object.__setattr__(self, "word", word)

    __str__ = Thing.__str__


def read_scene(picture: np.ndarray, names: tuple[str, ...] = NAMES) -> list[Seen]:
    """The things in a picture, from left to right.

    Args:
        picture: uint8 (size, size, 3), 24 pixels or more a side; more than 64 are averaged to 64.
        names: of the colours that things may have, of `PAINTS`.

    Of noise, which is no picture of this world, only the largest shape of each colour is looked at, and none at length.

    Raises:
        ValueError: for an array that is no such picture.
    """
    raw = pixels(picture, names)
    if _cluttered(raw):
        return _largest(raw)
    seen, bodies = _clean(raw)
    found = _all_things(seen, bodies)
    panes = [(glass, _pane(glass, seen.size)) for glass in found if glass.kind == "glass" and glass.fit > FAIR]
    if any(bodies[pane > 0.9].any() for _, pane in panes):
        seen, bodies = _clean(_cleared(seen, panes))
        found = _all_things(seen, bodies)
    found = [thing for thing in found if not any(_written(thing, sign) for sign in found)]
    found.sort(key=lambda thing: -thing.fit)
    return sorted(found[: 2 * MAX_THINGS], key=lambda thing: (thing.x, thing.y))


def _written(thing: Seen, sign: Seen) -> bool:
    """Whether a thing is but the blurred letters of a sign: red and white make pink."""
    if sign.kind != "sign" or UNREAD in sign.word or thing.colour == sign.colour:
        return False
    board = next(box_of(part.shape) for part in placed(sign) if part.role == "board")
    left, bottom, right, top = bounds(thing)
    inside = board[0] < (left + right) / 2 < board[2] and board[1] < (bottom + top) / 2 < board[3]
    return inside and thing.fit < sign.fit and right - left < board[2] - board[0]


def _cluttered(seen: Pixels) -> bool:
    """Whether there is more colour, or more change of it, than in any picture of things on a table."""
    classes = seen.classes
    edges = ((classes[1:] != classes[:-1]).mean() + (classes[:, 1:] != classes[:, :-1]).mean()) / 2
    return bool((classes != BACKGROUND).mean() + edges > CLUTTER)


def _largest(seen: Pixels) -> list[Seen]:
    """Of clutter, what the largest shape of each colour looks like."""
    bodies = seen.classes != BACKGROUND
    found = [thing for colour in _present(seen) for thing in _things(seen, bodies, colour, most=1, thorough=0)]
    return sorted(found, key=lambda thing: (thing.x, thing.y))


def _present(seen: Pixels) -> list[int]:
    """The colours that a picture has pixels of."""
    return np.flatnonzero(np.bincount(seen.classes.ravel(), minlength=GRIPPER + 1)[: len(seen.names)]).tolist()


def _all_things(seen: Pixels, bodies: np.ndarray) -> list[Seen]:
    return [thing for colour in _present(seen) for thing in _things(seen, bodies, colour)]


def _pane(glass: Thing, size: int) -> np.ndarray:
    """Where one looks through a glass: float32 (size, size)."""
    return next(coverage(part.shape, size) for part in placed(glass) if part.role == "pane")


def _cleared(seen: Pixels, panes: list[tuple[Seen, np.ndarray]]) -> Pixels:
    """The picture as it would be without the tint of panes, so that what is in a glass has its own colour."""
    colours = seen.colours.copy()
    for glass, pane in panes:
        tint = np.multiply(PAINTS[glass.colour], 0.65) + 255 * 0.32
        inner = pane > 0.9
        colours[inner] = (colours[inner] - PANE * tint) / (1 - PANE)
        body = silhouette(glass, seen.size, solid=True)
        rim = (body > 0.03) & (body < 0.6) & grown(pane > 0.5)
        part = body[rim][:, None]
        colours[rim] = (colours[rim] - part * 0.9 * np.array(PAINTS[glass.colour])) / (1 - part)
    return classified(np.clip(colours, 0, 255).astype(np.float32), seen.names)


def _clean(seen: Pixels) -> tuple[Pixels, np.ndarray]:
    """The picture with shapes too small to be a thing counted as background, and where the others are."""
    classes = np.where(seen.classes == BACKGROUND, BACKGROUND, -1)
    least = max(_SMALLEST * seen.size**2, 4)
    thin = []
    for colour in (*range(len(seen.names)), GRIPPER):
        own = seen.classes == colour
        if np.count_nonzero(own) < least:
            continue
        labels = regions(own)
        square = own[:-1, :-1] & own[1:, :-1] & own[:-1, 1:] & own[1:, 1:]
        area = np.bincount(labels.ravel())
        thick = np.zeros(len(area), bool)
        thick[labels[:-1, :-1][square]] = True
        large = area >= least
        large[0] = thick[0] = False
        classes[(thick & large)[labels]] = colour
        thin += [(colour, labels == label) for label in np.flatnonzero(large & ~thick)]
    bodies = grown((classes >= 0) & (classes != BACKGROUND))
    for colour, region in thin:
        # Two things that touch blend to a third colour: a line that runs along others is none of its own.
        if bodies[region].mean() < RIM:
            classes[region] = colour
    classes[classes < 0] = BACKGROUND
    classes[_blends(classes, seen.colours)] = BACKGROUND
    return replace(seen, classes=classes), classes != BACKGROUND


def _blends(classes: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Pixels of a line one pixel thin, whose colour lies between those of its two sides: a rim, of a third colour."""
    fore = classes != BACKGROUND
    equal = (classes[:-1, :-1] == classes[1:, :-1]) & (classes[:-1, 1:] == classes[1:, 1:])
    square = equal & (classes[:-1, :-1] == classes[:-1, 1:]) & fore[:-1, :-1]
    thick = np.zeros_like(fore)
    for rows in (slice(None, -1), slice(1, None)):
        for columns in (slice(None, -1), slice(1, None)):
            thick[rows, columns] |= square
    row, column = np.nonzero(fore & ~thick)
    here = colours[row, column]
    blend = np.zeros(len(row), bool)
    last = len(classes) - 1
    for down, right in ((0, 1), (1, 0)):
        one = colours[np.maximum(row - down, 0), np.maximum(column - right, 0)]
        way = colours[np.minimum(row + down, last), np.minimum(column + right, last)] - one
        square_length = np.maximum((way * way).sum(axis=1), 1)
        along = ((here - one) * way).sum(axis=1) / square_length
        off = here - one - along[:, None] * way
        between = (along > 0.12) & (along < 0.88) & (square_length > 60**2) & ((off * off).sum(axis=1) < 26**2)
        ends = [classes[np.maximum(row - down, 0), np.maximum(column - right, 0)]]
        ends += [classes[np.minimum(row + down, last), np.minimum(column + right, last)]]
        own = classes[row, column]
        foreign = ((ends[0] != own) & (ends[0] != BACKGROUND)) | ((ends[1] != own) & (ends[1] != BACKGROUND))
        blend |= between & foreign & (ends[0] != own) & (ends[1] != own)
    mask = np.zeros_like(fore)
    mask[row[blend], column[blend]] = True
    return mask


def _things(
    seen: Pixels, bodies: np.ndarray, colour: int, most: int = 2 * MAX_THINGS, thorough: int = THOROUGH
) -> list[Seen]:
    """The things of a colour; at most so many of its shapes are looked at, and so many at length."""
    everywhere = slice(0, seen.size)
    mask = share(seen, colour, everywhere, everywhere)
    own = seen.classes == colour
    weight = np.where(bodies & ~own, np.float32(HIDDEN), np.float32(1))
    least = max(_SMALLEST * seen.size**2, 4)
    found: list[Seen] = []
    labels = regions(own)
    for tried in range(most):
        area = np.bincount(labels.ravel())
        area[0] = 0
        largest = int(area.argmax())
        if len(area) == 1 or area[largest] < least:
            break
        region = labels == largest
        best = _recognise(seen, colour, mask, region, weight, thorough=tried < thorough)
        covered = _covered(best, seen.size)
        if best.fit >= (LEAST if area[largest] > 4 * least else SURE):
            found.append(_detailed(seen, np.where(grown(region), mask, 0), best, colour))
        else:
            covered = region
        mask = np.where(covered, 0, mask)
        labels = _remains(labels > 0, covered)
    return found


def _remains(own: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """The regions that are left when what is covered is taken away, without thin remnants along it."""
    labels = regions(own & ~covered)
    square = (labels[:-1, :-1] > 0) & (labels[1:, :-1] > 0) & (labels[:-1, 1:] > 0) & (labels[1:, 1:] > 0)
    kept = np.ones(int(labels.max()) + 1, bool)
    kept[labels[own & grown(covered)]] = False
    kept[labels[:-1, :-1][square]] = True
    kept[0] = False
    return np.where(kept[labels], labels, 0)


def _recognise(
    picture: Pixels, colour: int, mask: np.ndarray, region: np.ndarray, weight: np.ndarray, thorough: bool
) -> Placed:
    shape = np.where(grown(region), mask, 0)
    seen = Evidence(mask, shape, weight, float(shape.sum()))
    core = shape > 0.5
    boxes = [_box(core, 2), _box(region, 1)]  # without stray pixels, and with thin ends
    found = [tried for box in dict.fromkeys(boxes) for tried in place(seen, box)]
    whole = _sign_or_not(picture, colour, found)
    box = boxes[1]
    # Beside another thing, a shape may be what that leaves to be seen of a larger one.
    beside = bool((grown(region) & (weight < 1)).any())
    if whole is not None and (
        whole.fit >= (SURELY if beside else GOOD) or (not beside and whole.fit >= FAIR and _accounts(whole, shape))
    ):
        return whole
    if not thorough:
        return whole or Placed(0.0, forms()[0], 0, 0)
    best = search(seen, box)
    if whole is not None and whole.fit >= best.fit:
        best = whole
    if best.fit < GOOD:
        piece = search(seen, box, explained)
        piece = piece._replace(fit=fit(piece.form, piece.x, piece.y, seen))
        best = max(best, piece, key=lambda p: explained(p.form, p.x, p.y, seen))
    return best


def _sign_or_not(picture: Pixels, colour: int, found: list[Placed]) -> Placed | None:
    """The best fit; between a sign and something of like outline, whether there are letters decides."""
    best = max(found, key=lambda tried: tried.fit, default=None)
    if best is None:
        return None
    alike = [tried for tried in found if tried.fit >= best.fit - ALIKE]
    signs = [tried for tried in alike if tried.form.kind == "sign"]
    others = [tried for tried in alike if tried.form.kind != "sign"]
    if not signs or not others:
        return best
    sign = max(signs, key=lambda tried: tried.fit)
    word, clear = read_word(picture.colours, _thing(sign, picture.names[colour], picture.size))
    return sign if UNREAD not in word and clear >= LEGIBLE else max(others, key=lambda tried: tried.fit)


def _box(mask: np.ndarray, least: int) -> tuple[int, int, int, int]:
    """First column and row, and one past the last, of those holding so many pixels of a mask; of any, if none does."""
    rows, columns = (np.flatnonzero(np.count_nonzero(mask, axis=axis) >= least) for axis in (1, 0))
    if not len(rows) or not len(columns):
        return _box(mask, 1) if mask.any() else (0, 0, 1, 1)
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _accounts(best: Placed, shape: np.ndarray) -> bool:
    """Whether a placed outline leaves next to nothing of a shape unexplained."""
    return float(shape[~_covered(best, len(shape))].sum()) < 0.06 * float(shape.sum())


def _covered(best: Placed, size: int) -> np.ndarray:
    """The pixels of a placed outline and those next to them."""
    shape = outline(best.form, size, best.x % PHASES, best.y % PHASES)
    top, left = size - best.y // PHASES + shape.row, best.x // PHASES + shape.column
    mask = np.zeros((size, size), bool)
    rows, columns = np.nonzero((shape.cover > 0.3) | (shape.weight < 1))
    rows, columns = rows + top, columns + left
    here = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
    mask[rows[here], columns[here]] = True
    return grown(mask)


def _thing(best: Placed, colour: str, size: int) -> Thing:
    scale = 1 / (PHASES * size)
    return replace(best.form, colour=colour).at(best.x * scale, best.y * scale)


def _detailed(seen: Pixels, shape: np.ndarray, best: Placed, colour: int) -> Seen:
    """The thing that was found, with its word, fingers or limbs."""
    thing = _thing(best, seen.names[colour], seen.size)
    word, limbs = "", 0
    oddities: tuple[str, ...] = ()
    if thing.kind == "sign":
        word, _ = read_word(seen.colours, thing)
    elif thing.kind == "doll":
        thing, limbs, oddities = read_doll(shape, thing)
    elif thing.kind == "hand":
        thing, oddities = read_hand(shape, thing)
    return Seen(
        thing.kind,
        thing.colour,
        thing.size,
        thing.x,
        thing.y,
        thing.angle,
        word=word,
        fingers=thing.fingers,
        limbs=thing.limbs,
        fit=min(1.0, best.fit),
        limb_count=limbs,
        oddities=oddities,
    )
