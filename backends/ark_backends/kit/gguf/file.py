"""The parts of a GGUF file. This module is light: it needs nothing but the standard library.

Every number in a file is checked before it is used, because files are cut, damaged, or made to harm.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal, cast

from ark.config import ConfigError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DIMENSIONS = 4
LONGEST_KEY = 1 << 16
LONGEST_TEXT = 1 << 26
MOST_TEXTS = 1 << 22
"""Of an array: each takes more memory than it has bytes. Vocabularies have a quarter of a million."""
MOST_TENSORS = 1 << 18

NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Types of values, as `struct` writes them."""
TEXT, ARRAY = 8, 9

TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    20: ("IQ4_NL", 32, 18),
    23: ("IQ4_XS", 256, 136),
    30: ("BF16", 1, 2),
}
"""Types of tensors that are read: the name, weights in a block, and bytes of a block."""

EXACT = frozenset({"Q8_0", "Q4_0", "Q5_0", "IQ4_NL"})
"""Types whose blocks are 32 whole numbers and a scale: in int8 they stay what they are."""

SPLIT = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")


@dataclass(frozen=True)
class StoredTensor:
    """A tensor where it lies in a file."""

    name: str
    kind: str
    shape: tuple[int, ...]
    """As torch has it: the last dimension is the one whose numbers lie together."""
    data: memoryview

    @property
    def row_bytes(self) -> int:
        """Of numbers that lie together in the last dimension."""
        return len(self.data) // prod(self.shape[:-1])


class GGUF:
    """A model's file, or all of its parts where it is split."""

    def __init__(self, path: Path) -> None:
        """Map the file and read all but its weights. Raises ConfigError for one that is not whole and right."""
        self.path = path
        self.metadata: Mapping[str, Any] = {}
        self.tensors: dict[str, StoredTensor] = {}
        for number, part in enumerate(parts(path)):
            metadata, tensors = _Reader(part).read()
            if number == 0:
                self.metadata = metadata
            if both := self.tensors.keys() & tensors.keys():
                raise ConfigError(f"{part}: the tensor {min(both)} is in two parts of the model")
            self.tensors.update(tensors)
        expected = self.metadata.get("split.tensors.count")
        if isinstance(expected, int) and expected != len(self.tensors):
            raise ConfigError(f"{path}: the parts have {len(self.tensors)} of {expected} tensors")

    @property
    def weights_bytes(self) -> int:
        return sum(len(tensor.data) for tensor in self.tensors.values())


def parts(path: Path) -> list[Path]:
    """All files of a model of which `path` is the only one, or one of several. Raises ConfigError for one missing."""
    match = SPLIT.fullmatch(path.name)
    if match is None:
        return [path]
    count = int(match[3])
    found = [path.with_name(f"{match[1]}-{number:05}-of-{match[3]}.gguf") for number in range(1, count + 1)]
    missing = [part for part in found if not part.is_file()]
    if missing:
        raise ConfigError(f"{path} is a part of a model, and {missing[0].name} is not there")
    return found


