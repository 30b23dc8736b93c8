"""Pictures of many simulations that share a model, all drawn in one OpenGL context.

Several contexts in one process damage each other without an error; one that draws everything
cannot. Drawing reads the simulations and changes nothing in them.
"""

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Frame = NDArray[np.uint8]  # (3, size, size)
LARGE = 480  # pixels a side, as Gymnasium-Robotics draws


@dataclass(frozen=True)
class Camera:
    """A free camera that looks at a point; metres and degrees, as MuJoCo's ``MjvCamera``."""

    distance: float
    azimuth: float
    elevation: float
    lookat: tuple[float, float, float]

    def as_mujoco(self) -> Any:
        """The ``MjvCamera``."""
        camera = mujoco.MjvCamera()
        camera.distance, camera.azimuth, camera.elevation = (
            self.distance,
            self.azimuth,
            self.elevation,
        )
        camera.lookat[:] = self.lookat
        return camera

    def project(self, points: NDArray[np.float64], size: int, fovy: float) -> NDArray[np.float64]:
        """Where points of the world are in a square picture.

        Args:
            points: (n, 3), metres, in front of the camera.
            size: pixels a side.
            fovy: vertical field of view in degrees, ``model.vis.global_.fovy``.

        Returns:
            (n, 2), pixels from the left edge and from the top edge.
        """
        azimuth, elevation = np.deg2rad((self.azimuth, self.elevation))
        flat = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
        up = np.array([0.0, 0.0, 1.0])
        forward = np.cos(elevation) * flat + np.sin(elevation) * up
        right = np.cross(flat, up)
        seen = points - np.array(self.lookat) + self.distance * forward  # from the camera
        depth = seen @ forward
        across, along = seen @ right, seen @ np.cross(right, forward)
        focal = size / 2 / np.tan(np.deg2rad(fovy) / 2)  # pixels
        pixels: NDArray[np.float64] = np.stack([across, -along], axis=1) * focal / depth[:, None]
        return pixels + size / 2


CAMERAS = {
    "default": Camera(2.5, 132.0, -14.0, (1.3, 0.75, 0.55)),  # of Gymnasium-Robotics: all of it
    "close": Camera(1.0, 132.0, -30.0, (1.34, 0.75, 0.47)),  # the block and where it may go
}
FOR_PEOPLE = {  # by task: the arm, the table, and wherever object and goal may be
    "Reach": Camera(1.25, 132.0, -22.0, (1.3, 0.75, 0.54)),
    "Push": Camera(1.2, 132.0, -32.0, (1.3, 0.75, 0.5)),
    "PickAndPlace": Camera(1.45, 132.0, -20.0, (1.3, 0.75, 0.6)),
    "Slide": Camera(1.9, 132.0, -25.0, (1.5, 0.75, 0.45)),
}
# How far from the eye to the goal the halo is drawn: before all else, and as large in the picture.
_NEAR = 0.2
_HALO = np.array([1.0, 0.0, 0.0, 0.25], dtype=np.float32)


class FrameRenderer:
    """Draws simulations of one Fetch model as square RGB pictures.

    OpenGL contexts belong to a thread: make it, use it and close it in the same one.

    Args:
        model: ``MjModel`` that the simulations share.
        size: pixels a side.
        camera: where from.
        msaa: samples per pixel against jagged edges, 0 or 4; `benchmarks/pixels.py` times both.
        show_goal: draw the goal's marker, for people. A policy that is told another goal in
            hindsight must not see it.
        halo: metres around the goal to be shown as a ball, through whatever stands before it; 0:
            none.
        native: draw at this size; else at 480 pixels a side and make it smaller, which is slow.
    """

    def __init__(
        self,
        model: Any,
        size: int,
        camera: Camera,
        *,
        msaa: int = 0,
        show_goal: bool = False,
        halo: float = 0.0,
        native: bool = True,
    ) -> None:
        model.vis.quality.offsamples = msaa  # read when the context is made
        drawn = size if native else LARGE
        self._renderer, self._size = mujoco.Renderer(model, drawn, drawn), size
        self._camera, self._show_goal, self._halo = camera.as_mujoco(), show_goal, halo
        self._target = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, "target0")
        self._picture = np.empty((drawn, drawn, 3), dtype=np.uint8)
        self._marker: int | None = None  # the marker's place among what is drawn

    def draw(self, data: Any, goal: NDArray[np.float64]) -> Frame:
        """A picture of one simulation, with memory of its own.

        Args:
            data: its ``MjData``.
            goal: (3,), metres.

        Raises:
            RuntimeError: the picture is empty, so the context was damaged.
        """
        self._renderer.update_scene(data, self._camera)
        self._place_marker(goal)
        if self._halo:
            self._add_halo(goal)
        self._picture.fill(0)  # a damaged context writes nothing, and the last picture is not blank
        self._renderer.render(out=self._picture)
        if self._picture.min() == self._picture.max():
            raise RuntimeError("an empty picture: another OpenGL context disturbed this one")
        return self._resized().transpose(2, 0, 1).copy()  # else a view of the picture

    def close(self) -> None:
        """Free the context."""
        self._renderer._gl_context.make_current()  # or what is freed is another one's
        self._renderer.close()

    def _resized(self) -> NDArray[np.uint8]:
        if len(self._picture) == self._size:
            return self._picture
        sides = (self._size, self._size)
        small = Image.fromarray(self._picture).resize(sides, Image.Resampling.BILINEAR)
        return np.asarray(small)

    def _place_marker(self, goal: NDArray[np.float64]) -> None:
        """Where the environment's own code would, but in the picture alone."""
        scene = self._renderer.scene
        if self._marker is None:
            self._marker = next(
                place
                for place, geom in enumerate(scene.geoms[: scene.ngeom])
                if geom.objtype == mujoco.mjtObj.mjOBJ_SITE and geom.objid == self._target
            )
        marker = scene.geoms[self._marker]
        marker.pos[:] = goal
        if not self._show_goal:
            marker.size[:] = 0.0

    def _add_halo(self, goal: NDArray[np.float64]) -> None:
        scene = self._renderer.scene
        eye = np.mean([camera.pos for camera in scene.camera], axis=0)  # there are two, for 3D
        ball = scene.geoms[scene.ngeom]
        scene.ngeom += 1
        mujoco.mjv_initGeom(
            ball,
            mujoco.mjtGeom.mjGEOM_SPHERE,
            size=np.full(3, _NEAR * self._halo),
            pos=eye + _NEAR * (goal - eye),
            mat=np.eye(3).ravel(),
            rgba=_HALO,
        )
