"""The families of operations; each makes one file."""

from families import binary, pointwise

FAMILIES = {
    "pointwise": pointwise.pointwise,
    "binary": binary.binary,
    "promotion": binary.promotion,
}
