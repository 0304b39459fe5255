"""Small files that FFmpeg spends minutes, gigabytes, sockets or other people's files on."""

from __future__ import annotations

import struct
import zlib


def au(rate: int, channels: int = 1, samples: bytes = bytes(128)) -> bytes:
    """A file of Sun's format: a rate of 0x62003E80 asks for a resampling filter of 1.7 GB."""
    return struct.pack(">4sIIIII", b".snd", 24, len(samples), 3, rate, channels) + samples


def mp4(samples: int) -> bytes:
    """Less than 600 bytes that declare so many samples, of which FFmpeg keeps an index of 24 bytes each."""
    entry = box(b"mp4a", bytes(6) + b"\0\1" + bytes(8) + struct.pack(">HHIHH", 1, 16, 0, 16_000, 0))
    table = box(
        b"stbl",
        box(b"stsd", bytes(4) + struct.pack(">I", 1) + entry)
        + box(b"stts", bytes(4) + struct.pack(">III", 1, samples, 1024))
        + box(b"stsc", bytes(4) + struct.pack(">IIII", 1, 1, samples, 1))
        + box(b"stsz", bytes(4) + struct.pack(">II", 1, samples))
        + box(b"stco", bytes(4) + struct.pack(">II", 1, 48)),
    )
    header = box(b"mdhd", bytes(12) + struct.pack(">II", 16_000, 16_000) + bytes(4))
    handler = box(b"hdlr", bytes(8) + b"soun" + bytes(13))
    media = box(b"mdia", header + handler + box(b"minf", table))
    track = box(b"trak", box(b"tkhd", b"\0\0\0\7" + bytes(80)) + media)
    whole = box(b"mvhd", bytes(12) + struct.pack(">II", 1000, 1000) + bytes(80))
    return box(b"ftyp", b"isom" + bytes(4)) + box(b"mdat", bytes(32)) + box(b"moov", whole + track)


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def png(width: int = 20_000, height: int = 20_000) -> bytes:
    """A picture that is large once it is decoded."""
    row = b"\0" + bytes(3 * 64)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + _chunk(b"IDAT", zlib.compress(row * 64))
        + _chunk(b"IEND", b"")
    )


def with_cover(mp3: bytes, picture: bytes) -> bytes:
    """A recording with a picture in its ID3 tag."""
    content = b"\0image/png\0\3\0" + picture
    frame = b"APIC" + struct.pack(">IH", len(content), 0) + content
    size = len(frame)
    sizes = bytes((size >> shift) & 127 for shift in (21, 14, 7, 0))
    return b"ID3\3\0\0" + sizes + frame + mp3


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


CONCAT = b"ffconcat version 1.0\nfile '%s'\n"
"""A playlist: the sound of another file."""

HLS = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:%d/a.ts\n#EXT-X-ENDLIST\n"


def sdp(ports: int = 1) -> bytes:
    """A session of so many streams: FFmpeg opens two sockets for each, and waits for what comes."""
    lines = ["v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=x", "c=IN IP4 127.0.0.1", "t=0 0"]
    lines += [f"m=audio {40_000 + 2 * number} RTP/AVP 0" for number in range(ports)]
    return "\r\n".join([*lines, ""]).encode()
