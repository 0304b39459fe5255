"""What the server and the program that decodes recordings say to each other.

The server tells what is wanted (`JOB`: the size of the file, as `SIZE`). The child then asks and tells, and waits for
an answer each time:

=========  ========================================  ====================================================
it sends   with                                      the server answers
=========  ========================================  ====================================================
`READ`     an offset and a number of bytes: `RANGE`  `DATA`, with fewer bytes at the file's end, or `STOP`
`SAMPLES`  16-bit samples at 16 kHz, mono            `GO` or `STOP`
`END`      the name of what is wrong, or nothing     nothing: it waits for the next job
=========  ========================================  ====================================================

The server opens no file for the child: all that FFmpeg ever sees of the machine are these bytes.
"""

from __future__ import annotations

import struct

SAMPLE_RATE = 16_000

JOB, DATA, GO, STOP = b"J", b"D", b"G", b"S"
READ, SAMPLES, END = b"R", b"P", b"E"
SIZE, RANGE = struct.Struct(">Q"), struct.Struct(">QI")

NOT_AUDIO, NO_TRACK, NOT_SPEECH, TOO_LARGE = b"not_audio", b"no_track", b"not_speech", b"too_large"

READ_SIZE = 1 << 18
"""Bytes of the file that are read at once."""

BLOCK_SIZE = 1 << 17
"""Bytes of samples in one message: four seconds."""
