"""Picture files: videos, TIFF and PNG."""

from fractions import Fraction

import av
import cv2
import numpy as np

from swinsf.datasets.picture_files import read_levels

VIDEOS = (".mp4", ".avi", ".gif")
TIFF = (".tif", ".tiff")
FORMATS = (*VIDEOS, ".npy", *TIFF, ".png")
MOST_TIFF = 2**32 - 2**25  # bytes of pictures that a TIFF with 32-bit offsets holds


def encode(path, pictures, fps, size):
    """Write an iterable of pictures (H, W) as a file; its suffix sets the type. size: bytes of all
    pictures."""
    if path.suffix in TIFF:
        import tifffile  # slow to import

        with tifffile.TiffWriter(path, bigtiff=size > MOST_TIFF) as file:
            for picture in pictures:  # of any type, one a page
                file.write(picture, photometric="minisblack", contiguous=True)
    elif path.suffix == ".png":
        (picture,) = pictures
        path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    else:
        encode_video(path, pictures, fps)


def decode(path):
    """Yields the pictures (H, W) of a file that `encode` wrote, in order; those of a video as uint8."""
    kind = path.suffix.lower()
    if kind in TIFF:
        import tifffile

        with tifffile.TiffFile(path) as file:
            yield from (page.asarray() for page in file.pages)
    elif kind == ".png":
        yield read_levels(path)
    else:
        yield from decode_video(path)


def decode_video(path):
    """Yields the pictures of a video, uint8 (H, W)."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="gray")


def encode_video(path, pictures, fps):
    """Write uint8 pictures (H, W) as a video: H.264 in `.mp4`, which browsers play; Motion JPEG in `.avi`,
    which they do not; or a `.gif`, which keeps all grey levels.

    An odd side is made even by repeating its last row or column, since colour is stored for 2x2 pixels.
    """
    codec, pixels, options = {
        ".mp4": ("libx264", "yuv420p", {"crf": "16"}),
        ".avi": ("mjpeg", "yuvj420p", {"qmin": "1", "qmax": "1"}),
        ".gif": ("gif", "gray", {}),
    }[path.suffix]
    rate, muxer = Fraction(fps).limit_denominator(min(1001, int(2e9 / fps))), {}  # in 32 bits
    if path.suffix == ".mp4":
        # Players stop at the end that the edit list gives, by default in milliseconds.
        muxer = {"movflags": "faststart", "movie_timescale": str(max(1000, rate.numerator))}
    with av.open(str(path), "w", options=muxer) as container:
        stream = None
        for picture in pictures:
            height, width = picture.shape
            if path.suffix != ".gif":
                picture = np.pad(picture, ((0, height % 2), (0, width % 2)), mode="edge")
            if stream is None:
                stream = container.add_stream(codec, rate)
                stream.height, stream.width = picture.shape
                stream.pix_fmt, stream.options = pixels, options
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="gray")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
