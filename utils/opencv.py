"""OpenCV's settings in our scripts and their workers. A program that imports swinsf keeps its own."""

import cv2


def set_up() -> None:
    """No threads, because the processes that we start use all cores, and no messages about pictures, because
    ours name the file and the remedy."""
    cv2.setNumThreads(0)
    # OpenCV 4.8 to 4.12 has the first, 4.13 and later the second
    set_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel
    set_level(0)  # silent
