"""Shapes in signatures: `Float[Tensor, "b n c"]` is checked by jaxtyping under pytest and inert otherwise.

jaxtyping is a development tool here: `tests/conftest.py` sets `SELFFLOW_CHECK_SHAPES` before the first import; without
it the names are `typing.Annotated`, which costs nothing and which type checkers read as the plain tensor.
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING or "SELFFLOW_CHECK_SHAPES" not in os.environ:
    from typing import Annotated as Bool
    from typing import Annotated as Float
    from typing import Annotated as Int
else:
    from jaxtyping import Bool, Float, Int

__all__ = ["Bool", "Float", "Int"]
