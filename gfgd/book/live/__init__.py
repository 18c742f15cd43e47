"""Pictures that move: an animation, and live pictures that the reader steers.

Each function returns a picture that a notebook shows where it is the last line of a cell.
"""

from gfgd.book.live.animation import animation
from gfgd.book.live.curves import (
    curvature_along_a_flow,
    depth_and_curvature,
    flow_at_a_kink,
    series_of_modified_flows,
    stairs_to_a_bound,
    steps_in_single_precision,
)
from gfgd.book.live.edge import edge_of_stability
from gfgd.book.live.paths import gradient_paths
from gfgd.book.live.picture import LivePicture

__all__ = [
    "LivePicture",
    "animation",
    "curvature_along_a_flow",
    "depth_and_curvature",
    "edge_of_stability",
    "flow_at_a_kink",
    "gradient_paths",
    "series_of_modified_flows",
    "stairs_to_a_bound",
    "steps_in_single_precision",
]