class _Reader:
    """Reads a file from its beginning."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with path.open("rb") as file:
                self._data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError) as error:  # an empty file cannot be mapped
            raise ConfigError(f"{path} cannot be read: {error}") from error
        self._place = 0

    def read(self) -> tuple[dict[str, Any], dict[str, StoredTensor]]:
        try:
            return self._read()
        except (struct.error, UnicodeDecodeError) as error:
            raise self._wrong("it ends in the middle, or a number in it is wrong") from error

    def _read(self) -> tuple[dict[str, Any], dict[str, StoredTensor]]:
        if bytes(self._data[:4]) != MAGIC:
            raise self._wrong("it does not begin as one")
        self._place = 4
        version = self._number("I")
        if version not in VERSIONS:
            raise self._wrong(f"its version is {version}, and not 2 or 3 in the usual order of bytes")
        tensor_count, value_count = self._number("Q"), self._number("Q")
        if tensor_count > MOST_TENSORS:
            raise self._wrong(f"it says that it has {tensor_count} tensors")
        metadata: dict[str, Any] = {}
        # Each takes some bytes, so wrong counts end with the file.
        for _ in range(value_count):
            key = self._text(LONGEST_KEY)
            if key in metadata:
                raise self._wrong(f"it has {key!r} twice")
            metadata[key] = self._value(self._number("I"))
        found = [self._tensor() for _ in range(tensor_count)]
        alignment = metadata.get("general.alignment", 32)
        if not (isinstance(alignment, int) and alignment > 0 and alignment % 8 == 0):
            raise self._wrong(f"its alignment is {alignment!r}")
        start = -(-self._place // alignment) * alignment
        tensors: dict[str, StoredTensor] = {}
        for name, kind, shape, offset, size in found:
            begin = start + offset
            if offset % alignment or begin + size > len(self._data):
                raise self._wrong(f"the tensor {name} lies outside of it, which may be cut")
            if name in tensors:
                raise self._wrong(f"it has the tensor {name} twice")
            tensors[name] = StoredTensor(name, kind, shape, self._data[begin : begin + size])
        return metadata, tensors

    def _tensor(self) -> tuple[str, str, tuple[int, ...], int, int]:
        name = self._text(LONGEST_KEY)
        dimensions = self._number("I")
        if not 1 <= dimensions <= DIMENSIONS:
            raise self._wrong(f"the tensor {name} has {dimensions} dimensions")
        shape = tuple(self._number("Q") for _ in range(dimensions))
        number, offset = self._number("I"), self._number("Q")
        if number not in TYPES:
            raise ConfigError(f"{self._path}: the tensor {name} is of type {number}, which ARK does not read")
        kind, block, size = TYPES[number]
        if 0 in shape or shape[0] % block:
            raise self._wrong(f"the tensor {name} has the shape {shape}")
        return name, kind, shape[::-1], offset, prod(shape) // block * size

    def _value(self, kind: int) -> Any:
        if kind == TEXT:
            return self._text(LONGEST_TEXT)
        if kind == ARRAY:
            inner, count = self._number("I"), self._number("Q")
            if inner == TEXT:
                if count > MOST_TEXTS:
                    raise self._wrong(f"it has an array of {count} texts")
                return self._texts(count)
            if inner not in NUMBERS:
                raise self._wrong(f"it has an array of type {inner}")
            size = struct.calcsize(NUMBERS[inner]) * count
            self._need(size)
            begin = self._place
            self._place += size
            # Not as a list, which takes many times the memory.
            return self._data[begin : self._place].cast(cast(Literal["B"], NUMBERS[inner]))
        if kind not in NUMBERS:
            raise self._wrong(f"it has a value of type {kind}")
        return self._number(NUMBERS[kind])

    def _number(self, form: str) -> Any:
        (value,) = struct.unpack_from(f"<{form}", self._data, self._place)
        self._place += struct.calcsize(form)
        return value

    def _text(self, longest: int) -> str:
        (length,) = struct.unpack_from("<Q", self._data, self._place)
        if length > longest:
            raise self._wrong(f"it has a text of {length} bytes")
        self._place += 8
        self._need(length)
        begin = self._place
        self._place = begin + length
        # Some vocabularies have tokens that are no text.
        return str(self._data[begin : self._place], "utf-8", "replace")

    def _texts(self, count: int) -> list[str]:
        """So many. Vocabularies have hundreds of thousands: this is written for speed."""
        data, place, end, length_at = self._data, self._place, len(self._data), struct.Struct("<Q").unpack_from
        found: list[str] = []
        for _ in range(count):
            begin = place + 8
            place = begin + length_at(data, place)[0]
            if place > min(end, begin + LONGEST_TEXT):
                raise self._wrong("it is cut, or a number in it is wrong")
            found.append(str(data[begin:place], "utf-8", "replace"))
        self._place = place
        return found

    def _need(self, size: int) -> None:
        if size > len(self._data) - self._place:
            raise self._wrong("it is cut, or a number in it is wrong")

    def _wrong(self, what: str) -> ConfigError:
        return ConfigError(f"{self._path} is not a whole GGUF file: {what}")
