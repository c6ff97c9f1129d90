//! An exported float32 graph as one that computes in float16: what a GPU's matrix units run twice as fast and more.
//!
//! In and out: the bytes of a `.onnx` file. Up to the last layer normalisation everything is float16 (ONNX Runtime's CUDA kernels sum layer
//! normalisation and softmax in float32 all the same); from there on, pooling and scaling to length 1, it stays float32, and so does `embedding`.

use std::collections::{HashMap, HashSet};

use half::f16;
use prost::Message as _;

use super::onnx::{AttributeProto, AttributeType, DataType, GraphProto, ModelProto, NodeProto, TensorProto};

/// Larger numbers become this: float16 ends at 65,504, and the score of padding, -1e9, would be -inf and 0 times it not a number.
const LARGEST: f32 = 60_000.0;

/// The float16 form of `file`. Fails where it is no graph with a layer normalisation.
pub(super) fn in_half(file: &[u8]) -> Result<Vec<u8>, String> {
    let mut model = ModelProto::decode(file).map_err(|error| error.to_string())?;
    let graph = model.graph.take().unwrap_or_default();
    model.graph = Some(halved(graph)?);
    Ok(model.encode_to_vec())
}

fn halved(graph: GraphProto) -> Result<GraphProto, String> {
    let last = graph.node.iter().rposition(|node| node.op_type() == "LayerNormalization").ok_or("the graph has no layer normalisation")?;
    let (body, tail) = graph.node.split_at(last + 1);
    let reads = |nodes: &[NodeProto]| nodes.iter().flat_map(|node| node.input.clone()).collect::<HashSet<String>>();
    let (read_by_body, read_by_tail) = (reads(body), reads(tail));

    let mut weights = Vec::with_capacity(graph.initializer.len());
    // Values that are real numbers, and whether in half.
    let mut real: HashMap<String, bool> = HashMap::new();
    for tensor in graph.initializer {
        if tensor.data_type() != DataType::Float {
            weights.push(tensor);
            continue;
        }
        let name = tensor.name().to_owned();
        if read_by_tail.contains(&name) {
            if read_by_body.contains(&name) {
                return Err(format!("{name} is read on both sides of the last layer normalisation"));
            }
            real.insert(name, false);
            weights.push(tensor);
        } else {
            real.insert(name, true);
            weights.push(half_weight(&tensor));
        }
    }

    let mut nodes = Nodes { real, cast: HashMap::new(), nodes: Vec::with_capacity(graph.node.len() + 4) };
    for (nodes_of_part, half) in [(body, true), (tail, false)] {
        for node in nodes_of_part {
            nodes.add(node.clone(), half);
        }
    }
    Ok(GraphProto { node: nodes.nodes, initializer: weights, ..graph })
}

struct Nodes {
    real: HashMap<String, bool>,
    cast: HashMap<(String, bool), String>,
    nodes: Vec<NodeProto>,
}

impl Nodes {
    /// Adds `node`, its real inputs in half or not.
    fn add(&mut self, mut node: NodeProto, half: bool) {
        let to_real = node.op_type() == "Cast" && node.attribute.iter().any(|attribute| attribute.name() == "to" && attribute.i() == DataType::Float as i64);
        let mut computes = false;
        for input in &mut node.input {
            if let Some(is_half) = self.real.get(input.as_str()) {
                computes = true;
                if *is_half != half {
                    *input = self.cast(input, half);
                }
            }
        }
        if to_real {
            // A mask of whole numbers becomes float32; who wants it in half casts it once more.
            self.real.extend(node.output.iter().map(|output| (output.clone(), false)));
        } else if computes {
            self.real.extend(node.output.iter().map(|output| (output.clone(), half)));
        }
        self.nodes.push(node);
    }

    fn cast(&mut self, value: &str, half: bool) -> String {
        if let Some(known) = self.cast.get(&(value.to_owned(), half)) {
            return known.clone();
        }
        let (kind, name) = if half { (DataType::Float16, format!("{value}.half")) } else { (DataType::Float, format!("{value}.float")) };
        self.nodes.push(NodeProto {
            input: vec![value.to_owned()],
            output: vec![name.clone()],
            name: Some(name.clone()),
            op_type: Some("Cast".to_owned()),
            attribute: vec![AttributeProto {
                name: Some("to".to_owned()),
                i: Some(kind as i64),
                r#type: Some(AttributeType::Int.into()),
                ..Default::default()
            }],
            domain: None,
        });
        self.cast.insert((value.to_owned(), half), name.clone());
        name
    }
}

fn half_weight(tensor: &TensorProto) -> TensorProto {
    let numbers = tensor.raw_data().chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    let raw_data = numbers.flat_map(|number| f16::from_f32(number.clamp(-LARGEST, LARGEST)).to_le_bytes()).collect();
    TensorProto { dims: tensor.dims.clone(), data_type: Some(DataType::Float16.into()), name: tensor.name.clone(), raw_data: Some(raw_data) }
}
