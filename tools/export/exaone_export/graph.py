"""Collects nodes, weights, inputs and outputs into an ONNX model whose weights lie in one external file."""

import numpy as np
import onnx
from onnx import TensorProto, helper

from .shape import ModelShape
from .weights import Layout, Region

WEIGHTS_FILE = "model.onnx.data"
OPSET = 21
IR_VERSION = 10
CONTRIB = "com.microsoft"


class Graph:
    """A graph under construction; blocks append to it, an architecture file calls the blocks."""

    def __init__(self, shape: ModelShape, layout: Layout):
        self.shape = shape
        self.layout = layout
        self.float_type = helper.np_dtype_to_tensor_dtype(layout.numerics.float_type)
        self.kv_type = helper.np_dtype_to_tensor_dtype(layout.numerics.kv_type)
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def node(self, op: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes) -> str:
        """Appends a node named after its first output; returns that output."""
        self._nodes.append(helper.make_node(op, inputs, outputs, name=outputs[0], domain=domain, **attributes))
        return outputs[0]

    def input(self, name: str, dtype: int, dims: list[int | str]) -> str:
        """Declares a graph input; a string is a dimension free to vary."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, dims))
        return name

    def output(self, name: str, dtype: int, dims: list[int | str]) -> str:
        """Declares a graph output."""
        self._outputs.append(helper.make_tensor_value_info(name, dtype, dims))
        return name

    def stored(self, name: str, dtype: int, dims: tuple[int, ...], region: Region) -> str:
        """An initializer whose bytes are `region` of the external file."""
        tensor = TensorProto(name=name, data_type=dtype, dims=dims, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", WEIGHTS_FILE), ("offset", region.offset), ("length", region.length)):
            tensor.external_data.add(key=key, value=str(value))
        self._initializers[name] = tensor
        return name

    def constant(self, name: str, values: np.ndarray) -> str:
        """A small initializer kept inside the model file, such as a shape."""
        self._initializers[name] = onnx.numpy_helper.from_array(values, name)
        return name

    def model(self, producer_version: str) -> onnx.ModelProto:
        """The finished model."""
        graph = helper.make_graph(self._nodes, self.shape.architecture, self._inputs, self._outputs, list(self._initializers.values()))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="exaone_export", producer_version=producer_version
        )
