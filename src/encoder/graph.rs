//! Builds an ONNX graph the way one writes a formula: every operation takes values and gives a value.
//!
//! In: weights and operations in the order of computation. Out: the bytes of a `.onnx` file, opset 20, weights inside (protobuf's limit is 2 GB).

use std::collections::HashSet;

use prost::Message as _;

use super::onnx::{
    AttributeProto, AttributeType, DataType, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto,
};

/// The newest opset whose operators ONNX Runtime 1.17 and later all have; `Gelu` came with it.
const OPSET: i64 = 20;
/// The file layout that goes with it.
const IR_VERSION: i64 = 10;

/// Operators of ONNX Runtime's own.
const RUNTIME: &str = "com.microsoft";

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

    /// An input of real numbers (float32).
    pub(super) fn real_input(&mut self, name: &str, dims: &[Dim]) -> Value {
        self.proto.input.push(value_info(name, DataType::Float, dims));
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

    /// A weight in 8 bits, row-major.
    pub(super) fn weight_i8(&mut self, name: &str, dims: &[usize], numbers: &[i8]) -> Value {
        self.tensor(name, dims, DataType::Int8, numbers.iter().map(|x| x.cast_unsigned()).collect())
    }

    /// One byte: a zero point.
    pub(super) fn byte(&mut self, name: &str, byte: u8) -> Value {
        self.tensor(name, &[], DataType::Uint8, vec![byte])
    }

    /// `byte` as often as the one number in `count` says.
    pub(super) fn bytes(&mut self, name: &str, byte: u8, count: &Value) -> Value {
        let one = self.tensor(name, &[1], DataType::Uint8, vec![byte]);
        self.op("Expand", &[&one, count], Vec::new())
    }

    /// One operation with one result.
    pub(super) fn op(&mut self, kind: &str, inputs: &[&Value], attributes: Vec<Attr>) -> Value {
        let name = self.fresh(kind);
        let inputs: Vec<Value> = inputs.iter().map(|value| (*value).clone()).collect();
        self.push(kind, &inputs, vec![name.clone()], attributes);
        Value(name)
    }

    /// One operation of ONNX Runtime's own, with one result.
    pub(super) fn runtime_op(&mut self, kind: &str, inputs: &[&Value], attributes: Vec<Attr>) -> Value {
        let value = self.op(kind, inputs, attributes);
        if let Some(node) = self.proto.node.last_mut() {
            node.domain = Some(RUNTIME.to_owned());
        }
        value
    }

    /// Cuts `value` in two along its last axis, `sizes` wide.
    pub(super) fn cut(&mut self, value: &Value, sizes: &Value) -> [Value; 2] {
        let name = self.fresh("Split");
        let parts: [String; 2] = std::array::from_fn(|part| format!("{name}.{part}"));
        self.push("Split", &[value.clone(), sizes.clone()], parts.to_vec(), vec![Attr::Int("axis", -1)]);
        parts.map(Value)
    }

    /// Cuts `value` into `N` equal parts along its last axis.
    pub(super) fn split<const N: usize>(&mut self, value: &Value) -> [Value; N] {
        let name = self.fresh("Split");
        let parts: [String; N] = std::array::from_fn(|part| format!("{name}.{part}"));
        self.push("Split", std::slice::from_ref(value), parts.to_vec(), vec![Attr::Int("axis", -1), Attr::Int("num_outputs", N as i64)]);
        parts.map(Value)
    }

    /// The file, without weights that nothing reads.
    pub(super) fn into_bytes(mut self, name: &str, producer_version: &str) -> Vec<u8> {
        let read: HashSet<&str> = self.proto.node.iter().flat_map(|node| node.input.iter().map(String::as_str)).collect();
        self.proto.initializer.retain(|weight| read.contains(weight.name()));
        let mut opsets = vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) }];
        if self.proto.node.iter().any(|node| node.domain() == RUNTIME) {
            opsets.push(OperatorSetIdProto { domain: Some(RUNTIME.to_owned()), version: Some(1) });
        }
        let model = ModelProto {
            ir_version: Some(IR_VERSION),
            producer_name: Some("inkling".to_owned()),
            producer_version: Some(producer_version.to_owned()),
            graph: Some(GraphProto { name: Some(name.to_owned()), ..self.proto }),
            opset_import: opsets,
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
            domain: None,
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
pub(super) type Weight = (String, Vec<i64>, Numbers);

/// A weight's numbers, row-major.
pub(super) enum Numbers {
    Float(Vec<f32>),
    Signed(Vec<i8>),
    Unsigned(Vec<u8>),
}

/// The weights inside of a `.onnx` file that [`Graph::into_bytes`] made.
pub(super) fn weights(file: &[u8]) -> Result<Vec<Weight>, prost::DecodeError> {
    let tensors = ModelProto::decode(file)?.graph.unwrap_or_default().initializer;
    let read = tensors.into_iter().filter(|tensor| !tensor.dims.is_empty()).filter_map(|tensor| {
        let kind = tensor.data_type();
        let raw = tensor.raw_data?;
        let numbers = match kind {
            DataType::Float => Numbers::Float(raw.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
            DataType::Int8 => Numbers::Signed(raw.into_iter().map(u8::cast_signed).collect()),
            DataType::Uint8 => Numbers::Unsigned(raw),
            DataType::Int64 | DataType::Float16 | DataType::Undefined => return None,
        };
        Some((tensor.name.unwrap_or_default(), tensor.dims, numbers))
    });
    Ok(read.collect())
}

/// The same `.onnx` file with the weights of integer products as uint8 around 128 in place of int8 around 0: the same whole numbers come out.
pub(super) fn with_unsigned_products(file: &[u8]) -> Result<Vec<u8>, prost::DecodeError> {
    const ZERO: &str = "unsigned_zero";
    let mut model = ModelProto::decode(file)?;
    let graph = model.graph.get_or_insert_default();
    let mut products = Vec::new();
    for node in graph.node.iter_mut().filter(|node| ["MatMulInteger", "MatMulIntegerToFloat"].contains(&node.op_type())) {
        // Of both the weights come second and their zero point last.
        products.extend(node.input.get(1).cloned());
        node.input.push(ZERO.to_owned());
    }
    for tensor in &mut graph.initializer {
        if tensor.data_type() == DataType::Int8 && products.iter().any(|name| name == tensor.name()) {
            tensor.data_type = Some(DataType::Uint8.into());
            tensor.raw_data.iter_mut().flatten().for_each(|byte| *byte ^= 0x80); // + 128
        }
    }
    graph.initializer.push(TensorProto {
        data_type: Some(DataType::Uint8.into()),
        name: Some(ZERO.to_owned()),
        raw_data: Some(vec![128]),
        ..Default::default()
    });
    Ok(model.encode_to_vec())
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
