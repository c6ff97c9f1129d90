//! Builds an ONNX graph the way one writes a formula: every operation takes values and gives a value.
//!
//! In: weights and operations in the order of computation. Out: the bytes of a `.onnx` file, opset 20, weights inside (protobuf's limit is 2 GB).

use prost::Message as _;

use super::onnx::{
    AttributeProto, AttributeType, DataType, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto,
};

/// The newest opset whose operators ONNX Runtime 1.17 and later all have; `Gelu` came with it.
const OPSET: i64 = 20;
/// The file layout that goes with it.
const IR_VERSION: i64 = 10;

/// A tensor of the graph, by name.
#[derive(Clone, Debug)]
pub(super) struct Value(String);

/// A dimension of an input or output.
#[derive(Clone, Copy)]
pub(super) enum Dim {
    /// Known now.
    Fixed(usize),
    /// Known when it runs; the same name means the same number.
    Free(&'static str),
}

/// A constant setting of an operation.
pub(super) enum Attr {
    Int(&'static str, i64),
    Ints(&'static str, Vec<i64>),
    Float(&'static str, f32),
}

/// A graph under construction.
#[derive(Default)]
pub(super) struct Graph {
    proto: GraphProto,
}

impl Graph {
    /// An input of whole numbers (int64).
    pub(super) fn input(&mut self, name: &str, dims: &[Dim]) -> Value {
        self.proto.input.push(value_info(name, DataType::Int64, dims));
        Value(name.to_owned())
    }

    /// Declares `value` an output of real numbers (float32) called `name`.
    pub(super) fn output(&mut self, name: &str, value: Value, dims: &[Dim]) {
        self.push("Identity", &[value], vec![name.to_owned()], Vec::new());
        self.proto.output.push(value_info(name, DataType::Float, dims));
    }

    /// A weight, row-major.
    pub(super) fn weight(&mut self, name: &str, dims: &[usize], numbers: &[f32]) -> Value {
        self.tensor(name, dims, DataType::Float, numbers.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    /// One real number.
    pub(super) fn scalar(&mut self, name: &str, number: f32) -> Value {
        self.weight(name, &[], &[number])
    }

    /// A list of whole numbers: axes, shapes.
    pub(super) fn ints(&mut self, name: &str, numbers: &[i64]) -> Value {
        self.tensor(name, &[numbers.len()], DataType::Int64, numbers.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    /// One operation with one result.
    pub(super) fn op(&mut self, kind: &str, inputs: &[&Value], attributes: Vec<Attr>) -> Value {
        let name = self.fresh(kind);
        let inputs: Vec<Value> = inputs.iter().map(|value| (*value).clone()).collect();
        self.push(kind, &inputs, vec![name.clone()], attributes);
        Value(name)
    }

    /// Cuts `value` into `N` equal parts along its last axis.
    pub(super) fn split<const N: usize>(&mut self, value: &Value) -> [Value; N] {
        let name = self.fresh("Split");
        let parts: [String; N] = std::array::from_fn(|part| format!("{name}.{part}"));
        self.push("Split", std::slice::from_ref(value), parts.to_vec(), vec![Attr::Int("axis", -1), Attr::Int("num_outputs", N as i64)]);
        parts.map(Value)
    }

    /// The file.
    pub(super) fn into_bytes(self, name: &str, producer_version: &str) -> Vec<u8> {
        let model = ModelProto {
            ir_version: Some(IR_VERSION),
            producer_name: Some("inkling".to_owned()),
            producer_version: Some(producer_version.to_owned()),
            graph: Some(GraphProto { name: Some(name.to_owned()), ..self.proto }),
            opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) }],
        };
        model.encode_to_vec()
    }

    fn fresh(&self, kind: &str) -> String {
        format!("{kind}_{}", self.proto.node.len())
    }

    fn push(&mut self, kind: &str, inputs: &[Value], output: Vec<String>, attributes: Vec<Attr>) {
        self.proto.node.push(NodeProto {
            input: inputs.iter().map(|value| value.0.clone()).collect(),
            name: output.first().cloned(),
            output,
            op_type: Some(kind.to_owned()),
            attribute: attributes.into_iter().map(attribute).collect(),
        });
    }

    fn tensor(&mut self, name: &str, dims: &[usize], kind: DataType, raw: Vec<u8>) -> Value {
        self.proto.initializer.push(TensorProto {
            dims: dims.iter().map(|dim| *dim as i64).collect(),
            data_type: Some(kind.into()),
            name: Some(name.to_owned()),
            raw_data: Some(raw),
        });
        Value(name.to_owned())
    }
}

/// A weight's name, shape and numbers.
pub(super) type Weight = (String, Vec<i64>, Vec<f32>);

/// The float tensors in a `.onnx` file that [`Graph::into_bytes`] made.
pub(super) fn weights(file: &[u8]) -> Result<Vec<Weight>, prost::DecodeError> {
    let tensors = ModelProto::decode(file)?.graph.unwrap_or_default().initializer;
    let floats = tensors.into_iter().filter(|tensor| tensor.data_type() == DataType::Float && !tensor.dims.is_empty());
    let read = floats.map(|tensor| {
        let numbers = tensor.raw_data().chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect();
        (tensor.name.unwrap_or_default(), tensor.dims, numbers)
    });
    Ok(read.collect())
}

fn attribute(attr: Attr) -> AttributeProto {
    match attr {
        Attr::Int(name, i) => AttributeProto { name: Some(name.to_owned()), i: Some(i), r#type: Some(AttributeType::Int.into()), ..Default::default() },
        Attr::Ints(name, ints) => AttributeProto { name: Some(name.to_owned()), ints, r#type: Some(AttributeType::Ints.into()), ..Default::default() },
        Attr::Float(name, f) => AttributeProto { name: Some(name.to_owned()), f: Some(f), r#type: Some(AttributeType::Float.into()), ..Default::default() },
    }
}

fn value_info(name: &str, kind: DataType, dims: &[Dim]) -> ValueInfoProto {
    let dim = dims
        .iter()
        .map(|dim| match dim {
            Dim::Fixed(size) => DimensionProto { dim_value: Some(*size as i64), dim_param: None },
            Dim::Free(name) => DimensionProto { dim_value: None, dim_param: Some((*name).to_owned()) },
        })
        .collect();
    let tensor = TensorTypeProto { elem_type: Some(kind.into()), shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}
