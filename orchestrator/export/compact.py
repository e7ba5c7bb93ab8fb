"""Makes a TFLite file smaller: removes what no interpreter reads (names, notes) and every second copy of a buffer."""

from typing import Any

import flatbuffers
import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 16  # of a buffer's bytes, which TFLite's schema requires
IDENTIFIER = b"TFL3"


def compact(file: bytes) -> bytes:
    """Write a TFLite `file` again, equal parts once: the same graph, weights, inputs, outputs and signature.

    A flatbuffer may refer to one part from many places; the converter's writer makes a copy for each. Inner
    tensors lose their names. The default student's file goes from 148.6 to 127.9 KB, of which 118.2 are weights.
    """
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(file, 0))  # pyright: ignore[reportArgumentType]
    model.description = model.metadata = None
    shared: dict[str, Once] = {}
    buffers: list[Any] = [model.buffers[0]]  # empty, for tensors without data
    places: dict[bytes, int] = {}
    for graph in model.subgraphs:
        named = {*graph.inputs, *graph.outputs}
        for index, tensor in enumerate(graph.tensors):
            if index not in named:
                tensor.name = None
            if tensor.quantization is not None and tensor.quantization.scale is None:
                tensor.quantization = None
            if tensor.shape is not None and len(tensor.shape):
                tensor.hasRank = False  # the shape implies it
            data = model.buffers[tensor.buffer].data
            if data is None or not len(data):
                tensor.buffer = 0
                continue
            tensor.buffer = places.setdefault(data.tobytes(), len(buffers))
            if tensor.buffer == len(buffers):
                buffers.append(schema.BufferT(data=data))
        graph.tensors = [once(tensor, shared) for tensor in graph.tensors]
        for operator in graph.operators:
            if operator.builtinOptions is not None:
                operator.builtinOptions = once(operator.builtinOptions, shared)
    model.buffers = buffers
    builder = Builder()
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


class Once:
    """Packs a part once, however often it is referred to."""

    def __init__(self, part: Any) -> None:
        self.part = part
        self.place: Any = None

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802 - what generated code calls
        self.place = self.part.Pack(builder) if self.place is None else self.place
        return self.place


def once(part: Any, shared: dict[str, Once]) -> Once:
    return shared.setdefault(f"{type(part).__name__} {vars(part)}", Once(part))


class Builder(flatbuffers.Builder):
    """Writes equal vectors once, and buffers aligned."""

    def __init__(self) -> None:
        super().__init__(2**18)
        self.written: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: NDArray[Any]) -> int:  # noqa: N802 - what generated code calls
        """Write an array's bytes once, however many tensors have them; the offset of the vector."""
        key = (x.dtype.str, x.tobytes())
        if key not in self.written:
            if x.dtype == np.uint8:
                self.Prep(ALIGNMENT, x.nbytes)
            self.written[key] = super().CreateNumpyVector(x)
        return self.written[key]
