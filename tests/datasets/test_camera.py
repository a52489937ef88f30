import numpy as np
import pytest

from swinsf.datasets.simulation.camera import FASTEST, KINDS, draw_motion, margin, project


def grid(height, width):
    y, x = np.mgrid[0:height, 0:width].astype(float)
    return x, y


def speeds(motion, height=60, width=80, time=0.0):
    """How far each pixel's position in the source moves in the step around a time."""
    (x0, y0), (x1, y1) = (project(motion(time + half), *grid(height, width)) for half in (-0.5, 0.5))
    return np.hypot(x1 - x0, y1 - y0)


@pytest.mark.parametrize("kind", [*KINDS, None])
@pytest.mark.parametrize("speed", [0.0, 0.05, 0.4])
def test_motion_has_the_requested_speed(kind, speed):
    motion = draw_motion(60, 80, speed, np.random.default_rng(5), KINDS[kind] if kind else None)
    moved = speeds(motion)
    if kind in ("perspective", None):  # slower if the horizon would come near
        assert 0.25 * speed <= moved.mean() <= 1.06 * speed
    else:
        assert moved.mean() == pytest.approx(speed, rel=0.06)


def test_no_pixel_exceeds_the_top_speed():
    for seed in range(50):
        assert speeds(draw_motion(60, 80, 1.0, np.random.default_rng(seed))).max() < 1.02 * FASTEST


def test_long_paths_stay_slow_and_the_horizon_stays_out():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        motion = draw_motion(60, 80, 0.3, rng, bend=rng.uniform(-0.3, 0.3), reach=150)
        for time in (-150, -75, 0, 75, 150):
            assert speeds(motion, time=time).max() < 1.05 * FASTEST
        assert max(margin(motion, 60, 80, (-150, 150))) < 2 * 150 * 1.3


def test_a_translation_moves_the_picture_by_its_speed_times_the_steps():
    motion = draw_motion(60, 80, 0.25, np.random.default_rng(5), KINDS["translation"])
    assert np.hypot(*(motion(20) - motion(-20))[:2, 2]) == pytest.approx(10)


def test_at_time_0_the_picture_shows_the_middle_of_its_source():
    for kind in KINDS.values():
        motion = draw_motion(61, 81, 0.3, np.random.default_rng(1), kind)
        assert np.allclose(
            project(motion(0), *grid(61, 81)), np.stack(grid(61, 81)) - np.array([40, 30]).reshape(2, 1, 1)
        )


def test_a_bend_changes_the_speed_on_the_way():
    motion = draw_motion(60, 80, 0.2, np.random.default_rng(0), KINDS["translation"], bend=0.3)
    assert speeds(motion, time=20).mean() == pytest.approx(0.2 * 1.3)
    assert speeds(motion, time=-20).mean() == pytest.approx(0.2 * 0.7)


def test_the_margin_covers_all_that_the_picture_shows():
    for seed in range(20):
        motion = draw_motion(60, 80, 0.5, np.random.default_rng(seed))
        rows, columns = margin(motion, 60, 80, (-20, 20))
        for time in (-20, 20):
            x, y = project(motion(time), *grid(60, 80))
            assert np.abs(x).max() <= (80 + columns) / 2 and np.abs(y).max() <= (60 + rows) / 2
    sideways = margin(
        lambda time: np.array([[1, 0, time / 2 - 39.5], [0, 1, time / 8 - 29.5], [0, 0, 1]]),
        60,
        80,
        (-20, 20),
    )
    assert sideways == (5, 20)  # rows, columns
    still = draw_motion(60, 80, 0.0, np.random.default_rng(0))
    assert margin(still, 60, 80, (-20, 20)) == (0, 0)
