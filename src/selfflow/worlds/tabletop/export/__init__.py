"""Tabletop on disk: pictures, mp4 with sound, wav, image folders, WebDataset shards and LeRobot data sets."""

from .folder import write_folder
from .lerobot import Episode, write_lerobot
from .shards import write_shards
from .video import read_mp4, read_wav, write_mp4, write_wav

__all__ = ["Episode", "read_mp4", "read_wav", "write_folder", "write_lerobot", "write_mp4", "write_shards", "write_wav"]
