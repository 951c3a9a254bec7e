"""The families of operations; each makes one file."""

from families import binary, movement, pointwise, products, reduce, train

FAMILIES = {
    "attention": products.attention,
    "binary": binary.binary,
    "cast": movement.cast,
    "indexing": movement.indexing,
    "loss": train.loss,
    "movement": movement.movement,
    "norm": train.norm,
    "pointwise": pointwise.pointwise,
    "products": products.products,
    "promotion": binary.promotion,
    "reduce": reduce.reduce,
    "scan": reduce.scan,
    "softmax": reduce.softmax,
}
