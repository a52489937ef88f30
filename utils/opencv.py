"""OpenCV's settings in our scripts and their workers. A program that imports swinsf keeps its own."""

import cv2


def set_up() -> None:
    """No threads, because the processes that we start use all cores, and no messages about pictures, because
    ours name the file and the remedy."""
    cv2.setNumThreads(0)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
