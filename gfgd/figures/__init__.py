"""The book's figures: one language, one function for each kind of picture.

Every function returns a :class:`Picture`, a matplotlib figure outside pyplot's state, which a
notebook shows as SVG. Lines have roles, which their labels tell: gradient flow is blue, gradient
descent orange, a bound purple, a prediction green, in every figure. Each figure is drawn for a wide
page and for a phone.
"""

from gfgd.figures.charts import matrices, raster, staircase
from gfgd.figures.lines import (
    curves,
    distribution,
    fitted_slope,
    order_of_convergence,
    panels,
    small_multiples,
    spectrum,
)
from gfgd.figures.planes import (
    DirectionField,
    direction_fields,
    paths_on_contours,
    phase_portrait,
)
from gfgd.figures.style import MIME_TYPE, ROLES, STYLE, Picture, looks, picture, use_style

__all__ = [
    "use_style",
    "curves",
    "panels",
    "small_multiples",
    "order_of_convergence",
    "spectrum",
    "distribution",
    "paths_on_contours",
    "DirectionField",
    "direction_fields",
    "phase_portrait",
    "staircase",
    "raster",
    "matrices",
    "fitted_slope",
    "Picture",
    "picture",
    "looks",
    "ROLES",
    "STYLE",
    "MIME_TYPE",
]
