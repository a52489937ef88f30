"""OpenCV's settings in the scripts and their workers. A program that imports swinsf keeps its own."""

import cv2


def set_up() -> None:
    """Disable OpenCV's threads, since our processes use all cores, and its messages about pictures, since
    ours name the file and the remedy."""
    cv2.setNumThreads(0)
    # OpenCV 4.8 to 4.12 has the first, 4.13 and later the second
    set_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel
    set_level(0)  # silent
