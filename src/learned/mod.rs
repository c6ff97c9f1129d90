//! STUB
use crate::domain::*;
#[derive(Clone)]
pub struct ItemItem;
impl ItemItem {
    pub fn score(&self, _h: &[(ItemKey, f32)]) -> Vec<(ItemKey, f32)> { Vec::new() }
    pub fn contributions(&self, _h: &[(ItemKey, f32)], _i: ItemKey) -> Vec<(ItemKey, f32)> { Vec::new() }
    pub fn fold_in_weights(&self, h: &[(ItemKey, f32)]) -> Vec<(ItemKey, f32)> { h.to_vec() }
}
#[derive(Clone)]
pub struct Artefacts;
impl Artefacts {
    pub fn open(_d: &std::path::Path, _c: &str) -> std::io::Result<Self> { Ok(Self) }
    pub fn newest(&self) -> Option<(String, ItemItem)> { None }
    pub fn save(&self, _i: &ItemItem, _at: Timestamp, _r: &serde_json::Value, _k: usize) -> std::io::Result<String> { Ok(String::new()) }
}
