"""What a pickle says, without an unpickler. Its instructions are read one by one, as `pickletools` lists them. Those
that build dictionaries, lists, texts, numbers and arrays of bytes are followed; whatever else stands there is refused.

Names that pickles of arrays look up lead to no library: they are held against a table, and stand for what is done here.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from normbench.lab.data._source import DataError

#: Most bytes of a file. The largest of CIFAR, the training images of CIFAR-100, has 155 MB.
_MOST = 2**28
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBERS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
_TEXTS = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_BYTES = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
#: Texts of Python 2: bytes.
_OLD_TEXTS = {"STRING", "BINSTRING", "SHORT_BINSTRING"}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_PUT = {"PUT", "BINPUT", "LONG_BINPUT"}
_GET = {"GET", "BINGET", "LONG_BINGET"}
#: Instructions that take what was put down after the last mark.
_MARKED = {"TUPLE", "LIST", "DICT", "APPENDS", "SETITEMS"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_NAMES = {
    "numpy ndarray": "array",
    "numpy dtype": "type",
    "numpy.core.multiarray _reconstruct": "new array",
    "numpy._core.multiarray _reconstruct": "new array",
    "_codecs encode": "bytes",  # as Python 3 writes bytes for Python 2
}


@dataclass(frozen=True)
class _Name:
    """What a pickle has looked up."""

    does: str


@dataclass(frozen=True)
class _Type:
    text: Any


@dataclass
class _Array:
    """An array as a pickle gives it: its state is numpy's."""

    state: Any = None


def plain(path: Path) -> dict[str, Any]:
    """The dictionary that a pickle holds: keys as texts, arrays as arrays of uint8. Raises `DataError`."""
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= _MOST else b""
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    if size > _MOST:
        raise DataError(f"{path} has {size:,} bytes; at most {_MOST:,} are read")
    try:
        found = _followed(content)
        if not isinstance(found, dict):
            raise TypeError(f"it holds a {type(found).__name__}, expected a dictionary")
        return {_text(key): _finished(value) for key, value in found.items()}
    except Exception as error:  # instructions may be in any order, and fail in as many ways
        said = " ".join(str(error).split())[:200]
        raise DataError(f"{path} is no pickle of plain arrays, lists and texts, and is not read: {said}") from error


def _followed(content: bytes) -> Any:
    """The value that the instructions build. Raises whatever they meet."""
    stacks: list[list[Any]] = [[]]  # a mark begins another one
    memory: dict[Any, Any] = {}
    for code, argument, _ in pickletools.genops(content):
        name, stack = code.name, stacks[-1]
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _NUMBERS | _TEXTS | _BYTES:
            stack.append(argument)
        elif name in _OLD_TEXTS:
            stack.append(str(argument).encode("latin-1"))
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _PUT or name == "MEMOIZE":
            memory[len(memory) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in _GET:
            stack.append(memory[argument])
        elif name == "STOP":
            return stack.pop()
        elif name not in {"PROTO", "FRAME"}:
            _combine(name, argument, stacks)
    raise ValueError("it does not end")


def _combine(name: str, argument: Any, stacks: list[list[Any]]) -> None:
    """Instructions that work on what was built before."""
    held = stacks.pop() if name in _MARKED else []
    stack = stacks[-1]
    if name == "MARK":
        stacks.append([])
    elif name == "TUPLE":
        stack.append(tuple(held))
    elif name in _TUPLES:
        stack.append(tuple([stack.pop() for _ in range(_TUPLES[name])][::-1]))
    elif name == "LIST":
        stack.append(held)
    elif name == "DICT":
        stack.append(dict(zip(held[::2], held[1::2], strict=True)))
    elif name in {"APPEND", "APPENDS"}:
        held = held if name == "APPENDS" else [stack.pop()]
        _expect(stack[-1], list).extend(held)
    elif name in {"SETITEM", "SETITEMS"}:
        held = held if name == "SETITEMS" else [stack.pop(), stack.pop()][::-1]
        _expect(stack[-1], dict).update(zip(held[::2], held[1::2], strict=True))
    elif name in {"GLOBAL", "STACK_GLOBAL"}:
        asked = argument if name == "GLOBAL" else " ".join([stack.pop(), stack.pop()][::-1])
        if asked not in _NAMES:
            raise ValueError(f"it asks for {str(asked).replace(' ', '.')}")
        stack.append(_Name(_NAMES[asked]))
    elif name == "REDUCE":
        given, does = _expect(stack.pop(), tuple), _expect(stack.pop(), _Name).does
        stack.append(_made(does, given))
    elif name == "BUILD":
        state = stack.pop()
        if isinstance(stack[-1], _Array):
            stack[-1].state = state
        else:  # of a type, the state is its byte order, which bytes do not have
            _expect(stack[-1], _Type)
    else:
        raise ValueError(f"it has the instruction {name}")


def _made(does: str, given: tuple[Any, ...]) -> Any:
    if does == "bytes":
        return _expect(given[0], str).encode("latin-1")
    if does == "type":
        return _Type(given[0])
    if does == "new array":
        return _Array()
    raise ValueError(f"it calls what stands for {does}")


def _expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__} stands where a {kind.__name__} was expected")
    return value


def _text(key: Any) -> str:
    return key.decode("ascii") if isinstance(key, bytes) else str(_expect(key, str))


def _finished(value: Any) -> Any:
    return _array(value) if isinstance(value, _Array) else value


def _array(held: _Array) -> npt.NDArray[np.uint8]:
    _, shape, kind, columns_first, content = _expect(held.state, tuple)
    text = _text(_expect(kind, _Type).text)
    if text not in {"u1", "|u1", "uint8"} or columns_first:
        raise ValueError(f"an array of type {text:.20}, expected uint8 in C's order")
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("an array without a shape")
    if not isinstance(content, bytes) or len(content) != prod(shape):
        raise ValueError(f"an array of shape {shape} with other bytes than it declares")
    return np.frombuffer(content, np.uint8).reshape(shape)
