"""Drop-in faces: the names, arguments and numbers of other projects' pyramids, computed by lapcore.

Each module is imported when it is asked for: `from lapcore.compat import cv2` (or kornia, lptn, pyrtools, rife, rvm). None of
them imports the library whose face it wears.
"""
